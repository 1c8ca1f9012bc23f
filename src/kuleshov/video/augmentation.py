"""Augmentation of clips in two halves, one draw a clip: what is drawn for a view is a small vector.

In the worker: crop, flip and resize on uint8 frames. On the device, batched: color jitter, gray, blur and
solarize. Both halves read the same vector, so that a view can be stored, sent and replayed.
"""

from dataclasses import astuple, dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from kuleshov.video import color

_ATTEMPTS = 100
# PySlowFast's mean and standard deviation, all channels
_MEAN, _STD = 0.45, 0.225
# from this size of a float32 clip on a CPU augments clips one by one
CACHE_BYTES = 1_000_000


@dataclass(frozen=True)
class ViewPolicy:
    """What may be drawn for a view.

    Attributes:
        size: pixels of the square frames given.
        area: least and greatest share of the frame's area that is cropped.
        aspect: least and greatest width over height of the crop.
        log_aspect: draw the aspect log-uniformly instead of uniformly.
        flip, jitter, gray, blur, solarize: probabilities of a horizontal flip, color jitter, dropping the colors, a
            Gaussian blur, and of inverting the values from 0.5 upwards.
        brightness, contrast, saturation: the jitter's factor is uniform on 1 +- this, not below 0.
        hue: the jitter's shift is uniform on +- this, in turns of the color circle.
        sigma: least and greatest standard deviation of the blur, in pixels.
    """

    size: int
    area: tuple[float, float] = (0.3, 1.0)
    aspect: tuple[float, float] = (0.5, 2.0)
    log_aspect: bool = False
    flip: float = 0.5
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0


def cvrl_views(
    size: int, asymmetric: bool = True, area_low: float = 0.3, color: float = 1.0, blur: float = 1.0
) -> tuple[ViewPolicy, ViewPolicy]:
    """CVRL's two views: asymmetric as in its released code (blur 1 and 0.1, solarize 0 and 0.2), or alike.

    Source: tensorflow/models, official/projects/video_ssl. The symmetric pair blurs both views with
    probability 0.5, as SimCLR does, and solarizes neither.

    Args:
        size: height and width of a view, in pixels.
        asymmetric: as in the released code.
        area_low: least share of the frame's area that a crop takes.
        color: multiplies the released strengths of the color jitter.
        blur: multiplies the released probabilities of blurring.
    """
    jitter = dict.fromkeys(("brightness", "contrast", "saturation"), 0.8 * color)
    common = {"size": size, "area": (area_low, 1.0), "jitter": 0.8, "gray": 0.2, "hue": 0.2 * color, **jitter}
    (first, second), solarize = ((1.0, 0.1), 0.2) if asymmetric else ((0.5, 0.5), 0.0)
    return ViewPolicy(blur=blur * first, **common), ViewPolicy(blur=blur * second, solarize=solarize, **common)


def modist_view(size: int, jitter: float = 0.8, gray: float = 0.2, blur: float = 0.5) -> ViewPolicy:
    """MoDist's visual view: magnitudes of the official code; its probabilities are not known and chosen here."""
    magnitudes = dict.fromkeys(("brightness", "contrast", "saturation"), 0.4)
    return ViewPolicy(size, log_aspect=True, jitter=jitter, gray=gray, blur=blur, **magnitudes)


def crop_view(size: int, area: tuple[float, float] = (0.3, 1.0)) -> ViewPolicy:
    """Crop and flip only: supervised training, linear evaluation, MoDist's motion input."""
    return ViewPolicy(size, area=area)


@dataclass(frozen=True)
class ViewParameters:
    """What was drawn for one view of one sample, the same for all frames of the clip; by default nothing is changed.

    Attributes:
        top, left, height, width: the crop, as shares of the frame's height and width.
        flip, jitter, gray, solarize: 1 where done, else 0.
        order: the jitter's operations (0 brightness, 1 contrast, 2 saturation, 3 hue) as digits of a number in
            base 4, first operation first.
        brightness, contrast, saturation, hue: the jitter's factors and shift.
        sigma: the blur's standard deviation in pixels, 0 for none.
    """

    top: float
    left: float
    height: float
    width: float
    flip: float = 0.0
    jitter: float = 0.0
    order: float = 27.0
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    gray: float = 0.0
    sigma: float = 0.0
    solarize: float = 0.0

    def vector(self) -> np.ndarray:
        """All values as float32 (14,), in the order of the attributes."""
        return np.asarray(astuple(self), dtype=np.float32)

    @classmethod
    def from_vector(cls, vector: np.ndarray) -> "ViewParameters":
        """The parameters that `vector` (14,) holds."""
        return cls(*(float(value) for value in vector))


NUM_PARAMETERS = len(ViewParameters.__dataclass_fields__)


def draw_crop(generator: np.random.Generator, height: int, width: int, policy: ViewPolicy) -> tuple[int, int, int, int]:
    """Draw (top, left, height, width) in pixels; the whole frame when no attempt of 100 fits into it."""
    low, high = policy.aspect
    for _ in range(_ATTEMPTS):
        area = generator.uniform(*policy.area) * height * width
        if policy.log_aspect:
            aspect = float(np.exp(generator.uniform(np.log(low), np.log(high))))
        else:
            aspect = generator.uniform(low, high)
        crop_height, crop_width = round(float(np.sqrt(area / aspect))), round(float(np.sqrt(area * aspect)))
        if 0 < crop_height <= height and 0 < crop_width <= width:
            top = int(generator.integers(0, height - crop_height + 1))
            left = int(generator.integers(0, width - crop_width + 1))
            return top, left, crop_height, crop_width
    return 0, 0, height, width


def draw_view(generator: np.random.Generator, height: int, width: int, policy: ViewPolicy) -> ViewParameters:
    """Draw a view of frames of (height, width) pixels.

    The number of draws outside the crop does not depend on the outcomes, so that changing a probability
    leaves the other draws of the sample as they were.
    """
    chances = (policy.flip, policy.jitter, policy.gray, policy.blur, policy.solarize)
    flip, jitter, gray, blur, solarize = (generator.random(5) < chances).astype(float)
    spans = (policy.brightness, policy.contrast, policy.saturation)
    factors = [generator.uniform(max(0.0, 1 - span), 1 + span) for span in spans]
    shift = generator.uniform(-policy.hue, policy.hue)
    order = float(generator.permutation(4) @ (64, 16, 4, 1))
    sigma = generator.uniform(*policy.sigma)
    top, left, crop_height, crop_width = draw_crop(generator, height, width, policy)
    crop = (top / height, left / width, crop_height / height, crop_width / width)
    return ViewParameters(*crop, flip, jitter, order, *factors, shift, gray, sigma * blur, solarize)


def center_view(height: int, width: int, squash: bool = False) -> ViewParameters:
    """The view without augmentation: the centered square, or (squash) the whole frame, as VidSitu's loader."""
    side = min(height, width)
    crop_height, crop_width = (height, width) if squash else (side, side)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return ViewParameters(top / height, left / width, crop_height / height, crop_width / width)


def crop_clip(frames: np.ndarray, view: ViewParameters, size: int) -> Tensor:
    """Crop, resize and flip a clip.

    Args:
        frames: uint8 or float32 (T, H, W, 3).
        view: whose crop and flip are applied.
        size: pixels of the square frames given.

    Returns:
        The same dtype, (3, T, size, size), contiguous.
    """
    height, width = frames.shape[1:3]
    top, left = round(view.top * height), round(view.left * width)
    bottom, right = top + round(view.height * height), left + round(view.width * width)
    method = cv2.INTER_AREA if min(bottom - top, right - left) > size else cv2.INTER_LINEAR
    result = np.empty((3, len(frames), size, size), dtype=frames.dtype)
    for place, frame in enumerate(frames):
        image = cv2.resize(frame[top:bottom, left:right], (size, size), interpolation=method)
        if view.flip:
            image = cv2.flip(image, 1)
        cv2.split(image, list(result[:, place]))
    return torch.from_numpy(result)


class ClipAugmentation(nn.Module):
    """The half of the augmentation that runs batched on the device.

    Args:
        pixel_normalization: `kinetics` subtracts 0.45 and divides by 0.225 (PySlowFast); `none` leaves [0, 1] (CVRL).
    """

    def __init__(self, pixel_normalization: Literal["none", "kinetics"] = "none") -> None:
        super().__init__()
        self.pixel_normalization = pixel_normalization

    @torch.no_grad()
    def forward(self, clips: Tensor, parameters: Tensor | None = None) -> Tensor:
        """Augment each clip by its own parameters.

        Args:
            clips: (B, 3, T, H, W), uint8, or floating point in [0, 1].
            parameters: (B, 14) float32 vectors of `ViewParameters`; None for no augmentation.

        Returns:
            float32 (B, 3, T, H, W).
        """
        # own memory: what follows works in place
        owned = clips.float().div_(255) if clips.dtype == torch.uint8 else clips.to(torch.float32, copy=True)
        if parameters is not None:
            owned = self._by_parts(owned, parameters.float())
        return owned.sub_(_MEAN).div_(_STD) if self.pixel_normalization == "kinetics" else owned

    def _by_parts(self, clips: Tensor, parameters: Tensor) -> Tensor:
        # operation after operation on what a CPU's cache cannot hold waits for memory at each
        if clips.device.type != "cpu" or not len(clips) or clips[0].nbytes < CACHE_BYTES:
            return self._augment(clips, parameters)
        for clip, own in zip(clips.split(1), parameters.split(1), strict=True):
            clip.copy_(self._augment(clip, own))
        return clips

    def _augment(self, clips: Tensor, parameters: Tensor) -> Tensor:
        view = ViewParameters(*parameters.unbind(dim=1))
        clips = self._jitter(clips, view)
        clips = _where(view.gray > 0, clips, color.to_gray)
        taps = color.blur_kernel_size(min(clips.shape[-2:]))
        clips = _where(view.sigma > 0, clips, color.gaussian_blur, view.sigma, taps)
        clips = _where(view.solarize > 0, clips, color.solarize)
        return clips.clamp_(0, 1)

    def _jitter(self, clips: Tensor, view: ViewParameters) -> Tensor:
        operations = (color.adjust_brightness, color.adjust_contrast, color.adjust_saturation, color.adjust_hue)
        settings, order = (view.brightness, view.contrast, view.saturation, view.hue), view.order.round().long()
        for divisor in (64, 16, 4, 1):
            # which operation each clip has in this place
            turn = order // divisor % 4
            for number, operation in enumerate(operations):
                clips = _where((turn == number) & (view.jitter > 0), clips, operation, settings[number])
        return clips


def _where(mask: Tensor, clips: Tensor, operation, setting: Tensor | None = None, *constants: int) -> Tensor:
    """Apply `operation` in place to the clips that `mask` (B,) names; computes nothing for the others."""
    chosen = mask.nonzero().squeeze(1)
    if len(chosen) == 0:
        return clips
    settings = () if setting is None else (setting[chosen],)
    if len(chosen) == len(clips):
        return operation(clips, *settings, *constants)
    return clips.index_copy_(0, chosen, operation(clips[chosen], *settings, *constants))
