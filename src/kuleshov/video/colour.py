"""Colour operations on batches of clips, one setting a clip, the same for all its frames.

Clips are floating point (B, 3, T, H, W) in [0, 1]; settings are (B,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R 601 luma, as PIL and TensorFlow turn colour to grey
_LUMA = (0.299, 0.587, 0.114)


def _per_clip(setting: Tensor) -> Tensor:
    # (B,) -> (B, 1, 1, 1, 1)
    return setting.reshape(-1, 1, 1, 1, 1)


def luma(clips: Tensor) -> Tensor:
    """(B, 1, T, H, W) brightness of (B, 3, T, H, W), ITU-R 601."""
    red, green, blue = clips.unbind(dim=1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue).unsqueeze(1)


def adjust_brightness(clips: Tensor, factor: Tensor) -> Tensor:
    """Multiply each clip by its factor (B,), clipped to [0, 1]."""
    return (clips * _per_clip(factor)).clamp(0, 1)


def adjust_contrast(clips: Tensor, factor: Tensor) -> Tensor:
    """Blend each clip with its mean luma by its factor (B,): 0 is flat grey, 1 leaves it; clipped to [0, 1].

    The mean is that of the whole clip, so that a clip's frames change alike.
    """
    mean = luma(clips).mean(dim=(1, 2, 3, 4), keepdim=True)
    return torch.lerp(mean.expand_as(clips), clips, _per_clip(factor)).clamp(0, 1)


def adjust_saturation(clips: Tensor, factor: Tensor) -> Tensor:
    """Blend each pixel with its luma by the clip's factor (B,): 0 is grey, 1 leaves it; clipped to [0, 1]."""
    return torch.lerp(luma(clips).expand_as(clips), clips, _per_clip(factor)).clamp(0, 1)


def adjust_hue(clips: Tensor, shift: Tensor) -> Tensor:
    """Turn each pixel's hue by the clip's shift (B,), in turns of the circle (-0.5 to 0.5), in HSV space.

    HSV -> RGB by sextants: for n = 5, 3, 1 a channel is V - V S clip(min(k, 4 - k), 0, 1), k = (n + 6 h) mod 6.
    """
    red, green, blue = clips.unbind(dim=1)
    value, minimum = clips.amax(dim=1), clips.amin(dim=1)
    chroma = value - minimum
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue = hue + 6 * shift.reshape(-1, 1, 1, 1)
    place = (torch.tensor([5.0, 3.0, 1.0], dtype=clips.dtype, device=clips.device)).reshape(1, 3, 1, 1, 1)
    # (B, 1, T, H, W) + (1, 3, 1, 1, 1) -> (B, 3, T, H, W)
    sextant = torch.remainder(hue.unsqueeze(1) + place, 6)
    share = torch.minimum(sextant, 4 - sextant).clamp(0, 1)
    return (value.unsqueeze(1) - chroma.unsqueeze(1) * share).clamp(0, 1)


def to_grey(clips: Tensor) -> Tensor:
    """Each pixel's luma in all three channels."""
    return luma(clips).expand_as(clips)


def solarise(clips: Tensor, threshold: float = 0.5) -> Tensor:
    """Invert the values that reach `threshold`."""
    return torch.where(clips < threshold, clips, 1 - clips)


def blur_kernel_size(side: int) -> int:
    """Taps of the blur for frames of this side: a tenth of it, made odd upwards; 23 for 224 pixels."""
    return max(3, 2 * (side // 10 // 2) + 1)


def gaussian_blur(clips: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blur each clip's frames by a Gaussian of its own sigma (B,) pixels, rows then columns, borders mirrored.

    Args:
        clips: (B, 3, T, H, W).
        sigma: (B,), positive.
        kernel_size: odd number of taps.
    """
    batch, channels, frames, height, width = clips.shape
    radius = min(kernel_size // 2, height - 1, width - 1)
    taps = torch.arange(-radius, radius + 1, device=clips.device, dtype=clips.dtype)
    kernel = torch.exp(-0.5 * (taps / sigma.to(clips.dtype).unsqueeze(1)) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    # (B, 3, T, H, W) -> (3 T, B, H, W): a group of the convolution a clip
    rows = clips.permute(1, 2, 0, 3, 4).reshape(channels * frames, batch, height, width)
    rows = F.pad(rows, (radius, radius, radius, radius), mode="reflect")
    rows = F.conv2d(rows, kernel.reshape(batch, 1, 1, -1), groups=batch)
    rows = F.conv2d(rows, kernel.reshape(batch, 1, -1, 1), groups=batch)
    return rows.reshape(channels, frames, batch, height, width).permute(2, 0, 1, 3, 4)
