"""Where in a video to look: pure arithmetic in seconds, no file access.

A clip of T frames at stride s covers (T - 1) * s frame steps of a nominal frame rate: 16 frames at stride 2
cover 30 steps, one second at 30 frames a second.
"""

import numpy as np

from kuleshov.core.errors import KuleshovError


def clip_offsets(num_frames: int, frame_stride: int, fps: float) -> np.ndarray:
    """(T,) seconds of a clip's frames after its first: 0, s/fps, 2 s/fps, ..."""
    if num_frames < 1 or frame_stride < 1 or fps <= 0:
        values = f"num_frames={num_frames}, frame_stride={frame_stride}, fps={fps}"
        raise KuleshovError(f"a clip needs at least one frame, a stride and a frame rate: got {values}")
    return np.arange(num_frames) * (frame_stride / fps)


def clip_times(
    start: float, num_frames: int, frame_stride: int, fps: float, begin: float = 0.0, end: float | None = None
) -> np.ndarray:
    """(T,) seconds of the frames of a clip that starts at `start`; past `end` it begins again at `begin`.

    Args:
        start: seconds of the first frame.
        num_frames: T.
        frame_stride: steps of the nominal rate between frames.
        fps: nominal frames per second.
        begin: first second of the span that may be shown.
        end: its last second; None to run on (the reader then repeats the last frame).
    """
    times = start + clip_offsets(num_frames, frame_stride, fps)
    if end is None or end <= begin:
        return times
    # a frame at `end` itself no longer belongs to the span; rounding must not make it the first one
    length = end - begin
    return begin + np.where(times - begin < length + 1e-9, times - begin, np.mod(times - begin, length))


def draw_interval(generator: np.random.Generator, longest: float, size: int | None = None):
    """Draw CVRL's interval between two clips, density 2 (m - k) / m^2 on [0, m], by its closed inverse.

    Args:
        generator: source of the uniform draws.
        longest: m, the longest possible interval in seconds; m <= 0 gives 0.
        size: number of draws; None for one float.

    Paper: Qian et al., Spatiotemporal Contrastive Video Representation Learning, CVPR 2021, power 1.
    """
    uniform = generator.random(size)
    return max(longest, 0.0) * (1.0 - np.sqrt(1.0 - uniform))


def two_clip_starts(generator: np.random.Generator, duration: float, span: float) -> tuple[float, float]:
    """Draw the starts (seconds) of CVRL's two clips, in random order.

    The earlier start is uniform on [0, m - interval), m = duration - span. In a video shorter than a clip's
    span both starts are uniform over the video and the clip loops.
    """
    longest = duration - span
    if longest <= 0:
        first, second = generator.uniform(0.0, max(duration, 0.0), size=2)
        return float(first), float(second)
    interval = float(draw_interval(generator, longest))
    earlier = float(generator.uniform(0.0, longest - interval))
    pair = (earlier, earlier + interval)
    return pair if generator.random() < 0.5 else pair[::-1]


def shifted_clip_starts(
    generator: np.random.Generator,
    duration: float,
    first_span: float,
    second_span: float,
    shift: tuple[float, float] = (0.5, 10.0),
) -> tuple[float, float]:
    """Draw the starts (seconds) of two clips whose distance is uniform on `shift`, in random order.

    Where the video is too short for the drawn distance, both clips stand at its two ends.

    Reference: amazon-science/self-supervised-maclr, defaults of its temporal shift (0.5 to 10 s).
    """
    if not 0 <= shift[0] <= shift[1]:
        raise KuleshovError(f"the shift between two clips must be 0 <= low <= high, got {shift}")
    lasts = (max(duration - first_span, 0.0), max(duration - second_span, 0.0))
    distance = float(generator.uniform(*shift))
    order = 1.0 if generator.random() < 0.5 else -1.0
    uniform = generator.random()
    # starts a, b = a + order * distance, both inside their own range [0, last]
    low = max(0.0, -order * distance)
    high = min(lasts[0], lasts[1] - order * distance)
    if low > high:
        return (0.0, lasts[1]) if order > 0 else (lasts[0], 0.0)
    first = low + uniform * (high - low)
    return first, first + order * distance


def uniform_start(generator: np.random.Generator, duration: float, span: float) -> float:
    """Draw a clip's start (seconds) uniformly among those at which it fits; 0 where it never does."""
    return float(generator.uniform(0.0, max(duration - span, 0.0)))


def centered_start(duration: float, span: float) -> float:
    """The start (seconds) of a clip in the middle of a video; 0 where it does not fit."""
    return max((duration - span) / 2, 0.0)


def event_windows(duration: float, window: float = 2.0, stride: float = 2.0) -> np.ndarray:
    """(N, 2) starts and ends (seconds) of the events that fit into a video; at least one.

    N = 1 + floor((duration - window) / stride); a video shorter than a window is one event.
    """
    if window <= 0 or stride <= 0:
        raise KuleshovError(f"event window and stride must be positive, got {window} and {stride}")
    # half a millisecond forgives containers that round their duration down
    count = max(1, 1 + int(np.floor((duration - window) / stride + 5e-4)))
    starts = np.arange(count) * stride
    return np.stack([starts, starts + window], axis=1)


def event_centers(duration: float = 10.0, events: int = 5) -> np.ndarray:
    """(N,) seconds of the centers of equal events: 1, 3, 5, 7, 9 for VidSitu's ten seconds."""
    return (np.arange(events) + 0.5) * (duration / events)


def centered_clip_times(
    center: float, num_frames: int, frame_stride: int, fps: float, begin: float, end: float
) -> np.ndarray:
    """(T,) seconds of the frames from center - T/2 * stride to center + (T/2 - 1) * stride, kept in the span.

    Args:
        center: seconds of the event's center.
        num_frames: T.
        frame_stride: steps of the nominal rate between frames.
        fps: nominal frames per second: 16 x 4 at 30 reads steps -32, -28, ..., +28 around the center.
        begin: first second of the span.
        end: last second of the span; frames stay one step before it.

    Reference: VidSitu's loader, which takes frames range(c - 32, c + 32, stride) of a 300-frame segment.
    """
    steps = (np.arange(num_frames) - num_frames // 2) * frame_stride
    return np.clip(center + steps / fps, begin, max(begin, end - 1.0 / fps))
