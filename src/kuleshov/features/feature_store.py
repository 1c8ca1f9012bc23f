"""Reading features: `EventStore` of movies' events, `InstanceStore` of the boxes that were tracked in them."""

import difflib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from kuleshov.backbones.backbone_spec import origin_of
from kuleshov.core.errors import StoreError, UsageError, require_positive
from kuleshov.core.files import sha256_file
from kuleshov.core.weights import SAFETENSORS_ERRORS
from kuleshov.features.store_index import COLUMNS, StoredMovie, read_index, read_manifest

if TYPE_CHECKING:
    import pandas

TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class FeatureStore:
    """Named columns of the rows of many movies, opened once; parts are memory-mapped where they are used.

    Args:
        folder: a folder that `StoreWriter` has finished.
        verify: compare every part with its checksum, once, when opening.

    Raises:
        StoreError: not a store, one of another kind, or damaged (which part).
    """

    kind = ""

    def __init__(self, folder: str | Path, verify: bool = True) -> None:
        self.folder = Path(folder)
        self.index = read_index(self.folder, self.kind)
        self.manifest: dict[str, Any] = read_manifest(self.folder)
        self.width, self.dtype = self.index.width, self.index.dtype
        self.movie_ids = list(self.index.movies)  # in the order of their rows
        self._mapped: dict[str, dict[str, Tensor]] = {}
        for name, part in self.index.parts.items():
            path = self.folder / name
            if not path.is_file():
                raise StoreError(f"{self.folder}: the index names {name}, which is not there: extract again")
            if verify and sha256_file(path) != part.sha256:
                raise StoreError(f"{path} differs from the checksum in the index: it is damaged, extract again")

    def __getstate__(self) -> dict[str, Any]:
        # a process that gets a copy maps the parts itself
        return {**self.__dict__, "_mapped": {}}

    @property
    def backbone_sha256(self) -> str | None:
        """sha256 of the backbone weights that made the features, None where unknown (imported features)."""
        return (self.manifest.get("backbone") or {}).get("sha256")

    @property
    def origin(self) -> str:
        """The backbone that made the features, and what it has been through."""
        return origin_of(self.manifest.get("backbone") or {})

    def __repr__(self) -> str:
        rows = sum(part.rows for part in self.index.parts.values())
        return f"<{rows} {self.kind} of {len(self)} movies in {self.folder}: width {self.width}, {self.dtype}>"

    def __contains__(self, movie_id: object) -> bool:
        return isinstance(movie_id, str) and movie_id in self.index.movies

    def __len__(self) -> int:
        return len(self.movie_ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.movie_ids)

    def place(self, movie_id: str) -> StoredMovie:
        """Where a movie's rows are.

        Raises:
            StoreError: the store has no such movie.
        """
        if not isinstance(movie_id, str):
            raise StoreError(f"{self.folder}: a movie is asked for by its name, not by {movie_id!r}")
        movie = self.index.movies.get(movie_id)
        if movie is None:
            close = difflib.get_close_matches(str(movie_id), self.movie_ids, n=1)
            meant = f"did you mean {close[0]}?" if close else "extract it first"
            raise StoreError(f"{self.folder} has no movie {movie_id!r} among its {len(self)}: {meant}")
        return movie

    def columns_of(self, part: str) -> dict[str, Tensor]:
        """A part's columns, each (rows, ...), mapped into memory.

        Raises:
            StoreError: the file is truncated or holds something else than the index says.
        """
        if part not in self._mapped:
            path, rows = self.folder / part, self.index.parts[part].rows
            try:
                with safe_open(path, "pt") as file:  # maps the file, reads only what is used
                    found = {name: file.get_tensor(name) for name in file.keys()}
            except SAFETENSORS_ERRORS as error:
                raise StoreError(f"{path} is damaged ({error}): extract again") from error
            features = found.get("features", torch.empty(0))
            shapes = {name: tuple(column.shape) for name, column in found.items() if name != "features"}
            expected = {name: (rows, 4) if name == "boxes" else (rows,) for name in COLUMNS[self.kind]}
            whole = "features" in found and shapes == expected
            if not whole or features.dtype != TORCH[self.dtype] or features.shape != (rows, self.width):
                raise StoreError(
                    f"{path} holds features {features.dtype} {tuple(features.shape)}, "
                    f"the index says {self.dtype} {(rows, self.width)}: extract again"
                )
            self._mapped[part] = found
        return self._mapped[part]


class EventStore(FeatureStore):
    """The event features of many movies, opened once: `store[movie_id]` are a movie's, float32 (n, D).

    `len(store)` is the number of movies, `for movie_id in store` goes through their ids.

    Args:
        folder: what `kuleshov extract`, `contextualize` or `import-features` has written.
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
        self.window, self.stride = self.index.window, self.index.stride
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

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {self.window:g} s every {self.stride:g} s>"

    def __getitem__(self, movie_id: str) -> Tensor:
        return self.events(movie_id)

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
        """Rows by their global numbers, int64 of any shape (...) -> (..., D) in the dtype on disk.

        Raises:
            StoreError: there is no row of a number.
        """
        index, last = torch.as_tensor(index, dtype=torch.long), int(self.offsets[-1]) - 1
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) <= last:
            raise StoreError(f"{self.folder} has rows 0 to {last}, not {int(index.min())} to {int(index.max())}")
        if self._whole is not None:
            return self._whole[index]
        flat = index.reshape(-1)
        out = torch.empty(flat.numel(), self.width, dtype=TORCH[self.dtype])
        for name, first in self._first.items():
            inside = (flat >= first) & (flat < first + self.index.parts[name].rows)
            if bool(inside.any()):
                out[inside] = self.columns_of(name)["features"][flat[inside] - first]
        return out.view(*index.shape, self.width)

    def chunks(self, most: int) -> Iterator[tuple[int, Tensor]]:
        """All rows in order, at most `most` at a time and not copied: the first one's number, (n, D) as on disk."""
        for name, first in self._first.items():
            whole, end = self._whole, first + self.index.parts[name].rows
            part = self.columns_of(name)["features"] if whole is None else whole[first:end]
            for place, rows in enumerate(part.split(most)):
                yield first + place * most, rows

    def events(self, movie_id: str) -> Tensor:
        """A movie's event features, float32 (n, D)."""
        rows = self.rows_of(movie_id)
        return self.take(torch.arange(rows.start, rows.stop)).float()

    def times(self, movie_id: str) -> list[float]:
        """The beginnings of a movie's events in seconds."""
        movie = self.place(movie_id)
        return [movie.start + i * self.stride for i in range(movie.rows)]

    def to_torch(self) -> tuple[Tensor, Tensor]:
        """All rows (M, D) in the dtype on disk, movie after movie, and the offsets (movies + 1,)."""
        if self._whole is None:
            raise StoreError(f"{self.folder} is memory-mapped: use take(), or open it with memory=True")
        return self._whole, self.offsets

    def to_pandas(self) -> "pandas.DataFrame":
        """All rows as a float32 DataFrame (M, D), indexed by movie and by the event's first second.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UsageError("pandas is not installed: pip install pandas") from error
        keys = [(name, second) for name in self for second in self.times(name)]
        index = pandas.MultiIndex.from_tuples(keys, names=["movie", "start"])
        return pandas.DataFrame(self.take(torch.arange(len(keys))).float().numpy(), index=index)

    def segment_rows(self, movie_id: str, n: int = 5, stride_s: float = 2.0) -> list[int]:
        """The global rows of a movie's first n events that are `stride_s` seconds apart.

        Raises:
            StoreError: the stride is no multiple of the store's, or the movie has fewer events.
            UsageError: no number of events.
        """
        require_positive(n=n)
        step = grid_step(self, stride_s)
        rows = self.rows_of(movie_id)
        if (n - 1) * step >= len(rows):
            raise StoreError(
                f"{self.folder}: movie {movie_id} has {len(rows)} events {self.stride} s apart, "
                f"{n} events {stride_s} s apart need {(n - 1) * step + 1}"
            )
        return list(rows[: (n - 1) * step + 1 : step])

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


@dataclass(frozen=True)
class Instances:
    """All instances of one movie, by second, then in the source's order.

    Attributes:
        features: (I, F) region features.
        boxes: (I, 4) float32 x1, y1, x2, y2 as shares of the frame's width and height.
        seconds: (I,) int32, ascending: the second of the movie that the box was seen in.
        tracks: (I,) int32, equal numbers are one track within a movie.
        shots: (I,) int32, the shot of the second; 0 where shots are not known.
        scores: (I,) float32, the detector's confidence; 1 where it is not known.
    """

    features: NDArray
    boxes: NDArray
    seconds: NDArray
    tracks: NDArray
    shots: NDArray
    scores: NDArray

    def __len__(self) -> int:
        return len(self.seconds)


def instances(
    features: NDArray,
    boxes: NDArray,
    seconds: NDArray,
    tracks: NDArray,
    shots: NDArray | None = None,
    scores: NDArray | None = None,
) -> Instances:
    """Make a movie's instances from arrays in any order of seconds (the order within a second is kept).

    Raises:
        StoreError: arrays of different lengths, a box without area, or a feature that is not finite.
    """
    count = len(seconds)
    columns = {
        "features": np.asarray(features),
        "boxes": np.asarray(boxes, np.float32),
        "seconds": np.asarray(seconds, np.int32),
        "tracks": np.asarray(tracks, np.int32),
        "shots": np.zeros(count, np.int32) if shots is None else np.asarray(shots, np.int32),
        "scores": np.ones(count, np.float32) if scores is None else np.asarray(scores, np.float32),
    }
    lengths = {name: len(column) for name, column in columns.items()}
    if set(lengths.values()) != {count}:
        raise StoreError(f"a movie's instance arrays differ in length: {lengths}")
    order = np.argsort(columns["seconds"], kind="stable")
    found = Instances(**{name: column[order] for name, column in columns.items()})
    if not np.isfinite(found.features).all():
        raise StoreError("a movie's instance features are not all finite numbers")
    if not (found.boxes[:, 2:] > found.boxes[:, :2]).all():
        raise StoreError("a movie has a box without area (x2 <= x1 or y2 <= y1)")
    return found


class InstanceStore(FeatureStore):
    """The instances of many movies, memory-mapped: a movie is read from disk when it is asked for."""

    kind = "instances"

    def _column(self, movie_id: str, name: str) -> Tensor:
        movie = self.place(movie_id)
        return self.columns_of(movie.part)[name][movie.row : movie.row + movie.rows]

    def count(self, movie_id: str) -> int:
        """Number of a movie's instances, 0 for a movie that the store does not have."""
        return self.index.movies[movie_id].rows if movie_id in self else 0

    def columns(self, movie_id: str) -> dict[str, NDArray]:
        """A movie's boxes, seconds, tracks, shots and scores, without the features."""
        return {name: self._column(movie_id, name).numpy().copy() for name in COLUMNS[self.kind]}

    def features(self, movie_id: str) -> NDArray:
        """A movie's region features, float32 (I, F)."""
        return self._column(movie_id, "features").float().numpy()

    def movie(self, movie_id: str) -> Instances:
        """All of a movie."""
        return Instances(features=self.features(movie_id), **self.columns(movie_id))
