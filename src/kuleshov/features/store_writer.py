"""Writing features movie by movie, so that a kill at any moment costs one movie."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from numpy.typing import ArrayLike
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kuleshov.core.errors import OutputError, StoreError, UsageError
from kuleshov.core.files import code_version, flatten, make_folder, read_json, sha256_file, write_atomic, write_json
from kuleshov.features import store_index
from kuleshov.features.feature_store import TORCH
from kuleshov.features.store_index import Dtype, Index, Part, StoredMovie
from kuleshov.features.team import LOCK, Team, file_stem

PART_BYTES = 256_000_000
Column = Tensor | ArrayLike
# what becomes of a movie among the pending ones
_ENDINGS = ("safetensors", "failure.json")


class StoreWriter:
    """Writes a store: `add` commits a movie by an atomic rename, `finish` packs all movies into parts.

    One process owns the store; further ones may add their own movies with `lock=False` until the owner finishes it.
    A `Team` has no owner but who opens and who finishes.
    The finished store does not depend on how many they were, nor on interruptions: movies are packed in the order
    of their ids. A finished store can be opened again to add movies.

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
        StoreError: the folder holds a store with other settings or foreign files, or another process is writing it.
        UsageError: no such precision.
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
        if dtype not in TORCH:
            raise UsageError(f"--dtype is one of {', '.join(TORCH)}, not {dtype!r}")
        self.folder, self.pending = Path(folder), Path(folder) / store_index.PENDING
        self._manifest_path = self.folder / store_index.MANIFEST
        grid = [value if value is None else float(value) for value in (window, stride)]
        self._index, self._part_bytes = Index(kind, width, dtype, *grid), part_bytes
        fixed = {name: getattr(self._index, name) for name in ("kind", "width", "dtype", "window", "stride")}
        # as they come back from the manifest
        self._settings = json.loads(json.dumps({"format": store_index.FORMAT, **fixed, **(settings or {})}))
        self._asked: set[str] = set()
        self._sizes: dict[str, int] = {}
        self._state: list[int] = []
        self._known: set[str] = set()
        if not self._manifest_path.is_file() and any(path != self.pending for path in self.folder.glob("[!.]*")):
            raise StoreError(f"{self.folder} has files that are no store of features: name an empty folder")
        make_folder(self.folder)
        self._lock = FileLock(self.folder / LOCK)
        try:
            if lock:
                self._lock.acquire(timeout=0)
                if Team(self.folder).others():
                    raise StoreError(f"{self.folder} is being written by processes with --join: wait, or join them")
            self._open()
        except Timeout as error:
            raise StoreError(f"{self.folder} is being written by another process: wait until it is done") from error
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                raise OutputError(self.folder, error) from error
            raise

    def _open(self) -> None:
        if not self._manifest_path.is_file():
            write_json(self._manifest_path, {**self._settings, "complete": False})
        found = store_index.read_manifest(self.folder)
        before, now = flatten({key: found.get(key) for key in self._settings}), flatten(self._settings)
        differ = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
        if differ:
            words = ", ".join(f"{key}={before.get(key)}, now it is {now.get(key)}" for key in differ[:3])
            raise StoreError(f"{self.folder} was written with {words}: name another folder")
        make_folder(self.pending)
        self._read_index()
        self.done: set[str] = set(self._index.movies) | {name for name, _ in self._committed()}

    def _read_index(self) -> None:
        if (self.folder / store_index.INDEX).is_file():
            self._index = store_index.read_index(self.folder, self._index.kind)

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write the store."""
        self._lock.release()

    def _committed(self) -> list[tuple[str, Path]]:
        """The pending movies that are whole, by id; damaged ones (a power cut) are removed."""
        found = []
        for path in self.pending.glob("*.safetensors"):
            try:
                with safe_open(path, "pt") as file:
                    float(file.metadata()["start"])
                    found.append((file.metadata()["id"], path))
            except (SafetensorError, OSError, KeyError, TypeError, ValueError):
                path.unlink()
        return sorted(found)

    def begin(self, movie_ids: Iterable[str], first: bool = True, sizes: Mapping[str, int] | None = None) -> list[str]:
        """Which of the movies asked for are still to do; who asks first forgets failures of earlier attempts.

        Args:
            movie_ids: the movies asked for.
            first: whether nobody else works on them already.
            sizes: bytes of the movies' files.

        Raises:
            StoreError: a movie that is there was made of a file of another size.
        """
        asked, self._sizes = list(movie_ids), dict(sizes or {})
        known = store_index.read_manifest(self.folder).get("bytes", {})
        for name in self.done & self._sizes.keys() & known.keys():
            if known[name] != self._sizes[name]:
                raise StoreError(
                    f"{self.folder} has {name} of another file ({known[name]} bytes, not {self._sizes[name]}): "
                    "rename it, or name another folder"
                )
        self._asked.update(asked)
        for path in self.pending.glob("*.failure.json") if first else ():
            path.unlink()
        waiting = [name for name in asked if name not in self.done]
        if waiting:
            write_json(self._manifest_path, {**store_index.read_manifest(self.folder), "complete": False})
        return waiting

    def left(self, movie_ids: Iterable[str]) -> set[str]:
        """Which of the movies no process has done by now, with features or without."""
        # first the pending ones: what is packed meanwhile is in the index
        committed = {path.name for path in self.pending.glob("[!.]*")}
        settled = self._settled()
        return {
            name
            for name in movie_ids
            if name not in settled and committed.isdisjoint(f"{file_stem(name)}.{ending}" for ending in _ENDINGS)
        }

    def is_done(self, movie_id: str) -> bool:
        """Whether any process has done a movie by now, with features or without."""
        paths = [self.pending / f"{file_stem(movie_id)}.{ending}" for ending in _ENDINGS]
        return any(path.exists() for path in paths) or movie_id in self._settled()

    def _settled(self) -> set[str]:
        """The movies that are packed, or of which a packed store says why they are not there."""
        files = [self.folder / name for name in (store_index.INDEX, store_index.MANIFEST)]
        state = [path.stat().st_mtime_ns for path in files if path.is_file()]
        if state != self._state:
            self._read_index()
            manifest = store_index.read_manifest(self.folder)
            missing = {one["id"] for one in manifest["missing"]} if manifest.get("complete") else set()
            self._state, self._known = state, self._index.movies.keys() | missing
        return self._known

    def add(self, movie_id: str, features: Column, start: float = 0.0, remark: str = "", **columns: Column) -> None:
        """Commit a movie's features (n, D), n >= 1, its first event's second, and the other columns (n, ...) by name.

        A remark (a file that was cut off) goes into the manifest.

        Raises:
            StoreError: wrong shape, features that are not finite in the store's precision, or no space left.
        """
        kind, dtype, width = self._index.kind, self._index.dtype, self._index.width
        rows = torch.as_tensor(features).detach().to("cpu", TORCH[dtype]).contiguous()
        if rows.ndim != 2 or rows.shape[1] != width or not len(rows):
            raise StoreError(f"features of {movie_id} have shape {tuple(rows.shape)}, the store needs (n, {width})")
        if not rows.isfinite().all():
            raise StoreError(f"features of {movie_id} are not finite in {dtype}: not written")
        tensors = {name: torch.as_tensor(column).contiguous() for name, column in columns.items()}
        lengths = {name: len(column) for name, column in tensors.items()}
        if lengths != dict.fromkeys(store_index.COLUMNS[kind], len(rows)):
            raise StoreError(f"columns of {movie_id} are {lengths} for {len(rows)} {kind}: not written")
        metadata = {"id": movie_id, "start": repr(float(start)), "remark": remark}
        self._commit(movie_id, "safetensors", save({"features": rows, **tensors}, metadata))
        self.done.add(movie_id)

    def record(self, movie_id: str, features: Column | str, remark: str = "", **columns: Column) -> None:
        """Add a movie, or note why it has no rows: a reason instead of features, or ones that are not finite."""
        dtype = self._index.dtype
        if not isinstance(features, str) and not torch.as_tensor(features).to(TORCH[dtype]).isfinite().all():
            features = f"its features are not finite in {dtype}"
        if isinstance(features, str):
            self._commit(movie_id, "failure.json", json.dumps({"id": movie_id, "reason": features}))
        else:
            self.add(movie_id, features, remark=remark, **columns)

    def _commit(self, movie_id: str, ending: str, content: str | bytes) -> None:
        try:
            write_atomic(self.pending / f"{file_stem(movie_id)}.{ending}", content)
        except OSError as error:
            raise self._no_space(error) from error

    def finish(self, facts: dict[str, Any] | None = None, missing: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
        """Pack the pending movies into parts, write index and manifest, close, and return the manifest.

        Args:
            facts: added to the manifest.
            missing: {"id", "reason"} of movies asked for that cannot be there, beside those that `record` noted.

        Raises:
            StoreError: there is not a single movie, or no space left.
        """
        self._read_index()
        try:
            before = store_index.read_manifest(self.folder)
            remarks = {**before.get("remarks", {}), **self._remarks()}
            index = self._packed()
            failed = [*missing, *(read_json(path, expected=dict) for path in self.pending.glob("*.failure.json"))]
            reasons = {
                str(one.get("id")): str(one.get("reason")) for one in failed if one.get("id") not in index.movies
            }
            asked = self._asked | index.movies.keys() | reasons.keys()
            if not index.movies:
                first = f" (first: {reasons[min(reasons)]})" if reasons else ""
                raise StoreError(f"{self.folder}: none of {len(asked)} movies gave features{first}: check the files")
            sizes = {**self._sizes, **before.get("bytes", {})}
            counts = {"movies": len(index.movies), "of": len(asked), "rows": sum(m.rows for m in index.movies.values())}
            manifest = {
                **self._settings,
                **(facts or {}),
                **counts,
                "remarks": remarks,
                "bytes": {name: size for name, size in sorted(sizes.items()) if name in index.movies},
                "missing": [{"id": name, "reason": reasons[name]} for name in sorted(reasons)],
                "complete": asked <= index.movies.keys() | reasons.keys(),
                "code_version": code_version(),
            }
            store_index.write_index(self.folder, index)
            write_json(self._manifest_path, manifest)
        except OSError as error:
            raise self._no_space(error) from error
        shutil.rmtree(self.pending)
        self.close()
        return manifest

    def _remarks(self) -> dict[str, str]:
        remarks = {}
        for name, path in self._committed():
            with safe_open(path, "pt") as file:
                remarks[name] = file.metadata()["remark"]
        return {name: remark for name, remark in remarks.items() if remark}

    def _packed(self) -> Index:
        """Write parts of the pending movies; killed before the index names them, they are written again."""
        parts, movies = dict(self._index.parts), dict(self._index.movies)
        for group in self._groups():
            name, row = f"part-{len(parts):05d}.safetensors", 0
            for movie_id, start, columns in group:
                movies[movie_id] = StoredMovie(name, row, len(columns["features"]), start)
                row += movies[movie_id].rows
            write_atomic(
                self.folder / name, save({key: torch.cat([one[2][key] for one in group]) for key in group[0][2]})
            )
            parts[name] = Part(row, sha256_file(self.folder / name))
        return replace(self._index, parts=parts, movies=movies)

    def _groups(self) -> Iterator[list[tuple[str, float, dict[str, Tensor]]]]:
        """Pending movies by id, (id, start, columns), as many as a part may hold."""
        group, size = [], 0
        for name, path in self._committed():
            if name not in self._index.movies:
                with safe_open(path, "pt") as file:
                    columns = {key: file.get_tensor(key).clone() for key in file.keys()}
                    start = float(file.metadata()["start"])
                if group and size + columns["features"].nbytes > self._part_bytes:
                    yield group
                    group, size = [], 0
                group.append((name, start, columns))
                size += columns["features"].nbytes
        if group:
            yield group

    def _no_space(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot write to {self.folder} ({getattr(error, 'reason', error)}): {len(self.done)} movies are kept, "
            "make room and run the same command again"
        )
