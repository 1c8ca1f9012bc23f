"""How far events lie from those that the networks were trained on."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kuleshov.datasets.vidsitu_format import parse_segment
from kuleshov.features.feature_store import EventStore

REFERENCE, CALIBRATION = 20_000, 2_000
SHARE = 0.99


class Familiarity:
    """Distances of features to the nearest event of a training's store, in units that the store itself gives.

    The unit is the distance to the nearest event of another film that 99 % of the store's own events stay within: above
    1 an event lies outside what was trained on. Distances are between L2-normalized features.

    Args:
        store: the features that a network was trained on; at most 20,000 of them, evenly chosen, are looked at.
    """

    def __init__(self, store: EventStore) -> None:
        rows = torch.arange(0, int(store.offsets[-1]), max(1, int(store.offsets[-1]) // REFERENCE))
        films = {name: number for number, name in enumerate(dict.fromkeys(map(_film, store.movie_ids)))}
        movie = torch.bucketize(rows, store.offsets[1:], right=True)
        self.films = torch.tensor([films[_film(name)] for name in store.movie_ids])[movie]
        self.known = F.normalize(store.take(rows).float(), dim=-1)
        own = torch.arange(0, len(rows), max(1, len(rows) // CALIBRATION))
        apart = self._nearest(self.known[own], self.films[own])
        self.unit = float(apart[apart.isfinite()].quantile(SHARE)) if apart.isfinite().any() else torch.nan

    def __call__(self, events: Tensor) -> list[float | None]:
        """The distance of each event (N, D), in units; None where a store of one film has no unit."""
        far = self._nearest(F.normalize(events.float().cpu(), dim=-1)) / self.unit
        return [distance if math.isfinite(distance) else None for distance in far.tolist()]

    def _nearest(self, unit: Tensor, films: Tensor | None = None) -> Tensor:
        """Distances (N,) of normalized features (N, D) to the nearest known one, of another film than `films` (N,)."""
        found = []
        for first in range(0, len(unit), 1024):
            cosine = unit[first : first + 1024] @ self.known.T
            if films is not None:
                cosine[films[first : first + 1024, None] == self.films] = -torch.inf
            found.append((2 - 2 * cosine.amax(1)).clamp(min=0).sqrt())
        return torch.cat(found)


def _film(movie_id: str) -> str:
    """The film that a movie of a store is cut from: segments of one source are neighbors."""
    try:
        return parse_segment(movie_id).source
    except ValueError:
        return movie_id
