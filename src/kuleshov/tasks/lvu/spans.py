"""Spans of a movie, the tokens inside them, the ids that say where in its span a token lies, and which are masked.

A span of S seconds ends at second e and holds the seconds e - S + 1 … e. Spans end at every second from
(first token's second + S - 1) to the last token's second, and are kept if any token lies inside; if none is
left, one span ends at the last second. Wu and Krahenbuhl, CVPR 2021, and their code.

Ids: 0 none, 1 padding, 2 start, 3 end; times, shots and tracks start at 4.
"""

import numpy as np
from numpy.typing import NDArray

NONE, PADDING, START, END, FIRST = 0, 1, 2, 3, 4
# columns of a token's ids
ID_NAMES = (
    "seconds_from_first",
    "seconds_to_last",
    "seconds_to_center",
    "shots_from_first",
    "shots_to_last",
    "shots_to_center",
    "track",
)

KEEP, MASK, OTHER = 0, 1, 2  # what becomes of a token's feature

Ints = NDArray[np.integer]


def span_ends(seconds: Ints, span: int = 60, step: int = 1) -> Ints:
    """Last seconds (S,) of all spans of a movie, ascending, at least one, `step` seconds apart.

    `seconds` (I,) are those of its tokens, in any order, at least one.
    """
    first, last = int(np.min(seconds)), int(np.max(seconds))
    ends = np.arange(first + span - 1, last + 1, step)
    ordered = np.sort(seconds)
    inside = np.searchsorted(ordered, ends, "right") - np.searchsorted(ordered, ends - span + 1, "left")
    ends = ends[inside > 0]
    return ends if len(ends) else np.array([last])


def tokens_inside(seconds: Ints, end: int, span: int = 60, limit: int | None = None) -> Ints:
    """Numbers of the tokens, whose `seconds` (I,) ascend, in the span that ends at second `end`.

    Its last second comes first; within a second they keep their order. Beyond `limit` the furthest are left out.
    """
    first, last = np.searchsorted(seconds, end - span + 1, "left"), np.searchsorted(seconds, end, "right")
    numbers = np.arange(first, last)
    numbers = numbers[np.argsort(-seconds[first:last], kind="stable")]
    return numbers if limit is None else numbers[:limit]


def time_ids(seconds: Ints, low: int, high: int, table: int) -> Ints:
    """Ids (I, 3) of each token's second: from the span's first token, at `low`, to its last, at `high`, to the center.

    The embedding tables have `table` rows: the center's id is table // 2 + 4, larger ids are cut.
    """
    return _three(seconds, low, high, (high + low) // 2, table)


def shot_ids(shots: Ints, seconds: Ints, center: int, table: int) -> Ints:
    """The same three ids for the shots: (I,) -> (I, 3).

    The center is the shot of the token nearest to second `center`; of several, the last in the given order.
    """
    if not len(shots):
        return np.zeros((0, 3), dtype=np.int64)
    distance = np.abs(np.asarray(seconds) - center)
    middle = int(np.asarray(shots)[np.flatnonzero(distance == distance.min())[-1]])
    return _three(shots, int(np.min(shots)), int(np.max(shots)), middle, table)


def _three(values: Ints, low: int, high: int, center: int, table: int) -> Ints:
    values = np.asarray(values, dtype=np.int64)
    signed = np.maximum(0, values - center + table // 2)
    return np.minimum(np.stack([values - low, high - values, signed], axis=1) + FIRST, table - 1)


def track_ids(tracks: Ints, rng: np.random.Generator | None) -> Ints:
    """An id (I,) for each track of a span, from 4 on: permuted at random, or by first appearance without generator."""
    names, first, inverse = np.unique(tracks, return_index=True, return_inverse=True)
    order = rng.permutation(len(names)) if rng is not None else np.argsort(np.argsort(first))
    return order[inverse.reshape(-1)].astype(np.int64) + FIRST


def jitter_boxes(boxes: NDArray, rng: np.random.Generator, amount: float = 0.2) -> NDArray:
    """Move each side of the boxes (I, 4) by up to `amount` of the box's width or height."""
    size = np.stack([boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]] * 2, axis=1)
    return (boxes + amount * size * rng.uniform(-1, 1, size=boxes.shape)).astype(np.float32)


def with_area(boxes: NDArray) -> NDArray:
    """Append the area as a fifth number: (I, 4) -> (I, 5)."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.concatenate([boxes, area[:, None]], axis=1).astype(np.float32)


def mask_tracks(
    tracks: Ints, rng: np.random.Generator | None, share: float = 0.15, draws: int = 1
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Draw which instances of a span are hidden; nothing is without a generator, a share or tokens.

    Wu and Krahenbuhl, CVPR 2021: each track is chosen with probability 0.15, drawn again until one is chosen; of
    the chosen tracks' tokens 80 % become the mask vector, 10 % another token's feature, 10 % stay. The released
    code replaces twice in pretraining (`draws=2`), the second time over the first: 88 % masked, 1 % unchanged.

    Args:
        tracks: (T,) the track of each token.
        rng: the sample's generator.
        share: probability that a track is chosen.
        draws: how often the replacement is drawn.

    Returns:
        Of each token, (T,): whether its content is to be predicted; KEEP, MASK or OTHER; and the token whose feature
        is taken where that is OTHER, else the token itself.
    """
    count = len(tracks)
    chosen, action, other = np.zeros(count, dtype=bool), np.zeros(count, dtype=np.int64), np.arange(count)
    if rng is None or share == 0 or not count:
        return chosen, action, other
    names, inverse = np.unique(tracks, return_inverse=True)
    while not chosen.any():
        chosen = (rng.random(len(names)) < share)[inverse.reshape(-1)]
    for _ in range(draws):
        lot = rng.random(count)
        masked, swapped = chosen & (lot < 0.8), chosen & (lot >= 0.8) & (lot < 0.9)
        # another token's feature: one that this draw has not masked
        pool = np.flatnonzero(~masked & (action != MASK))
        action[masked] = MASK
        if len(pool):
            action[swapped] = OTHER
            other[swapped] = pool[rng.integers(0, len(pool), size=int(swapped.sum()))]
    return chosen, action, other
