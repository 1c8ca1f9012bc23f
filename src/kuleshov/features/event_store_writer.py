"""Writing event features movie by movie, so that a kill at any moment costs one movie."""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kuleshov.core.errors import StoreError
from kuleshov.core.files import read_json, sha256_file, write_atomic, write_json
from kuleshov.features.event_store_format import (
    BYTES,
    INDEX,
    MANIFEST,
    PART_BYTES,
    PENDING,
    Dtype,
    Index,
    Movie,
    Part,
    part_name,
    read_index,
    read_manifest,
    write_index,
)

TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class StoreWriter:
    """Writes a store: `add` commits a movie by an atomic rename, `finish` packs all movies into parts.

    Several processes may add to one store at a time, each its own movies; one of them finishes it, when all
    are done. The finished store does not depend on how many they were, nor on interruptions: movies are
    packed in the order of their ids. A finished store can be opened again to add movies.

    Args:
        folder: the store; made where it is not there.
        width: D.
        window: seconds of an event.
        stride: seconds between the beginnings of two events.
        dtype: precision on disk.
        settings: what else must be the same whenever movies are added (backbone, clip, trim).
        part_bytes: largest part.

    Raises:
        StoreError: the folder holds a store with other settings (the first that differs), or foreign files.
    """

    def __init__(
        self,
        folder: str | Path,
        width: int,
        window: float,
        stride: float,
        dtype: Dtype = "fp16",
        settings: dict[str, Any] | None = None,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self.folder, self.pending = Path(folder), Path(folder) / PENDING
        self.dtype, self.part_bytes = dtype, part_bytes
        self._index = Index(width, dtype, float(window), float(stride))
        self.settings = {
            "width": width,
            "dtype": dtype,
            "window": float(window),
            "stride": float(stride),
            **(settings or {}),
        }
        self._open()
        self.done: set[str] = set(self._index.movies) | {name for name, _ in self._committed()}

    def _open(self) -> None:
        if not (self.folder / MANIFEST).is_file():
            if self.folder.exists() and any(path.name != PENDING for path in self.folder.glob("[!.]*")):
                raise StoreError(f"{self.folder} has files that are no event store: name an empty folder")
            self.pending.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / MANIFEST, {**self.settings, "complete": False})
        found = read_manifest(self.folder)
        for key, value in self.settings.items():
            if found.get(key) != value:
                raise StoreError(
                    f"{self.folder} was written with {key}={found.get(key)}, now it is {value}: name another folder"
                )
        self.pending.mkdir(exist_ok=True)
        # packing keeps its own index until it is done; it supersedes the finished one
        if (self.pending / INDEX).is_file():
            self._index = read_index(self.pending)
        elif (self.folder / INDEX).is_file():
            self._index = read_index(self.folder)

    def _committed(self) -> Iterator[tuple[str, Path]]:
        """The pending movies that are whole, by id; damaged ones (a power cut) are removed."""
        found = []
        for path in self.pending.glob("*.safetensors"):
            try:
                with safe_open(path, "pt") as file:
                    found.append((file.metadata()["id"], path))
            except (SafetensorError, KeyError, TypeError):
                path.unlink()
        return iter(sorted(found))

    def add(self, movie_id: str, features: Tensor, start: float = 0.0) -> None:
        """Commit a movie's features (n, D), n >= 1; the first event begins at `start` seconds.

        Raises:
            StoreError: wrong shape, features that are not finite in this precision, or no space left.
        """
        if features.ndim != 2 or features.shape[1] != self._index.width or not features.shape[0]:
            raise StoreError(
                f"features of {movie_id} have shape {tuple(features.shape)}, the store needs (n, {self._index.width})"
            )
        rows = features.detach().to("cpu", TORCH[self.dtype]).contiguous()
        if not self.finite(rows):
            raise StoreError(f"features of {movie_id} are not finite in {self.dtype}: not written")
        raw = save({"features": rows}, {"id": movie_id, "start": repr(float(start))})
        name = hashlib.sha256(movie_id.encode("utf-8")).hexdigest()[:24]
        try:
            write_atomic(self.pending / f"{name}.safetensors", raw)
        except OSError as error:
            raise self._no_space(error) from error
        self.done.add(movie_id)

    def finite(self, features: Tensor) -> bool:
        """Whether features are finite in the store's precision."""
        return bool(features.to(TORCH[self.dtype]).isfinite().all())

    def finish(self, facts: dict[str, Any] | None = None) -> Index:
        """Pack the pending movies into parts, write index and manifest, and return the index.

        Args:
            facts: added to the manifest (completeness, missing movies, decoder).
        """
        try:
            group: list[tuple[str, Path, int]] = []
            row_bytes = self._index.width * BYTES[self.dtype]
            size = 0
            for name, path in self._committed():
                if name in self._index.movies:  # killed between index and removal
                    path.unlink()
                    continue
                with safe_open(path, "pt") as file:
                    events = file.get_slice("features").get_shape()[0]
                if group and size + events * row_bytes > self.part_bytes:
                    self._pack(group)
                    group, size = [], 0
                group.append((name, path, events))
                size += events * row_bytes
            if group:
                self._pack(group)
            write_index(self.folder, self._index)
            write_json(self.folder / MANIFEST, {**self.settings, "complete": True, **(facts or {})})
        except OSError as error:
            raise self._no_space(error) from error
        shutil.rmtree(self.pending)
        return self._index

    def _pack(self, group: list[tuple[str, Path, int]]) -> None:
        """Write one part, then the index that names it, then remove what it was made of."""
        name = part_name(len(self._index.parts))
        rows, movies, row = [], {}, 0
        for movie_id, path, events in group:
            with safe_open(path, "pt") as file:
                rows.append(file.get_tensor("features"))
                start = float(file.metadata()["start"])
            movies[movie_id] = Movie(name, row, events, start)
            row += events
        write_atomic(self.folder / name, save({"features": torch.cat(rows)}))
        part = Part(row, sha256_file(self.folder / name))
        grown = replace(self._index, parts={**self._index.parts, name: part}, movies={**self._index.movies, **movies})
        write_index(self.pending, grown)
        self._index = grown
        for _, path, _ in group:
            path.unlink()

    def _no_space(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write to {self.folder} ({error.strerror or error}): {len(self.done)} movies are kept, "
            "make room and run the same command again"
        )


def read_failures(pending: Path) -> list[dict[str, Any]]:
    """What the processes of one extraction noted in `pending` about movies that they could not do."""
    return [failure for path in sorted(pending.glob("rank-*.json")) for failure in read_json(path)]
