"""Views: drawn once a clip, replayable, and the same batched as one by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kuleshov.core.random import numpy_generator
from kuleshov.video import augmentation as augment
from kuleshov.video import color
from kuleshov.video.augmentation import ClipAugmentation, ViewParameters


def draws(policy, count, height=60, width=80):
    return [augment.draw_view(numpy_generator(0, 0, i), height, width, policy) for i in range(count)]


def test_crop_area_aspect_and_place():
    views = draws(augment.ViewPolicy(32), 4000)
    areas = np.array([view.height * view.width for view in views])
    aspects = np.array([view.width * 80 / (view.height * 60) for view in views])
    assert 0.29 < areas.min() < 0.32 and areas.max() <= 1
    assert 0.47 < aspects.min() and aspects.max() < 2.1
    assert all(view.top + view.height <= 1 + 1e-6 and view.left + view.width <= 1 + 1e-6 for view in views)
    assert abs(np.mean([view.flip for view in views]) - 0.5) < 0.03


def test_a_crop_that_never_fits_is_the_whole_frame():
    policy = augment.ViewPolicy(32, area=(1.0, 1.0), aspect=(5.0, 6.0))
    assert augment.draw_crop(numpy_generator(0, 0, 0), 50, 50, policy) == (0, 0, 50, 50)


@pytest.mark.parametrize("view", [0, 1])
def test_cvrl_probabilities_and_magnitudes(view):
    drawn = draws(augment.cvrl_views(32)[view], 4000)
    share = {name: np.mean([getattr(d, name) for d in drawn]) for name in ("jitter", "gray", "solarize")}
    assert abs(share["jitter"] - 0.8) < 0.03 and abs(share["gray"] - 0.2) < 0.03
    assert abs(share["solarize"] - (0.0, 0.2)[view]) < 0.03
    assert abs(np.mean([d.sigma > 0 for d in drawn]) - (1.0, 0.1)[view]) < 0.03
    assert all(0.2 <= d.brightness <= 1.8 and abs(d.hue) <= 0.2 and d.sigma <= 2 for d in drawn)
    orders = {d.order for d in drawn}
    assert len(orders) == 24


def test_changing_a_probability_leaves_the_other_draws():
    policy = augment.cvrl_views(32)[1]
    for before, after in zip(draws(policy, 50), draws(replace(policy, gray=1.0), 50), strict=True):
        assert replace(before, gray=1.0) == after


def test_parameters_survive_their_vector():
    for view in draws(augment.cvrl_views(32)[0], 20):
        vector = view.vector()
        assert vector.shape == (augment.NUM_PARAMETERS,)
        np.testing.assert_array_equal(ViewParameters.from_vector(vector).vector(), vector)


def test_crop_and_flip_by_slicing():
    frames = np.random.default_rng(0).integers(0, 255, (3, 40, 60, 3), dtype=np.uint8)
    view = replace(augment.center_view(40, 60), top=0.25, left=0.5, height=0.5, width=20 / 60, flip=1.0)
    clip = augment.crop_clip(frames, view, 20)
    expected = frames[:, 10:30, 30:50][:, :, ::-1].transpose(3, 0, 1, 2)
    assert clip.dtype == torch.uint8
    np.testing.assert_array_equal(clip.numpy(), expected)


def test_center_view_is_the_middle_square():
    frames = np.zeros((1, 40, 60, 3), dtype=np.uint8)
    frames[:, :, 10:50] = 255
    assert (augment.crop_clip(frames, augment.center_view(40, 60), 8) == 255).all()
    assert (augment.crop_clip(frames, augment.center_view(40, 60, squash=True), 60)[..., 0] == 0).all()


def plain(clip, view):
    """One clip (3, T, H, W), operation after operation, from the definition of the chain."""
    clip = clip.unsqueeze(0).float() / 255

    def one(value):
        return torch.tensor([value])

    if view.jitter:
        digits = np.base_repr(int(view.order), 4).zfill(4)
        for digit in digits:
            if digit == "0":
                clip = color.adjust_brightness(clip, one(view.brightness))
            elif digit == "1":
                clip = color.adjust_contrast(clip, one(view.contrast))
            elif digit == "2":
                clip = color.adjust_saturation(clip, one(view.saturation))
            else:
                clip = color.adjust_hue(clip, one(view.hue))
    if view.gray:
        clip = color.to_gray(clip)
    if view.sigma:
        clip = color.gaussian_blur(clip, one(view.sigma), color.blur_kernel_size(clip.shape[-1]))
    if view.solarize:
        clip = color.solarize(clip)
    return clip[0]


@pytest.mark.parametrize(("alone", "cache"), [(False, 1_000_000), (True, 1_000_000), (False, 0)])
def test_a_batch_is_augmented_clip_by_clip(alone, cache, monkeypatch):
    monkeypatch.setattr(augment, "CACHE_BYTES", cache)
    clips = torch.randint(0, 256, (24, 3, 2, 16, 16), dtype=torch.uint8)
    views = draws(replace(augment.cvrl_views(16)[1], blur=0.5), 24)
    parameters = torch.from_numpy(np.stack([view.vector() for view in views]))
    augmentation = ClipAugmentation()
    if alone:
        found = torch.cat([augmentation(c[None], p[None]) for c, p in zip(clips, parameters, strict=True)])
    else:
        found = augmentation(clips, parameters)
    expected = [plain(clip, ViewParameters.from_vector(v.numpy())) for clip, v in zip(clips, parameters, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=0)


def test_frames_of_a_clip_are_treated_alike():
    clips = torch.randint(0, 256, (4, 3, 1, 16, 16), dtype=torch.uint8).expand(4, 3, 5, 16, 16)
    parameters = torch.from_numpy(np.stack([v.vector() for v in draws(augment.cvrl_views(16)[0], 4)]))
    found = ClipAugmentation()(clips, parameters)
    torch.testing.assert_close(found, found[:, :, :1].expand_as(found))


def test_normalization():
    clips = torch.full((1, 3, 1, 2, 2), 51, dtype=torch.uint8)
    torch.testing.assert_close(ClipAugmentation()(clips), torch.full((1, 3, 1, 2, 2), 0.2))
    expected = torch.full((1, 3, 1, 2, 2), (0.2 - 0.45) / 0.225)
    torch.testing.assert_close(ClipAugmentation("kinetics")(clips), expected)


def test_floats_in_the_unit_range_are_taken_as_they_are():
    clips = torch.rand(2, 3, 1, 4, 4)
    torch.testing.assert_close(ClipAugmentation()(clips), clips)


def test_the_batch_that_is_given_is_not_changed():
    clips = torch.rand(4, 3, 2, 16, 16)
    before = clips.clone()
    parameters = torch.from_numpy(np.stack([v.vector() for v in draws(augment.cvrl_views(16)[1], 4)]))
    ClipAugmentation("kinetics")(clips, parameters)
    assert torch.equal(clips, before)
