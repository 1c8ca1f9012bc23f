"""Reading event features: `EventStore`."""

import functools
from pathlib import Path

import torch
from torch import Tensor

from kuleshov.core.errors import StoreError
from kuleshov.features.feature_store import TORCH, FeatureStore


class EventStore(FeatureStore):
    """The event features of many movies, opened once.

    Args:
        folder: what `kuleshov extract` or `kuleshov import-features` has written.
        memory: hold all rows in memory; otherwise they are memory-mapped and read where they are used.
        verify: compare every part with its checksum, once, when opening.
        width: refuse a store of another width; likewise `stride` (seconds) and `backbone_sha256` (of the weights).

    Raises:
        StoreError: not a store, damaged (which part), or not the one asked for.
    """

    kind = "events"

    def __init__(
        self,
        folder: str | Path,
        memory: bool = True,
        verify: bool = True,
        width: int | None = None,
        stride: float | None = None,
        backbone_sha256: str | None = None,
    ) -> None:
        super().__init__(folder, verify)
        asked = {"width": width, "stride": stride, "backbone_sha256": backbone_sha256}
        for what, value in asked.items():
            found = getattr(self, what)
            if value is not None and value != found:
                raise StoreError(
                    f"{self.folder} has {what.removesuffix('_sha256')} {found}, {value} was asked for: "
                    "name another store or extract again"
                )
        self._first: dict[str, int] = {}  # first global row of each part
        total = 0
        for name, part in sorted(self.index.parts.items()):
            self._first[name], total = total, total + part.rows
        self._whole: Tensor | None = None
        if memory:
            rows = [self.columns_of(name)["features"] for name in self._first]
            self._whole = torch.cat(rows) if rows else torch.zeros(0, self.width, dtype=TORCH[self.dtype])
            self._mapped.clear()

    @property
    def window(self) -> float:
        """Length of an event in seconds."""
        return self.index.window

    @property
    def stride(self) -> float:
        """Seconds between the beginnings of two events."""
        return self.index.stride

    @functools.cached_property
    def offsets(self) -> Tensor:
        """First row of each movie and the number of all rows at the end, int64 (movies + 1,)."""
        return torch.tensor([0, *(movie.rows for movie in self.index.movies.values())]).cumsum(0)

    def rows_of(self, movie_id: str) -> range:
        """The global rows of a movie's events."""
        movie = self.place(movie_id)
        first = self._first[movie.part] + movie.row
        return range(first, first + movie.rows)

    def take(self, index: Tensor) -> Tensor:
        """Rows by their global numbers, int64 of any shape (...) -> (..., D) in the dtype on disk."""
        if self._whole is not None:
            return self._whole[index]
        flat = index.reshape(-1)
        out = torch.empty(flat.numel(), self.width, dtype=TORCH[self.dtype])
        for name, first in self._first.items():
            inside = (flat >= first) & (flat < first + self.index.parts[name].rows)
            if bool(inside.any()):
                out[inside] = self.columns_of(name)["features"][flat[inside] - first]
        return out.view(*index.shape, self.width)

    def events(self, movie_id: str) -> Tensor:
        """A movie's event features, float32 (n, D)."""
        rows = self.rows_of(movie_id)
        return self.take(torch.arange(rows.start, rows.stop)).float()

    def times(self, movie_id: str) -> list[float]:
        """The beginnings of a movie's events in seconds."""
        movie = self.place(movie_id)
        return [movie.start + i * self.stride for i in range(movie.rows)]

    def tensor(self) -> tuple[Tensor, Tensor]:
        """All rows (M, D) in the dtype on disk, movie after movie, and the offsets (movies + 1,)."""
        if self._whole is None:
            raise StoreError(f"{self.folder} is memory-mapped: use take(), or open it with memory=True")
        return self._whole, self.offsets

    def segment_rows(self, movie_id: str, n: int = 5, stride_s: float = 2.0) -> list[int]:
        """The global rows of a movie's first n events that are `stride_s` seconds apart.

        Raises:
            StoreError: the stride is no multiple of the store's, or the movie has fewer events.
        """
        step = grid_step(self, stride_s)
        rows = self.rows_of(movie_id)
        if (n - 1) * step >= len(rows):
            raise StoreError(
                f"{self.folder}: movie {movie_id} has {len(rows)} events {self.stride} s apart, "
                f"{n} events {stride_s} s apart need {(n - 1) * step + 1}"
            )
        return [rows.start + i * step for i in range(n)]

    def segment(self, movie_id: str, n: int = 5, stride_s: float = 2.0) -> Tensor:
        """A movie's first n events `stride_s` seconds apart, float32 (n, D)."""
        return self.take(torch.tensor(self.segment_rows(movie_id, n, stride_s))).float()


def grid_step(store: EventStore, stride_s: float) -> int:
    """How many of the store's strides make `stride_s` seconds.

    Raises:
        StoreError: not a whole number of them.
    """
    step = round(stride_s / store.stride)
    if step < 1 or abs(step * store.stride - stride_s) > 1e-6:
        raise StoreError(
            f"{store.folder} has an event every {store.stride} s, {stride_s} s is no multiple of it: "
            "extract at a stride that divides it"
        )
    return step
