"""Event features from and to `.npy` files: VidSitu's `<segment>_feats.npy` (5, D) and plain `<id>.npy` (N, D)."""

import glob
import math
import tokenize
from pathlib import Path

import numpy as np

from kuleshov.core.errors import FormatError, MissingDataError, StoreError, UsageError, require_positive
from kuleshov.core.files import write_through
from kuleshov.features.store_index import Dtype, Summary

VIDSITU_SUFFIX = "_feats"
# what reading a damaged header raises, which is Python text to NumPy
NPY_ERRORS = (
    ValueError,
    TypeError,
    OSError,
    EOFError,
    SyntaxError,
    RecursionError,
    MemoryError,
    OverflowError,
    RuntimeError,
    tokenize.TokenError,
)


def import_features(
    folder: Path,
    output: Path,
    vidsitu: bool = False,
    stride: float | None = None,
    window: float = 2.0,
    start: float = 0.0,
    suffix: str = "",
    dtype: Dtype = "fp32",
) -> Summary:
    """Make an event store of a folder of `<id><suffix>.npy` files, each (N, D); run again, it goes on.

    The files do not say when their events are: the time grid has to be given.

    Args:
        folder: where the files are.
        output: folder of the event store.
        vidsitu: files are <segment>_feats.npy, five events, one in two seconds.
        stride: seconds between the beginnings of two events.
        window: seconds of an event.
        start: second at which the first event begins.
        suffix: what follows the movie's id in a file's name, before .npy.
        dtype: precision on disk.

    Raises:
        UsageError: no stride for files that do not imply it.
        MissingDataError: no such files.
        FormatError: a file that is not a plain (N, D) array of numbers, or of another width than the first.
    """
    from kuleshov.features.store_writer import StoreWriter

    if vidsitu:
        stride, suffix = stride or 2.0, suffix or VIDSITU_SUFFIX
    if stride is None:
        raise UsageError(".npy files do not say when their events are: give --stride SECONDS, or --vidsitu")
    require_positive(stride=stride, window=window)
    if not math.isfinite(start):
        raise UsageError(f"--start has to be a second, not {start}")
    paths = {
        path.name.removesuffix(f"{suffix}.npy"): path
        for path in sorted(Path(folder).glob(f"*{glob.escape(suffix)}.npy"))
    }
    if not paths:
        raise MissingDataError(f"*{suffix}.npy files", Path(folder).absolute(), "check the folder and suffix")
    first = next(iter(paths.values()))
    width = read_npy(first).shape[1]
    settings = {"backbone": None, "imported": str(folder), "data": "vidsitu" if vidsitu else None}
    with StoreWriter(output, width, window, stride, dtype, settings) as writer:
        for movie_id in writer.begin(paths):
            array = read_npy(paths[movie_id])
            if array.shape[1] != width:
                raise FormatError(paths[movie_id], f"has width {array.shape[1]}, {first.name} has {width}")
            writer.add(movie_id, array.astype(np.float32), start)
        return Summary.of_store(output, writer.finish())


def read_npy(path: Path) -> np.ndarray:
    """Read an array (N, D) of numbers, never unpickling.

    Raises:
        FormatError: it is something else.
    """
    try:
        # mapped: a header may claim more than the memory holds
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except NPY_ERRORS as error:
        raise FormatError(path, f"is no plain .npy array ({str(error)[:200]})") from error
    if not isinstance(array, np.ndarray):
        raise FormatError(path, "is an archive of arrays, not a plain .npy array")
    if array.ndim != 2 or not array.size or array.dtype.kind not in "iuf":
        raise FormatError(path, f"holds {array.dtype} {array.shape}, expected numbers of shape (N, D)")
    return array


def export_features(store: Path, output: Path, vidsitu: bool = False) -> Summary:
    """Write an event store as float32 `.npy` files, `<id>.npy` (N, D) for each movie.

    Args:
        store: folder of the event store.
        output: folder of the .npy files.
        vidsitu: five events of each segment, one in two seconds, as <segment>_feats.npy.
    """
    from kuleshov.features.feature_store import EventStore

    events, suffix, rows = EventStore(store), VIDSITU_SUFFIX if vidsitu else "", 0
    for movie_id in events:
        if Path(movie_id).is_absolute() or ".." in Path(movie_id).parts:
            raise StoreError(f"{store}: movie {movie_id!r} would be written outside {output}: rename it in its source")
        array = (events.segment(movie_id) if vidsitu else events.events(movie_id)).numpy()
        write_through(Path(output) / f"{movie_id}{suffix}.npy", lambda path, array=array: _save(path, array))
        rows += len(array)
    return Summary(str(output), events.kind, rows, len(events), len(events), [])


def _save(path: Path, array: np.ndarray) -> None:
    # given a name, np.save adds its own ending
    with path.open("wb") as file:
        np.save(file, array)
