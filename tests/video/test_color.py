"""Each color operation against a plain per-pixel version, PIL's or colorsys's."""

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from kuleshov.video import color


@pytest.fixture
def clips():
    return torch.rand(3, 3, 2, 12, 10, generator=torch.Generator().manual_seed(0))


def images(clips):
    """uint8 PIL images of a (3, T, H, W) clip."""
    return [Image.fromarray((f.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)) for f in clips.unbind(1)]


def test_brightness_as_pil(clips):
    factors = torch.tensor([0.3, 1.0, 1.7])
    found = color.adjust_brightness(clips, factors)
    for clip, result, factor in zip(clips, found, factors, strict=True):
        for image, frame in zip(images(clip), result.unbind(1), strict=True):
            expected = np.asarray(ImageEnhance.Brightness(image).enhance(float(factor))) / 255
            np.testing.assert_allclose(frame.permute(1, 2, 0), expected, atol=1.5 * 2 / 255)


def test_saturation_as_pil(clips):
    factors = torch.tensor([0.0, 0.4, 1.6])
    found = color.adjust_saturation(clips, factors)
    for clip, result, factor in zip(clips, found, factors, strict=True):
        for image, frame in zip(images(clip), result.unbind(1), strict=True):
            expected = np.asarray(ImageEnhance.Color(image).enhance(float(factor))) / 255
            np.testing.assert_allclose(frame.permute(1, 2, 0), expected, atol=1.5 * 2 / 255)


def test_contrast_as_pil_on_a_clip_of_one_frame(clips):
    clips, factors = clips[:, :, :1], torch.tensor([0.2, 1.0, 1.8])
    found = color.adjust_contrast(clips, factors)
    for clip, result, factor in zip(clips, found, factors, strict=True):
        expected = np.asarray(ImageEnhance.Contrast(images(clip)[0]).enhance(float(factor))) / 255
        np.testing.assert_allclose(result[:, 0].permute(1, 2, 0), expected, atol=3 / 255)


def test_contrast_uses_one_mean_for_the_clip():
    clip = torch.cat([torch.zeros(1, 3, 1, 4, 4), torch.ones(1, 3, 1, 4, 4)], dim=2)
    found = color.adjust_contrast(clip, torch.tensor([0.5]))
    torch.testing.assert_close(found[0, 0, :, 0, 0], torch.tensor([0.25, 0.75]))


def test_hue_as_colorsys_per_pixel(clips):
    shifts = torch.tensor([-0.2, 0.0, 0.2])
    found = color.adjust_hue(clips, shifts)
    for clip, result, shift in zip(clips, found, shifts, strict=True):
        for pixel, turned in zip(clip.reshape(3, -1).T, result.reshape(3, -1).T, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel.tolist())
            expected = colorsys.hsv_to_rgb((hue + float(shift)) % 1.0, saturation, value)
            np.testing.assert_allclose(turned, expected, atol=2e-5)


def test_hue_of_gray_and_primaries():
    pixels = torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0.5], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]])
    clip = pixels.T.reshape(1, 3, 1, 1, 6)
    turned = color.adjust_hue(clip, torch.tensor([1 / 3])).reshape(3, 6).T
    expected = torch.tensor([[0.0, 0, 0], [0.5, 0.5, 0.5], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1]])
    torch.testing.assert_close(turned, expected, atol=1e-6, rtol=0)


def test_gray_as_pil(clips):
    for clip, result in zip(clips, color.to_gray(clips), strict=True):
        for image, frame in zip(images(clip), result.unbind(1), strict=True):
            np.testing.assert_allclose(frame[0], np.asarray(image.convert("L")) / 255, atol=1.5 / 255)


def test_solarize_as_pil(clips):
    for clip, result in zip(clips, color.solarize(clips), strict=True):
        for image, frame in zip(images(clip), result.unbind(1), strict=True):
            expected = np.asarray(ImageOps.solarize(image, threshold=128)) / 255
            np.testing.assert_allclose(frame.permute(1, 2, 0), expected, atol=1 / 255)


def test_blur_by_its_sum(clips):
    sigmas, taps = torch.tensor([0.1, 0.8, 2.0]), 5
    found = color.gaussian_blur(clips, sigmas, taps)
    for clip, result, sigma in zip(clips, found, sigmas, strict=True):
        weights = np.exp(-0.5 * (np.arange(-2, 3) / float(sigma)) ** 2)
        weights = np.outer(weights, weights) / weights.sum() ** 2
        padded = np.pad(clip.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
        for y, x in [(0, 0), (5, 5), (11, 9), (3, 0)]:
            expected = (padded[:, :, y : y + 5, x : x + 5] * weights).sum(axis=(2, 3))
            np.testing.assert_allclose(result[:, :, y, x], expected, atol=1e-5)


def test_blur_keeps_flat_clips_and_sharpest_sigma_changes_nothing(clips):
    flat = torch.full_like(clips, 0.37)
    torch.testing.assert_close(color.gaussian_blur(flat, torch.tensor([0.1, 1.0, 2.0]), 5), flat)
    torch.testing.assert_close(color.gaussian_blur(clips, torch.full((3,), 0.1), 5), clips)


def test_kernel_sizes():
    assert [color.blur_kernel_size(side) for side in (224, 112, 48, 32)] == [23, 11, 5, 3]
