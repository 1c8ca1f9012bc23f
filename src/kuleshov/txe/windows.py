"""Windows of events drawn from many movies: which rows of the feature tensor a step sees."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kuleshov.core.distributed import rank, world_size
from kuleshov.core.errors import KuleshovError
from kuleshov.core.random import numpy_generator

Weighting = Literal["movie", "event"]


@dataclass(frozen=True)
class Movies:
    """Movies as spans of rows: first row and number of events, int64 (movies,) each, and their ids."""

    ids: tuple[str, ...]
    first: np.ndarray
    count: np.ndarray

    def only(self, keep: np.ndarray) -> "Movies":
        """The movies where `keep` (bool) is true."""
        ids = tuple(name for name, kept in zip(self.ids, keep, strict=True) if kept)
        return Movies(ids, self.first[keep], self.count[keep])

    def rows(self) -> np.ndarray:
        """All rows of these movies, int64."""
        if not self.ids:
            return np.zeros(0, dtype=np.int64)
        return np.concatenate([np.arange(f, f + c) for f, c in zip(self.first, self.count, strict=True)])


class Windows:
    """Draws windows of N events, `step` rows apart, and lays out epochs.

    What an epoch holds:

    - weighting `movie`: every movie `per_movie` times, each time a window at a uniform place (the paper's
      1,000 epochs of LVU and 100 of VidSitu are of this kind); long movies count no more than short ones;
    - weighting `event`: (all events) / N windows, their places uniform over all places of all movies, so that
      a movie counts by its length.

    An epoch's draws come from one generator made of (seed, epoch) and are laid out as arrays: window i of an
    epoch is the same whatever the number of ranks, and after a resume.

    Args:
        movies: those with fewer than (N - 1) * step + 1 events are left out and listed in `too_short`.
        events: N.
        step: rows between two events of a window.
        weighting: `movie` or `event`.
        per_movie: windows of a movie in an epoch, with weighting `movie`.
        seed: of the draws.
        view: separates draws for different purposes.

    Raises:
        KuleshovError: no movie is long enough.
    """

    def __init__(
        self,
        movies: Movies,
        events: int,
        step: int = 1,
        weighting: Weighting = "movie",
        per_movie: int = 1,
        seed: int = 0,
        view: int = 0,
    ) -> None:
        if weighting not in ("movie", "event"):
            raise KuleshovError(f"weighting is movie or event, not {weighting!r}")
        span = (events - 1) * step + 1
        fits = movies.count >= span
        self.too_short = [name for name, fit in zip(movies.ids, fits, strict=True) if not fit]
        self.movies = movies.only(fits)
        if not self.movies.ids:
            raise KuleshovError(
                f"none of {len(movies.ids)} movies has the {span} events that a window of {events} takes "
                f"({step} apart): extract longer movies, or at a smaller stride"
            )
        self.events, self.step, self.weighting, self.per_movie = events, step, weighting, per_movie
        self.seed, self.view = seed, view
        self._places = self.movies.count - span + 1
        self._last = self._places.cumsum()

    def __len__(self) -> int:
        if self.weighting == "movie":
            return len(self.movies.ids) * self.per_movie
        return max(1, int(self.movies.count.sum()) // self.events)

    def epoch(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Epoch `number`: first rows (n,) int64, movies (n,) int64, uniform draws (n, 2) float32 for the mask."""
        generator = numpy_generator(self.seed, number, 0, self.view)
        size = len(self)
        if self.weighting == "movie":
            movie = generator.permutation(np.repeat(np.arange(len(self.movies.ids)), self.per_movie))
            place = (generator.random(size) * self._places[movie]).astype(np.int64)
        else:
            flat = generator.integers(self._last[-1], size=size)
            movie = np.searchsorted(self._last, flat, side="right")
            place = flat - (self._last[movie] - self._places[movie])
        first = self.movies.first[movie] + place
        return first, movie, generator.random((size, 2), dtype=np.float32)


class WindowBatches:
    """A loader of index batches: no data, only which rows, in the order of `Windows.epoch`.

    A batch is {rows: int64 (b, N), movie: int64 (b,), mask: float32 (b, 2)}. `batch_size` counts over all ranks;
    each takes its contiguous share, in rank order. A last batch with fewer windows than ranks is left out.
    Lightning calls `set_epoch` through `sampler`.

    Args:
        windows: what to draw from.
        batch_size: windows of a step over all ranks.
        fixed: the same epoch every time (validation).
    """

    def __init__(self, windows: Windows, batch_size: int, fixed: bool = False) -> None:
        if batch_size < world_size():
            raise KuleshovError(f"batch_size={batch_size} is smaller than the number of ranks: raise it")
        self.windows, self.batch_size, self.fixed = windows, batch_size, fixed
        self.epoch, self._given = 0, 0
        self._resume: dict[str, int] = {}

    @property
    def sampler(self) -> "WindowBatches":
        """Itself: Lightning sets the epoch of a loader's sampler."""
        return self

    @property
    def batch_sampler(self) -> None:
        """None: Lightning asks loaders with a sampler for it."""
        return None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass gives."""
        self.epoch = 0 if self.fixed else epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self.windows), self.batch_size)
        return whole + (rest >= world_size())

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        resume, self._resume = self._resume, {}
        begin = resume.get("given", 0) if resume.get("epoch") == self.epoch else 0
        first, movie, mask = self.windows.epoch(self.epoch)
        offsets = np.arange(self.windows.events) * self.windows.step
        for number in range(begin, len(self)):
            whole = np.arange(number * self.batch_size, min((number + 1) * self.batch_size, len(first)))
            share = np.array_split(whole, world_size())[rank()]
            self._given = number + 1
            yield {
                "rows": torch.from_numpy(first[share, None] + offsets),  # (b, N)
                "movie": torch.from_numpy(movie[share]),
                "mask": torch.from_numpy(mask[share]),
            }

    def place(self) -> dict[str, int]:
        """The place within the epoch, for `go_on_from`."""
        return {"epoch": self.epoch, "given": self._given}

    def go_on_from(self, place: dict[str, int]) -> None:
        """Go on from a place: the next pass over the same epoch leaves out what was given."""
        self._resume = dict(place)


def split_movies(movies: Movies, fraction: float, excluded: Sequence[str] = ()) -> tuple[Movies, Movies]:
    """Split off a share of the movies for validation, by a hash of their ids; excluded ids are in neither.

    The split does not depend on the order of the movies, nor on which others there are.
    """
    left_out = set(excluded)
    keep = np.array([name not in left_out for name in movies.ids], dtype=bool)
    held = np.array([_hash(name) < fraction for name in movies.ids], dtype=bool)
    return movies.only(keep & ~held), movies.only(keep & held)


def _hash(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8")).digest()[:6]) / 2**48
