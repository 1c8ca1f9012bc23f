"""The instance store: detected boxes on their tracks, each with its region feature.

A folder like an event store's: `part-00000.safetensors …`, `index.json` (movie -> part, first row, count)
and `manifest.json`. A part holds the rows of whole movies one after another:

    features (R, F)   region features, fp32 or fp16
    boxes    (R, 4)   float32 x1, y1, x2, y2 as shares of the frame's width and height
    seconds  (R,)     int32, the second of the movie the box was seen in
    tracks   (R,)     int32, equal numbers are one track within a movie
    shots    (R,)     int32, the shot the second belongs to; 0 where shots are not known
    scores   (R,)     float32, the detector's confidence; 1 where it is not known
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from kuleshov.core.errors import StoreError
from kuleshov.core.files import read_json, sha256_file, write_json, write_through

FORMAT = 1
PART_BYTES = 256_000_000
COLUMNS = {"boxes": np.float32, "seconds": np.int32, "tracks": np.int32, "shots": np.int32, "scores": np.float32}


@dataclass(frozen=True)
class Instances:
    """All instances of one movie, by second, then in the source's order.

    Attributes:
        features: (I, F) region features.
        boxes: (I, 4) float32 x1, y1, x2, y2 in 0..1.
        seconds: (I,) int32, ascending.
        tracks: (I,) int32.
        shots: (I,) int32.
        scores: (I,) float32.
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
        "boxes": boxes,
        "seconds": seconds,
        "tracks": tracks,
        "shots": np.zeros(count) if shots is None else shots,
        "scores": np.ones(count) if scores is None else scores,
    }
    lengths = {name: len(column) for name, column in {"features": features, **columns}.items()}
    if set(lengths.values()) != {count}:
        raise StoreError(f"a movie's instance arrays differ in length: {lengths}")
    order = np.argsort(np.asarray(seconds), kind="stable")
    plain = {name: np.asarray(columns[name], dtype)[order] for name, dtype in COLUMNS.items()}
    features = np.asarray(features)[order]
    if count and not np.isfinite(features).all():
        raise StoreError("a movie's instance features are not all finite numbers")
    if count and not ((plain["boxes"][:, 2:] > plain["boxes"][:, :2]).all()):
        raise StoreError("a movie has a box without area (x2 <= x1 or y2 <= y1)")
    return Instances(features=features, **plain)


class InstanceWriter:
    """Writes an instance store movie by movie; killed at any moment, it goes on after the last whole movie.

    Args:
        folder: the store; `pending/` in it holds what is not packed yet.
        dtype: of the features on disk, `fp32` or `fp16`.
    """

    def __init__(self, folder: str | Path, dtype: str = "fp16") -> None:
        if dtype not in ("fp32", "fp16"):
            raise StoreError(f"instance features are stored as fp32 or fp16, not {dtype!r}")
        self.folder = Path(folder)
        self.pending = self.folder / "pending"
        self.dtype = np.float32 if dtype == "fp32" else np.float16
        if (self.folder / "index.json").exists():
            raise StoreError(f"{self.folder} is a finished instance store: name another folder")
        self.pending.mkdir(parents=True, exist_ok=True)

    def _path(self, movie_id: str) -> Path:
        return self.pending / f"{hashlib.sha256(movie_id.encode()).hexdigest()[:24]}.safetensors"

    def __contains__(self, movie_id: str) -> bool:
        return self._path(movie_id).is_file()

    def add(self, movie_id: str, movie: Instances) -> None:
        """Commit a movie's instances."""
        tensors = {f.name: np.ascontiguousarray(getattr(movie, f.name)) for f in fields(movie)}
        tensors["features"] = tensors["features"].astype(self.dtype)
        write_through(self._path(movie_id), lambda path: save_file(tensors, path, metadata={"id": movie_id}))

    def finish(self, manifest: Mapping[str, Any], part_bytes: int = PART_BYTES) -> None:
        """Pack the movies into parts, write the manifest and, last, the index.

        Raises:
            StoreError: no movie was added.
        """
        named = sorted((_movie_id(path), path) for path in self.pending.glob("*.safetensors"))
        if not named:
            raise StoreError(f"{self.folder}: no movie with instances was added, nothing to write")
        parts: dict[str, Any] = {}
        movies: dict[str, Any] = {}
        group: list[tuple[str, Instances]] = []
        size = 0
        for movie_id, path in [*named, ("", None)]:
            movie = _load(path) if path is not None else None
            if group and (movie is None or size + movie.features.nbytes > part_bytes):
                self._pack(group, parts, movies)
                group, size = [], 0
            if movie is not None:
                group.append((movie_id, movie))
                size += movie.features.nbytes
        write_json(self.folder / "manifest.json", {**manifest, "movies": len(movies)})
        width = int(next(iter(parts.values()))["width"])
        index = {"format": FORMAT, "width": width, "parts": parts, "movies": movies}
        write_json(self.folder / "index.json", index, indent=None)
        shutil.rmtree(self.pending)

    def _pack(self, group: list[tuple[str, Instances]], parts: dict[str, Any], movies: dict[str, Any]) -> None:
        name = f"part-{len(parts):05d}.safetensors"
        widths = {movie.features.shape[1] for _, movie in group}
        widths |= {part["width"] for part in parts.values()}
        if len(widths) != 1:
            raise StoreError(f"{self.folder}: features of different widths {sorted(widths)} do not go into one store")
        joined = {f.name: np.concatenate([getattr(movie, f.name) for _, movie in group]) for f in fields(Instances)}
        write_through(self.folder / name, lambda path: save_file(joined, path))
        row = 0
        for movie_id, movie in group:
            movies[movie_id] = {"part": name, "row": row, "count": len(movie)}
            row += len(movie)
        parts[name] = {"rows": row, "width": widths.pop(), "sha256": sha256_file(self.folder / name)}


class InstanceStore:
    """Reads an instance store; features are read from disk when a movie is asked for.

    Args:
        folder: what `InstanceWriter` has finished.
        verify: compare every part with its checksum, once, when opening.

    Raises:
        StoreError: not a store, unfinished, or damaged (which part).
    """

    def __init__(self, folder: str | Path, verify: bool = True) -> None:
        self.folder = Path(folder)
        path = self.folder / "index.json"
        if not path.is_file():
            state = "an unfinished" if (self.folder / "pending").is_dir() else "no"
            raise StoreError(f"{state} instance store at {self.folder.absolute()}: make it with `kuleshov instances`")
        index = read_json(path)
        if not isinstance(index, dict) or index.get("format") != FORMAT or "parts" not in index:
            raise StoreError(f"{path} is not an instance store's index of format {FORMAT}: write the store again")
        self.width: int = index["width"]
        self._movies: dict[str, dict[str, Any]] = index["movies"]
        for name, part in index["parts"].items():
            self._check(name, part, verify)
        manifest = self.folder / "manifest.json"
        self.manifest: dict[str, Any] = read_json(manifest) if manifest.is_file() else {}

    def _check(self, name: str, part: Mapping[str, Any], verify: bool) -> None:
        path = self.folder / name
        if not path.is_file():
            raise StoreError(f"{self.folder}: the index names {name}, which is not there: write the store again")
        if verify and sha256_file(path) != part["sha256"]:
            raise StoreError(f"{path} differs from the checksum in the index: it is damaged, write the store again")

    def __contains__(self, movie_id: object) -> bool:
        return movie_id in self._movies

    def __len__(self) -> int:
        return len(self._movies)

    def __iter__(self) -> Iterator[str]:
        return iter(self._movies)

    def count(self, movie_id: str) -> int:
        """Number of a movie's instances."""
        return self._movies[movie_id]["count"] if movie_id in self._movies else 0

    def columns(self, movie_id: str) -> dict[str, NDArray]:
        """A movie's boxes, seconds, tracks, shots and scores, without the features."""
        return self._read(movie_id, tuple(COLUMNS))

    def features(self, movie_id: str) -> NDArray:
        """A movie's region features, float32 (I, F)."""
        return self._read(movie_id, ("features",))["features"].astype(np.float32)

    def movie(self, movie_id: str) -> Instances:
        """All of a movie."""
        return Instances(features=self.features(movie_id), **self.columns(movie_id))

    def _read(self, movie_id: str, names: tuple[str, ...]) -> dict[str, NDArray]:
        place = self._movies.get(movie_id)
        if place is None:
            raise StoreError(f"{self.folder} has no movie {movie_id}: convert its boxes first")
        first, last = place["row"], place["row"] + place["count"]
        try:
            with safe_open(self.folder / place["part"], "numpy") as file:
                return {name: file.get_slice(name)[first:last] for name in names}
        except SafetensorError as error:
            raise StoreError(
                f"{self.folder / place['part']} cannot be read ({error}): write the store again"
            ) from error


def _movie_id(path: Path) -> str:
    with safe_open(path, "numpy") as file:
        return file.metadata()["id"]


def _load(path: Path) -> Instances:
    return Instances(**load_file(path))
