"""Where in a video clips begin: random draws and plain arithmetic in seconds, no file access."""

import numpy as np

from kuleshov.core.errors import KuleshovError


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
    generator: np.random.Generator, duration: float, span: float, shift: tuple[float, float] = (0.5, 10.0)
) -> tuple[float, float]:
    """Draw the starts (seconds) of two clips whose distance is uniform on `shift`, in random order.

    Where the video is too short for the drawn distance, the clips are at its two ends.

    Reference: amazon-science/self-supervised-maclr, defaults of its temporal shift (0.5 to 10 s).
    """
    if not 0 <= shift[0] <= shift[1]:
        raise KuleshovError(f"the shift between two clips must be 0 <= low <= high, got {shift}")
    last = max(duration - span, 0.0)
    distance = float(generator.uniform(*shift))
    order = 1.0 if generator.random() < 0.5 else -1.0
    uniform = generator.random()
    # starts a, b = a + order * distance, both in [0, last]
    low, high = max(0.0, -order * distance), min(last, last - order * distance)
    if low > high:
        return (0.0, last) if order > 0 else (last, 0.0)
    first = low + uniform * (high - low)
    return first, first + order * distance


def uniform_start(generator: np.random.Generator, duration: float, span: float) -> float:
    """Draw a clip's start (seconds) uniformly among those at which it fits; 0 where it never does."""
    return float(generator.uniform(0.0, max(duration - span, 0.0)))


def centered_start(duration: float, span: float) -> float:
    """The start (seconds) of a clip in the middle of a video; 0 where it does not fit."""
    return max((duration - span) / 2, 0.0)


def event_centers(duration: float = 10.0, events: int = 5) -> np.ndarray:
    """(N,) seconds of the centers of equal events: 1, 3, 5, 7, 9 for VidSitu's ten seconds."""
    return (np.arange(events) + 0.5) * (duration / events)
