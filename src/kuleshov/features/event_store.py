"""Reading event features: `EventStore`."""

import functools
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kuleshov.core.errors import StoreError
from kuleshov.core.files import sha256_file
from kuleshov.features.event_store_format import BYTES, Index, Movie, read_index, read_manifest
from kuleshov.features.event_store_writer import TORCH

# NumPy has no bfloat16: its bits travel as uint16
NUMPY = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16}
SAFETENSORS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}


class EventStore:
    """The event features of many movies, opened once.

    Args:
        folder: a folder that `kuleshov extract` or `store.npy` has written.
        memory: hold all rows in memory; otherwise they are memory-mapped and read where they are used.
        verify: compare every part with its checksum and look for NaN, once, when opening.
        width: refuse a store of another feature width.
        stride: refuse a store of another stride in seconds.
        backbone_sha256: refuse a store that other backbone weights made.

    Raises:
        StoreError: not a store, damaged (which part), or not the one asked for.
    """

    def __init__(
        self,
        folder: str | Path,
        memory: bool = True,
        verify: bool = True,
        width: int | None = None,
        stride: float | None = None,
        backbone_sha256: str | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.index: Index = read_index(self.folder)
        self.manifest: dict[str, Any] = read_manifest(self.folder)
        self._require(width, stride, backbone_sha256)
        self._parts: dict[str, Tensor] = {}
        self._first: dict[str, int] = {}  # first global row of each part
        total = 0
        for name, part in sorted(self.index.parts.items()):
            path = self.folder / name
            if not path.is_file():
                raise StoreError(f"{self.folder}: the index names {name}, which is not there: extract again")
            rows = map_part(path, part.rows, self.width, self.dtype)
            if verify:
                check_part(path, part.sha256, rows, self._names_in(name))
            self._parts[name], self._first[name] = rows, total
            total += part.rows
        self._total = total
        self._whole: Tensor | None = self._join() if memory else None

    def _join(self) -> Tensor:
        parts = list(self._parts.values())
        whole = torch.cat(parts) if parts else torch.zeros(0, self.width, dtype=TORCH[self.dtype])
        self._parts = {}
        return whole

    def _names_in(self, part: str) -> list[tuple[str, Movie]]:
        return [(name, movie) for name, movie in self.index.movies.items() if movie.part == part]

    def _require(self, width: int | None, stride: float | None, backbone: str | None) -> None:
        asked = {"width": width, "stride": stride, "backbone": backbone}
        found = {"width": self.width, "stride": self.stride, "backbone": self.backbone_sha256}
        for what, value in asked.items():
            if value is not None and value != found[what]:
                raise StoreError(
                    f"{self.folder} has {what} {found[what]}, {value} was asked for: "
                    "name another store or extract again"
                )

    @property
    def width(self) -> int:
        """D, width of an event feature."""
        return self.index.width

    @property
    def window(self) -> float:
        """Length of an event in seconds."""
        return self.index.window

    @property
    def stride(self) -> float:
        """Seconds between the beginnings of two events."""
        return self.index.stride

    @property
    def dtype(self) -> str:
        """Precision on disk: fp32, fp16 or bf16."""
        return self.index.dtype

    @property
    def backbone_sha256(self) -> str | None:
        """sha256 of the backbone weights that made the features, None where unknown (imported features)."""
        return (self.manifest.get("backbone") or {}).get("sha256")

    @functools.cached_property
    def movie_ids(self) -> list[str]:
        """The movies in the order of their rows."""
        return list(self.index.movies)

    @functools.cached_property
    def offsets(self) -> Tensor:
        """First row of each movie and the number of all rows at the end, int64 (movies + 1,)."""
        counts = torch.tensor([0, *(movie.events for movie in self.index.movies.values())])
        return counts.cumsum(0)

    def __contains__(self, movie_id: object) -> bool:
        return movie_id in self.index.movies

    def __len__(self) -> int:
        return len(self.index.movies)

    def __iter__(self) -> Iterator[str]:
        return iter(self.movie_ids)

    def _movie(self, movie_id: str) -> Movie:
        movie = self.index.movies.get(movie_id)
        if movie is None:
            raise StoreError(f"{self.folder} has no movie {movie_id}: extract it first")
        return movie

    def rows_of(self, movie_id: str) -> range:
        """The global rows of a movie's events."""
        movie = self._movie(movie_id)
        first = self._first[movie.part] + movie.row
        return range(first, first + movie.events)

    def take(self, index: Tensor) -> Tensor:
        """Rows by their global numbers, int64 of any shape (...) -> (..., D) in the dtype on disk."""
        if self._whole is not None:
            return self._whole[index]
        flat = index.reshape(-1)
        out = torch.empty(flat.numel(), self.width, dtype=TORCH[self.dtype])
        for name, part in self._parts.items():
            inside = (flat >= self._first[name]) & (flat < self._first[name] + part.shape[0])
            out[inside] = part[flat[inside] - self._first[name]]
        return out.view(*index.shape, self.width)

    def events(self, movie_id: str) -> Tensor:
        """A movie's event features, float32 (n, D)."""
        rows = self.rows_of(movie_id)
        return self.take(torch.arange(rows.start, rows.stop)).float()

    def times(self, movie_id: str) -> list[float]:
        """The beginnings of a movie's events in seconds."""
        movie = self._movie(movie_id)
        return [movie.start + i * self.stride for i in range(movie.events)]

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


def map_part(path: Path, rows: int, width: int, dtype: str) -> Tensor:
    """Map a part's rows (rows, D) into memory, read-only.

    Raises:
        StoreError: the file is truncated or holds something else.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0] if size >= 8 else size
        raw = file.read(length) if length + 8 <= size else b""
    need = rows * width * BYTES[dtype]
    if not raw or size - 8 - length < need:
        raise StoreError(f"{path} is truncated ({size} bytes): extract again")
    header = json.loads(raw).get("features", {})
    if header.get("dtype") != SAFETENSORS[dtype] or header.get("shape") != [rows, width]:
        raise StoreError(
            f"{path} holds {header.get('dtype')} {header.get('shape')}, "
            f"the index says {dtype} {[rows, width]}: extract again"
        )
    start = 8 + length + header["data_offsets"][0]
    # copy-on-write keeps torch from warning about a read-only array; nobody writes
    mapped = np.memmap(path, NUMPY[dtype], mode="c", offset=start, shape=(rows, width))
    return torch.from_numpy(mapped).view(TORCH[dtype])


def check_part(path: Path, sha256: str, rows: Tensor, movies: list[tuple[str, Movie]]) -> None:
    """Compare a part with its checksum, and refuse features that are not finite, naming the movie."""
    if sha256_file(path) != sha256:
        raise StoreError(f"{path} differs from the checksum in the index: it is damaged, extract again")
    finite = rows.isfinite().all(1)
    if not bool(finite.all()):
        bad = int((~finite).nonzero()[0])
        name = next((name for name, m in movies if m.row <= bad < m.row + m.events), "?")
        raise StoreError(f"{path}: features of movie {name} are not finite: extract again")
