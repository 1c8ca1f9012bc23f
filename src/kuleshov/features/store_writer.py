"""Writing features movie by movie, so that a kill at any moment costs one movie."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kuleshov.core.errors import StoreError
from kuleshov.core.files import code_version, read_json, sha256_file, write_atomic, write_json
from kuleshov.features.feature_store import TORCH
from kuleshov.features.store_index import (
    BYTES,
    COLUMNS,
    FORMAT,
    INDEX,
    MANIFEST,
    PENDING,
    Dtype,
    Index,
    Part,
    StoredMovie,
    read_index,
    read_manifest,
    write_index,
)

PART_BYTES = 256_000_000
Column = Tensor | ArrayLike


class StoreWriter:
    """Writes a store: `add` commits a movie by an atomic rename, `finish` packs all movies into parts.

    One process owns the store while it is written; further processes of the same work may add to it with
    `lock=False`, each its own movies, before the owner finishes it. The finished store does not depend on how many
    they were, nor on interruptions: movies are packed in the order of their ids. A finished store can be opened
    again to add movies.

    Args:
        folder: the store; made where it is not there.
        width: D.
        window: seconds of an event; None for instances.
        stride: seconds between the beginnings of two events; None for instances.
        dtype: precision of the features on disk.
        settings: what else must be the same whenever movies are added (backbone, clip, trim).
        part_bytes: most bytes of features in a part.
        kind: events or instances.
        lock: own the store, until `close` or `finish`.

    Raises:
        StoreError: the folder holds a store with other settings (the first that differs), or foreign files, or
            another process is writing it.
    """

    def __init__(
        self,
        folder: str | Path,
        width: int,
        window: float | None = None,
        stride: float | None = None,
        dtype: Dtype = "fp16",
        settings: dict[str, Any] | None = None,
        part_bytes: int = PART_BYTES,
        kind: str = "events",
        lock: bool = True,
    ) -> None:
        self.folder, self.pending = Path(folder), Path(folder) / PENDING
        self.dtype, self.part_bytes = dtype, part_bytes
        grid = [None if value is None else float(value) for value in (window, stride)]
        self._index = Index(kind, width, dtype, *grid)
        named = {name: getattr(self._index, name) for name in ("kind", "width", "dtype", "window", "stride")}
        # as they come back from the manifest
        self.settings = json.loads(json.dumps({"format": FORMAT, **named, **(settings or {})}))
        self._asked: set[str] = set()
        self._lock: FileLock | None = None
        known = (self.folder / MANIFEST).is_file()
        if not known and any(path.name != PENDING for path in self.folder.glob("[!.]*")):
            raise StoreError(f"{self.folder} has files that are no store of features: name an empty folder")
        self.pending.mkdir(parents=True, exist_ok=True)
        if lock:
            self._acquire()
        try:
            self._open(known)
        except BaseException:
            self.close()
            raise

    def _acquire(self) -> None:
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreError(f"{self.folder} is being written by another process: wait until it is done") from error

    def _open(self, known: bool) -> None:
        if not known:
            write_json(self.folder / MANIFEST, {**self.settings, "complete": False})
        found = read_manifest(self.folder)
        for key, value in self.settings.items():
            if found.get(key) != value:
                raise StoreError(
                    f"{self.folder} was written with {key}={found.get(key)}, now it is {value}: name another folder"
                )
        # packing keeps its own index until it is done; it supersedes the finished one
        for folder in (self.pending, self.folder):
            if (folder / INDEX).is_file():
                self._index = read_index(folder, self._index.kind)
                break
        self.done: set[str] = set(self._index.movies) | {name for name, _ in self._committed()}

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write the store."""
        if self._lock is not None:
            self._lock.release()

    def _committed(self) -> list[tuple[str, Path]]:
        """The pending movies that are whole, by id; damaged ones (a power cut) are removed."""
        found = []
        for path in self.pending.glob("*.safetensors"):
            try:
                with safe_open(path, "pt") as file:
                    found.append((file.metadata()["id"], path))
            except (SafetensorError, KeyError, TypeError):
                path.unlink()
        return sorted(found)

    def begin(self, movie_ids: Iterable[str]) -> list[str]:
        """Which of the movies asked for are still to do; failures of earlier attempts are forgotten."""
        asked = list(movie_ids)
        self._asked.update(asked)
        for path in self.pending.glob("*.failure.json"):
            path.unlink()
        waiting = [name for name in asked if name not in self.done]
        found = read_manifest(self.folder)
        if waiting and found["complete"]:
            write_json(self.folder / MANIFEST, {**found, "complete": False})
        return waiting

    def add(
        self, movie_id: str, features: Tensor | ArrayLike, start: float = 0.0, **columns: Tensor | ArrayLike
    ) -> None:
        """Commit a movie's features (n, D), n >= 1, and the other columns (n, ...).

        Args:
            movie_id: the movie.
            features: stored in the store's precision.
            start: second at which the first event begins.
            columns: those of the store's kind, by name.

        Raises:
            StoreError: wrong shape, features that are not finite in this precision, or no space left.
        """
        rows = torch.as_tensor(features).detach().to("cpu", TORCH[self.dtype]).contiguous()
        if rows.ndim != 2 or rows.shape[1] != self._index.width or not len(rows):
            raise StoreError(
                f"features of {movie_id} have shape {tuple(rows.shape)}, the store needs (n, {self._index.width})"
            )
        if not rows.isfinite().all():
            raise StoreError(f"features of {movie_id} are not finite in {self.dtype}: not written")
        tensors = {name: torch.as_tensor(column).contiguous() for name, column in columns.items()}
        lengths = {name: len(column) for name, column in tensors.items()}
        if lengths != dict.fromkeys(COLUMNS[self._index.kind], len(rows)):
            raise StoreError(f"columns of {movie_id} are {lengths} for {len(rows)} {self._index.kind}: not written")
        raw = save({"features": rows, **tensors}, {"id": movie_id, "start": repr(float(start))})
        self._commit(movie_id, "safetensors", raw)
        self.done.add(movie_id)

    def record(self, movie_id: str, outcome: Mapping[str, Column] | str) -> None:
        """Commit a movie's columns by name, or the reason why it has none; features may be not finite."""
        if isinstance(outcome, str):
            self.fail(movie_id, outcome)
        elif not torch.as_tensor(outcome["features"]).to(TORCH[self.dtype]).isfinite().all():
            self.fail(movie_id, f"its features are not finite in {self.dtype}")
        else:
            self.add(movie_id, **outcome)

    def fail(self, movie_id: str, reason: str) -> None:
        """Note why a movie gives no features."""
        self._commit(movie_id, "failure.json", json.dumps({"id": movie_id, "reason": reason}))

    def _commit(self, movie_id: str, ending: str, content: str | bytes) -> None:
        name = hashlib.sha256(movie_id.encode("utf-8")).hexdigest()[:24]
        try:
            write_atomic(self.pending / f"{name}.{ending}", content)
        except OSError as error:
            raise self._no_space(error) from error

    def finish(self, facts: dict[str, Any] | None = None, missing: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
        """Pack the pending movies into parts, write index and manifest, close, and return the manifest.

        Args:
            facts: added to the manifest.
            missing: {"id", "reason"} of movies that were asked for and cannot be there, beside those of `fail`.

        Raises:
            StoreError: there is not a single movie, or no space left.
        """
        try:
            self._pack_pending()
            movies = self._index.movies
            failed = [*missing, *map(read_json, self.pending.glob("*.failure.json"))]
            reasons = {one["id"]: one["reason"] for one in failed if one["id"] not in movies}
            asked = self._asked | movies.keys() | reasons.keys()
            if not movies:
                first = f" (first: {reasons[min(reasons)]})" if reasons else ""
                raise StoreError(f"{self.folder}: none of {len(asked)} movies gave features{first}: check the files")
            manifest = {
                **self.settings,
                **(facts or {}),
                "movies": len(movies),
                "of": len(asked),
                "rows": sum(movie.rows for movie in movies.values()),
                "missing": [{"id": name, "reason": reasons[name]} for name in sorted(reasons)],
                "complete": asked <= movies.keys() | reasons.keys(),
                "code_version": code_version(),
            }
            write_index(self.folder, self._index)
            write_json(self.folder / MANIFEST, manifest)
        except OSError as error:
            raise self._no_space(error) from error
        shutil.rmtree(self.pending)
        self.close()
        return manifest

    def _pack_pending(self) -> None:
        """Pack pending movies group by group, a group as large as a part may be."""
        group: list[tuple[str, Path]] = []
        size = 0
        for name, path in self._committed():
            if name in self._index.movies:  # killed between index and removal
                path.unlink()
                continue
            with safe_open(path, "pt") as file:
                rows = file.get_slice("features").get_shape()[0]
            more = rows * self._index.width * BYTES[self.dtype]
            if group and size + more > self.part_bytes:
                self._pack(group)
                group, size = [], 0
            group.append((name, path))
            size += more
        if group:
            self._pack(group)

    def _pack(self, group: list[tuple[str, Path]]) -> None:
        """Write one part, then the index that names it, then remove what it was made of."""
        name = f"part-{len(self._index.parts):05d}.safetensors"
        tensors, movies, row = [], {}, 0
        for movie_id, path in group:
            with safe_open(path, "pt") as file:
                tensors.append({key: file.get_tensor(key) for key in file.keys()})
                start = float(file.metadata()["start"])
            rows = len(tensors[-1]["features"])
            movies[movie_id] = StoredMovie(name, row, rows, start)
            row += rows
        write_atomic(self.folder / name, save({key: torch.cat([one[key] for one in tensors]) for key in tensors[0]}))
        part = Part(row, sha256_file(self.folder / name))
        grown = replace(self._index, parts={**self._index.parts, name: part}, movies={**self._index.movies, **movies})
        write_index(self.pending, grown)
        self._index = grown
        for _, path in group:
            path.unlink()

    def _no_space(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write to {self.folder} ({error.strerror or error}): {len(self.done)} movies are kept, "
            "make room and run the same command again"
        )
