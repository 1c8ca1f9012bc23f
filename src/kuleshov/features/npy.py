"""Event features from and to `.npy` files: VidSitu's `<segment>_feats.npy` (5, D) and plain `<id>.npy` (N, D)."""

import logging
import math
import tokenize
from pathlib import Path

import numpy as np

from kuleshov.core.errors import FormatError, MissingDataError, StoreError, UsageError, require_positive
from kuleshov.core.files import write_through
from kuleshov.datasets.vidsitu_format import EVENTS
from kuleshov.features.store_index import Dtype, Summary
from kuleshov.video.video_file import readable

log = logging.getLogger(__name__)
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
        FormatError: a file that is not a plain (N, D) array of numbers, of another width than the first, with other
            than five events of a segment, or whose id another file has too.
    """
    from kuleshov.features.store_writer import StoreWriter

    if vidsitu:
        stride, suffix = 2.0 if stride is None else stride, suffix or VIDSITU_SUFFIX
    if stride is None:
        raise UsageError(".npy files do not say when their events are: give --stride SECONDS, or --vidsitu")
    require_positive(stride=stride, window=window)
    if not math.isfinite(start):
        raise UsageError(f"--start has to be a second, not {start}")
    paths, others = _named(Path(folder), f"{suffix}.npy", vidsitu)
    if not paths:
        raise MissingDataError(f"*{suffix}.npy files", Path(folder).absolute(), "check the folder and suffix")
    if others:
        log.warning("%d .npy files of %s are left out (first %s): %s", len(others), folder, *next(iter(others.items())))
    first = next(iter(paths.values()))
    width = read_npy(first).shape[1]
    settings = {"backbone": None, "imported": str(folder), "data": "vidsitu" if vidsitu else None}
    with StoreWriter(output, width, window, stride, dtype, settings) as writer:
        for movie_id in writer.begin(paths):
            array = read_npy(paths[movie_id])
            if not np.isfinite(array).all():
                raise FormatError(paths[movie_id], "holds values that are not finite: mend it, or leave it out")
            if vidsitu and len(array) != len(EVENTS):
                raise FormatError(paths[movie_id], f"has {len(array)} events, not {len(EVENTS)}: leave it out")
            if array.shape[1] != width:
                raise FormatError(paths[movie_id], f"has width {array.shape[1]}, {first.name} has {width}")
            writer.add(movie_id, array.astype(np.float32), start)
        return Summary.of_store(output, writer.finish())


def _named(folder: Path, ending: str, vidsitu: bool) -> tuple[dict[str, Path], dict[Path, str]]:
    """The files below a folder by the movie's id, the way to them included, and why others are left out."""
    paths, others = {}, {}
    for path in sorted(folder.rglob("*.npy")):
        name = readable(path.relative_to(folder).as_posix())
        movie_id = name.removesuffix(ending)
        if movie_id == name or not Path(movie_id).name or movie_id.endswith("/"):
            others[path] = f"the name does not end in {ending} after an id"
        else:
            movie_id = Path(movie_id).name if vidsitu else movie_id
            if movie_id in paths:
                raise FormatError(path, f"{movie_id} is in {paths[movie_id]} too: leave one of them out")
            paths[movie_id] = path
    return paths, others


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
