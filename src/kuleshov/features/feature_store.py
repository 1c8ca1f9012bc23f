"""What stores of events and of instances share: finding, checking and mapping their parts."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kuleshov.core.errors import StoreError
from kuleshov.core.files import sha256_file
from kuleshov.features.store_index import COLUMNS, StoredMovie, read_index, read_manifest

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
    def width(self) -> int:
        """D, width of a feature."""
        return self.index.width

    @property
    def dtype(self) -> str:
        """Precision of the features on disk: fp32, fp16 or bf16."""
        return self.index.dtype

    @property
    def backbone_sha256(self) -> str | None:
        """sha256 of the backbone weights that made the features, None where unknown (imported features)."""
        return (self.manifest.get("backbone") or {}).get("sha256")

    @functools.cached_property
    def movie_ids(self) -> list[str]:
        """The movies in the order of their rows."""
        return list(self.index.movies)

    def __contains__(self, movie_id: object) -> bool:
        return movie_id in self.index.movies

    def __len__(self) -> int:
        return len(self.index.movies)

    def __iter__(self) -> Iterator[str]:
        return iter(self.index.movies)

    def place(self, movie_id: str) -> StoredMovie:
        """Where a movie's rows are.

        Raises:
            StoreError: the store has no such movie.
        """
        movie = self.index.movies.get(movie_id)
        if movie is None:
            raise StoreError(f"{self.folder} has no movie {movie_id}: extract it first")
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
            except (SafetensorError, OSError) as error:
                raise StoreError(f"{path} is damaged ({error}): extract again") from error
            features = found.get("features", torch.empty(0))
            whole = found.keys() == {"features", *COLUMNS[self.kind]} and {len(c) for c in found.values()} == {rows}
            if not whole or features.dtype != TORCH[self.dtype] or features.shape != (rows, self.width):
                raise StoreError(
                    f"{path} holds features {features.dtype} {tuple(features.shape)}, "
                    f"the index says {self.dtype} {(rows, self.width)}: extract again"
                )
            self._mapped[part] = found
        return self._mapped[part]

    def column(self, movie_id: str, name: str) -> Tensor:
        """One column of a movie, (n, ...), as it is on disk."""
        movie = self.place(movie_id)
        return self.columns_of(movie.part)[name][movie.row : movie.row + movie.rows]
