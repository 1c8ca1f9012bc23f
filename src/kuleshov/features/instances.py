"""`kuleshov instances`: a store of boxes on tracks, each with its region feature. Importing it does not import torch.

Instances come from a CSV of boxes and the videos, or from LVU's own files; the CSV can be made of videos alone.
"""

import io
import math
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from kuleshov.core.devices import Accelerator, device_of
from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError, UsageError, VideoError, require_positive
from kuleshov.core.files import read_csv, sha256_file
from kuleshov.core.unpickle import restricted_load
from kuleshov.features.extract import backbone_facts, on_devices
from kuleshov.features.npy import NPY_ERRORS
from kuleshov.features.store_index import Summary
from kuleshov.video.video_file import Video, videos_by_stem

if TYPE_CHECKING:
    from kuleshov.features.feature_store import Instances
    from kuleshov.features.store_writer import StoreWriter

BOX_COLUMNS = ("video", "second", "x1", "y1", "x2", "y2", "track")
FURTHER_COLUMNS = ((), ("score",), ("shot",), ("score", "shot"))
InstanceDtype = Literal["fp32", "fp16"]
Pool = Literal["max", "mean"]
Boxes = dict[str, NDArray]
Reader = Callable[[str], "Instances | str"]  # a movie's instances or why it has none
# ids of the movies, width of a feature, the reader of a process, settings of the store
Source = tuple[Iterable[str], int, Callable[[int], Reader], dict[str, Any]]


def instances_command(
    output: Path,
    boxes: Path | None = None,
    weights: Path | None = None,
    videos: Path | None = None,
    official_meta: Path | None = None,
    official_features: Path | None = None,
    detector: Path | None = None,
    classes: list[int] | None = None,
    shots: bool = False,
    min_score: float = 0.0,
    pool: Pool = "max",
    dtype: InstanceDtype = "fp16",
    batch_size: int = 8,
    devices: int = 1,
    accelerator: Accelerator = "auto",
) -> Summary:
    """Write an instance store from boxes and videos, or from LVU's own files; or boxes from videos.

    Run again, it goes on after the last whole movie. Nothing in LVU's files is run.

    Args:
        output: folder of the instance store; with a detector, the CSV of boxes.
        boxes: CSV `video,second,x1,y1,x2,y2,track[,score][,shot]` in pixels.
        weights: a backbone's weights (.safetensors), for the region features of the boxes.
        videos: folder of the videos, named <video>.<any container>.
        official_meta: LVU's instance_meta_<task>.pkl.
        official_features: LVU's folder of <video>.npz.
        detector: a detector's weights for ultralytics (an extra), to find and track people and objects in the videos.
        classes: class ids that the detector is to look for, 0 for COCO's people alone; all where none is named.
        shots: find the videos' shots (an extra) where the boxes do not say them.
        min_score: leave out boxes below.
        pool: over a region.
        dtype: precision on disk.
        batch_size: clips in a forward pass.
        devices: processes, each with its own device.
        accelerator: where the backbone runs.

    Raises:
        UsageError: no source is given whole, or several are.
        KuleshovError: the backbone has no `forward_map`, or no video gives instances.
        FormatError: a file of another form, or a wrong line, by its number.
    """
    require_positive(batch_size=batch_size, devices=devices)
    sources = {"boxes": boxes, "weights": weights, "videos": videos, "detector": detector}
    sources |= {"official_meta": official_meta, "official_features": official_features}
    given = {name for name, value in sources.items() if value is not None}
    if given == {"detector", "videos"}:
        from kuleshov.features.box_tracker import Tracker, write_boxes

        films = [Video(*item) for item in sorted(videos_in(videos).items())]
        return write_boxes(films, Tracker(detector, classes=classes), output, shots)
    if given == {"boxes", "weights", "videos"}:
        source = _from_boxes(boxes, weights, videos_in(videos), min_score, pool, batch_size, accelerator, shots)
    elif given == {"official_meta", "official_features"}:
        source = _from_official(official_meta, official_features)
    else:
        options = "--boxes, --weights and --videos, or --official_meta and --official_features"
        raise UsageError(f"give {options}, or --detector and --videos")
    from kuleshov.features.store_writer import StoreWriter

    movie_ids, width, reader, settings = source
    open_store = partial(StoreWriter, output, width, dtype=dtype, settings=settings, kind="instances")
    with open_store() as writer:
        on_devices(partial(_record_share, open_store, reader), devices, writer.begin(sorted(movie_ids)))
        return Summary.of_store(output, writer.finish())


def _record_share(
    open_store: Callable[..., "StoreWriter"], reader: Callable[[int], Reader], rank: int, world: int, waiting: list[str]
) -> None:
    """Do every world-th of the movies that are still to do, in one process."""
    writer, read = open_store(lock=False), reader(rank)
    for movie_id in waiting[rank::world]:
        found = read(movie_id)
        writer.record(movie_id, **({"features": found} if isinstance(found, str) else vars(found)))


def videos_in(folder: Path) -> dict[str, Path]:
    """The videos of a folder by their names without ending.

    Raises:
        KuleshovError: it is no folder.
    """
    if not Path(folder).is_dir():
        raise KuleshovError(f"no folder of videos at {Path(folder).absolute()}: check --videos")
    return videos_by_stem(folder)


def read_boxes(path: str | Path, min_score: float = 0.0) -> dict[str, Boxes]:
    """Read `video,second,x1,y1,x2,y2,track[,score][,shot]` in pixels: video -> seconds, boxes, tracks, scores, shots.

    Raises:
        KuleshovError: no such file, or a wrong header or line, by its number.
    """
    rows: dict[str, list[list[float]]] = defaultdict(list)
    wanted = f"{','.join(BOX_COLUMNS)}[,score][,shot]"
    lines = read_csv(path, "boxes", f"name a CSV with the columns {wanted}")
    header = tuple(next(lines, (1, []))[1])
    if header[: len(BOX_COLUMNS)] != BOX_COLUMNS or header[len(BOX_COLUMNS) :] not in FURTHER_COLUMNS:
        raise FormatError(path, f"the header must be '{wanted}', found {header}", 1)
    for number, cells in lines:
        row = _box_row(path, number, cells, header)
        if row[6] >= min_score:
            rows[cells[0]].append(row)
    tables = {name: np.array(sorted(found, key=lambda row: row[0])) for name, found in rows.items()}
    return {
        name: {
            "seconds": table[:, 0].astype(np.int64),
            "boxes": table[:, 1:5],
            "tracks": table[:, 5],
            "scores": table[:, 6],
            **({"shots": table[:, 7].astype(np.int64)} if "shot" in header else {}),
        }
        for name, table in tables.items()
    }


def _box_row(path: Path, number: int, cells: list[str], header: tuple[str, ...]) -> list[float]:
    if len(cells) != len(header):
        raise FormatError(path, f"{len(header)} columns expected, found {len(cells)}", number)
    try:
        values = dict(zip(header[1:], map(float, cells[1:]), strict=True))
    except ValueError as error:
        raise FormatError(path, f"numbers expected after the video ({error})", number) from error
    values = {**values, "score": values.get("score", 1.0), "shot": values.get("shot", 0.0)}
    second, x1, y1, x2, y2, track, score, shot = (values[name] for name in (*BOX_COLUMNS[1:], "score", "shot"))
    whole = all(map(math.isfinite, values.values())) and all(map(float.is_integer, (second, track, shot)))
    if not whole or not -(2**31) <= track < 2**31 or not (0 <= second < 2**31 and 0 <= shot < 2**31):
        reason = "second, track and shot must be whole numbers of at most 31 bits, second and shot not negative"
        raise FormatError(path, f"{reason}, all finite", number)
    if x2 <= x1 or y2 <= y1:
        raise FormatError(path, f"a box needs x1 < x2 and y1 < y2, found {x1:g},{y1:g},{x2:g},{y2:g}", number)
    return [second, x1, y1, x2, y2, track, score, shot]


def _from_boxes(
    boxes: Path,
    weights: Path,
    videos: dict[str, Path],
    min_score: float,
    pool: Pool,
    batch_size: int,
    accelerator: Accelerator,
    shots: bool,
) -> Source:
    """Instances of a CSV of boxes, with region features from the clip around each second."""
    from kuleshov.backbones import resolve_backbone
    from kuleshov.features.region_features import require_maps

    found, network = read_boxes(boxes, min_score), resolve_backbone(weights)
    require_maps(network)
    reader = partial(_region_reader, network, found, videos, pool, batch_size, accelerator, shots)
    settings = {"source": "boxes", "source_sha256": sha256_file(boxes), "pool": pool, "min_score": min_score}
    settings["shots"] = shots
    return found, network.feature_width, reader, {**settings, "backbone": backbone_facts(network)}


def _region_reader(
    network: Any,
    boxes: dict[str, Boxes],
    videos: dict[str, Path],
    pool: Pool,
    batch_size: int,
    accelerator: Accelerator,
    shots: bool,
    rank: int,
) -> Reader:
    from kuleshov.features.region_features import RegionExtractor
    from kuleshov.features.shots import shots_of

    extractor = RegionExtractor(network, pool, batch_size=batch_size, device=device_of(accelerator, rank))

    def read(movie_id: str) -> "Instances | str":
        if movie_id not in videos:
            return "no video file of this id"
        found = boxes[movie_id]
        try:
            if shots and "shots" not in found:
                found = {**found, "shots": shots_of(videos[movie_id], found["seconds"])}
            return extractor(videos[movie_id], found)
        except VideoError as error:
            return error.reason

    return read


def _from_official(meta: Path, features: Path) -> Source:
    """Instances of LVU's own files; nothing in them is run: both are read by the restricted unpickler."""
    movies = restricted_load(meta)
    if not isinstance(movies, dict) or not movies:
        raise FormatError(meta, "not a dict of videos to seconds to boxes")
    files = {movie_id: Path(features) / f"{movie_id}.npz" for movie_id in sorted(movies)}

    first = next((movie_id for movie_id, file in files.items() if file.is_file()), None)
    if first is None:
        raise MissingDataError("region features", Path(features).absolute(), "check --official_features")
    width = official_movie(meta, first, movies[first], files[first]).features.shape[1]
    reader = partial(_official_reader, meta, movies, files)
    return movies, width, reader, {"source": "lvu", "source_sha256": sha256_file(meta), "backbone": None}


def _official_reader(meta: Path, movies: dict[str, dict], files: dict[str, Path], rank: int) -> Reader:
    def read(movie_id: str) -> "Instances | str":
        file = files[movie_id]
        return official_movie(meta, movie_id, movies[movie_id], file) if file.is_file() else f"no {file.name}"

    return read


def official_movie(meta: str | Path, movie_id: str, seconds: dict, path: Path) -> "Instances":
    """One movie: {second: {"x1,y1,x2,y2": [shot, track]}} and the same keys with features in the .npz.

    Raises:
        FormatError: an entry of another form, or a box without feature.
    """
    features = read_object_npz(path)
    rows, vectors = [], []
    try:
        for second, boxes in sorted(seconds.items()):
            for box, (shot, track, *_) in boxes.items():
                corners = [float(value) for value in box.split(",")]
                vectors.append(np.asarray(features[second][box], dtype=np.float32))
                rows.append([int(second), int(shot), int(track), *corners])
        table, stacked = np.array(rows, dtype=np.float64), np.stack(vectors)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(meta, f"not as LVU's files are ({type(error).__name__}: {error})", movie_id) from error
    from kuleshov.features.feature_store import instances

    return instances(stacked, table[:, 3:7], table[:, 0], table[:, 2], table[:, 1])


def read_object_npz(path: Path) -> Any:
    """The object that `np.savez(path, a=object)` wrote, read without running anything, or a FormatError."""
    try:
        with zipfile.ZipFile(path) as archive:
            raw = io.BytesIO(archive.read("a.npy"))
        version = npy_format.read_magic(raw)
        header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, _, dtype = header(raw)
    except (zipfile.BadZipFile, zlib.error, KeyError, *NPY_ERRORS) as error:
        raise FormatError(path, f"not an .npz with an array 'a' ({str(error)[:200]})") from error
    if shape != () or dtype != np.dtype(object):
        raise FormatError(path, f"array 'a' is {dtype} {shape}, one object was expected")
    loaded = restricted_load(raw.read())
    return loaded.item() if isinstance(loaded, np.ndarray) else loaded
