"""Which instances are hidden from the Object Transformer: whole tracks, 80 / 10 / 10.

Wu and Krahenbuhl, CVPR 2021: each track is chosen with probability 0.15, drawn again until one is chosen; of
the chosen tracks' tokens 80 % become the mask vector, 10 % another token's feature, 10 % stay. The released
code replaces twice in pretraining (`draws=2`), the second time over the first: 88 % masked, 1 % unchanged.
"""

import numpy as np
from numpy.typing import NDArray

KEEP, MASK, OTHER = 0, 1, 2


def mask_tracks(
    tracks: NDArray[np.integer], rng: np.random.Generator | None, share: float = 0.15, draws: int = 1
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Draw the masking of one span; nothing is masked without a generator, a share or tokens.

    Args:
        tracks: (T,) the track of each token.
        rng: the sample's generator.
        share: probability that a track is chosen.
        draws: how often the replacement is drawn; later draws act on the outcome of earlier ones.

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
