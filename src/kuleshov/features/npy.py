"""Event features from and to `.npy` files: VidSitu's `<segment>_feats.npy` (5, D) and plain `<id>.npy` (N, D)."""

from pathlib import Path

import numpy as np
import torch

from kuleshov.core.errors import FormatError, MissingDataError
from kuleshov.core.files import code_version, write_through
from kuleshov.features.event_store import EventStore
from kuleshov.features.event_store_format import Dtype, Index
from kuleshov.features.event_store_writer import StoreWriter

VIDSITU_SUFFIX = "_feats"


def import_npy(
    folder: str | Path,
    output: str | Path,
    window: float,
    stride: float,
    start: float = 0.0,
    suffix: str = "",
    dtype: Dtype = "fp32",
) -> Index:
    """Make a store of a folder of `<id><suffix>.npy` files, each (N, D).

    The files do not say when their events are: the time grid has to be given.

    Args:
        folder: where the files are.
        output: the store's folder.
        window: seconds of an event (VidSitu: 2).
        stride: seconds between the beginnings of two events (VidSitu: 2).
        start: second at which the first event begins.
        suffix: what follows the movie's id in the name, `_feats` for VidSitu.
        dtype: precision on disk.

    Raises:
        MissingDataError: no such files.
        FormatError: a file that is not a plain (N, D) array of numbers, or of another width than the first.
    """
    paths = sorted(Path(folder).glob(f"*{suffix}.npy"))
    if not paths:
        raise MissingDataError(f"*{suffix}.npy files", Path(folder).absolute(), "check the folder and suffix")
    width = read_npy(paths[0]).shape[1]
    writer = StoreWriter(output, width, window, stride, dtype, {"backbone": None, "imported": str(folder)})
    for path in paths:
        movie_id = path.name.removesuffix(f"{suffix}.npy")
        if movie_id in writer.done:
            continue
        array = read_npy(path)
        if array.shape[1] != width:
            raise FormatError(path, f"has width {array.shape[1]}, {paths[0].name} has {width}")
        writer.add(movie_id, torch.from_numpy(array.astype(np.float32)), start)
    count = len(writer.done)
    return writer.finish({"movies": count, "of": count, "missing": [], "code_version": code_version()})


def read_npy(path: Path) -> np.ndarray:
    """Read an array (N, D) of numbers, never unpickling.

    Raises:
        FormatError: it is something else.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise FormatError(path, f"is no plain .npy array ({error})") from error
    if array.ndim != 2 or not array.size or not np.issubdtype(array.dtype, np.number):
        raise FormatError(path, f"holds {array.dtype} {array.shape}, expected numbers of shape (N, D)")
    return array


def export_npy(store: EventStore, folder: str | Path, suffix: str = "") -> int:
    """Write every movie's features as float32 `<id><suffix>.npy` (N, D); returns how many."""
    for movie_id in store.movie_ids:
        _write(Path(folder) / f"{movie_id}{suffix}.npy", store.events(movie_id).numpy())
    return len(store)


def export_vidsitu(store: EventStore, folder: str | Path, n: int = 5, stride_s: float = 2.0) -> int:
    """Write every segment as VidSitu's `<segment>_feats.npy`, float32 (n, D) on its grid; returns how many."""
    for movie_id in store.movie_ids:
        features = store.segment(movie_id, n, stride_s)
        _write(Path(folder) / f"{movie_id}{VIDSITU_SUFFIX}.npy", features.numpy())
    return len(store)


def _write(path: Path, array: np.ndarray) -> None:
    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, array)

    write_through(path, fill)
