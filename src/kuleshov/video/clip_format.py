"""What kind of clip a backbone was trained on, so that whoever feeds it later reads clips alike."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from kuleshov.core.errors import WeightsError

Framing = Literal["crop", "squash"]


@dataclass(frozen=True)
class ClipFormat:
    """Frames, time grid, size and normalization of a backbone's input.

    Attributes:
        num_frames: T, frames of a clip.
        frame_stride: distance between neighboring frames, in frames at `frame_rate`.
        frame_rate: nominal frames per second at which strides are counted, whatever the file's own rate.
        crop_size: height and width of a clip, in pixels.
        short_side: the frame's short side before the center crop, in pixels.
        mean: per channel (RGB), taken from values in [0, 1].
        std: per channel (RGB), divided by.
        framing: `crop` takes the frame's centered square, `squash` presses the whole frame into one (VidSitu's loader).
    """

    num_frames: int = 16
    frame_stride: int = 4
    frame_rate: float = 30.0
    crop_size: int = 224
    short_side: int = 256
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)
    framing: Framing = "crop"

    def __post_init__(self) -> None:
        for name in ("num_frames", "frame_stride", "frame_rate", "crop_size", "short_side"):
            if getattr(self, name) <= 0:
                raise WeightsError(f"clip format: {name} must be positive, got {getattr(self, name)}")
        if self.framing not in get_args(Framing):
            raise WeightsError(f"clip format: framing is crop or squash, got {self.framing!r}")
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) != 3 or (name == "std" and min(values) <= 0):
                raise WeightsError(f"clip format: {name} needs three numbers, std above 0, got {values}")
            object.__setattr__(self, name, values)

    @property
    def decoded_side(self) -> int:
        """Pixels of the shorter side in which frames are decoded before they are framed."""
        return self.short_side if self.framing == "crop" else self.crop_size

    @property
    def frame_seconds(self) -> float:
        """Seconds between neighboring frames."""
        return self.frame_stride / self.frame_rate

    @property
    def span_seconds(self) -> float:
        """Seconds that a clip covers: num_frames times the distance of neighboring frames."""
        return self.num_frames * self.frame_seconds

    @property
    def last_frame_seconds(self) -> float:
        """Seconds from the first frame to the last."""
        return (self.num_frames - 1) * self.frame_stride / self.frame_rate

    def times(self, start: float, begin: float, end: float) -> np.ndarray:
        """(T,) seconds of the frames of a clip from `start` on; past `end` it begins again at `begin`."""
        times = start + np.arange(self.num_frames) * self.frame_seconds
        if end <= begin:
            return times
        # rounding must not turn a frame at `end` into one at `begin`
        length = end - begin
        return begin + np.where(times - begin < length + 1e-9, times - begin, np.mod(times - begin, length))

    def times_around(self, center: float, begin: float, end: float) -> np.ndarray:
        """(T,) seconds of the frames around `center`, kept in [begin, end].

        16 frames of stride 4 at 30 a second are steps -32, -28, ..., +28 from the center, and the last one stays a
        step before `end`, as VidSitu's loader takes frames range(c - 32, c + 32, 4) of a segment's 300.
        """
        steps = (np.arange(self.num_frames) - self.num_frames // 2) * self.frame_stride
        return np.clip(center + steps / self.frame_rate, begin, max(begin, end - 1.0 / self.frame_rate))

    def normalize(self, clips):
        """Turn a uint8 tensor (B, 3, T, H, W) in 0..255 into the floats that the backbone expects."""
        shape = (1, 3, 1, 1, 1)
        scaled = clips.float() / 255
        return (scaled - scaled.new_tensor(self.mean).view(shape)) / scaled.new_tensor(self.std).view(shape)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ClipFormat":
        """The inverse of `to_dict`.

        Raises:
            WeightsError: a field is missing, unknown or out of range.
        """
        expected = {field.name for field in fields(cls)}
        # written before there were two framings
        values = {"framing": "crop", **values}
        if set(values) != expected:
            wrong = sorted(expected.symmetric_difference(values))
            raise WeightsError(f"clip format with missing or unknown fields {wrong}: export the weights again")
        return cls(**values)
