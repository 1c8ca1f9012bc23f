"""Color operations on batches of clips, one setting a clip, the same for all its frames.

Clips are floating point (B, 3, T, H, W) in [0, 1]; settings are (B,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-R 601 luma, as PIL and TensorFlow turn color to gray
_LUMA = (0.299, 0.587, 0.114)


def _per_clip(setting: Tensor) -> Tensor:
    # (B,) -> (B, 1, 1, 1, 1)
    return setting.reshape(-1, 1, 1, 1, 1)


def luma(clips: Tensor) -> Tensor:
    """(B, 1, T, H, W) brightness of (B, 3, T, H, W), ITU-R 601."""
    red, green, blue = clips.unbind(dim=1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).unsqueeze(1)


def adjust_brightness(clips: Tensor, factor: Tensor) -> Tensor:
    """Multiply each clip by its factor (B,), clipped to [0, 1]."""
    return (clips * _per_clip(factor)).clamp_(0, 1)


def adjust_contrast(clips: Tensor, factor: Tensor) -> Tensor:
    """Blend each clip with its mean luma by its factor (B,): 0 is flat gray, 1 leaves it; clipped to [0, 1].

    The mean is that of the whole clip, so that a clip's frames change alike.
    """
    return _blend(clips, luma(clips).mean(dim=(1, 2, 3, 4), keepdim=True), factor)


def adjust_saturation(clips: Tensor, factor: Tensor) -> Tensor:
    """Blend each pixel with its luma by the clip's factor (B,): 0 is gray, 1 leaves it; clipped to [0, 1]."""
    return _blend(clips, luma(clips), factor)


def _blend(clips: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """share * clips + (1 - share) * other, clipped to [0, 1]."""
    share = _per_clip(share)
    return (clips * share).add_(other * (1 - share)).clamp_(0, 1)


def adjust_hue(clips: Tensor, shift: Tensor) -> Tensor:
    """Turn each pixel's hue by the clip's shift (B,), in turns of the circle (-0.5 to 0.5), in HSV space.

    HSV -> RGB by sextants: for n = 5, 3, 1 a channel is V - V S clip(min(k, 4 - k), 0, 1), k = (n + 6 h) mod 6.
    """
    red, green, blue = clips.unbind(dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    # hue in sixths of the circle; gray pixels have chroma 0 and any hue
    below = torch.where(value == green, (blue - red).add_(chroma, alpha=2), (red - green).add_(chroma, alpha=4))
    hue = torch.where(value == red, green - blue, below)
    hue.div_(chroma.clamp_min(1e-12)).add_(6 * shift.reshape(-1, 1, 1, 1))
    turned = torch.empty_like(clips)
    for channel, place in enumerate((5, 3, 1)):
        sextant = hue + place
        sextant.sub_((sextant / 6).floor_(), alpha=6)
        share = torch.minimum(sextant, 4 - sextant).clamp_(0, 1)
        torch.addcmul(value, chroma, share, value=-1, out=turned[:, channel])
    return turned.clamp_(0, 1)


def to_gray(clips: Tensor) -> Tensor:
    """Each pixel's luma in all three channels."""
    return luma(clips).repeat(1, 3, 1, 1, 1)


def solarize(clips: Tensor, threshold: float = 0.5) -> Tensor:
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
    height, width = clips.shape[-2:]
    radius = min(kernel_size // 2, height - 1, width - 1)
    taps = torch.arange(-radius, radius + 1, device=clips.device, dtype=clips.dtype)
    kernel = torch.exp(-0.5 * (taps / sigma.to(clips.dtype).unsqueeze(1)) ** 2)
    # (B, taps) -> (taps, B, 1, 1, 1, 1)
    weights = (kernel / kernel.sum(dim=1, keepdim=True)).T.reshape(-1, len(clips), 1, 1, 1, 1)
    padded = F.pad(clips.flatten(1, 2), (radius, radius, radius, radius), mode="reflect")
    padded = padded.unflatten(1, clips.shape[1:3])
    # sums of shifted copies: on a CPU half the time of a convolution with a group a clip
    rows = torch.zeros_like(padded[..., :width])
    for shift, weight in enumerate(weights):
        rows.addcmul_(padded[..., shift : shift + width], weight)
    blurred = torch.zeros_like(clips)
    for shift, weight in enumerate(weights):
        blurred.addcmul_(rows[..., shift : shift + height, :], weight)
    return blurred
