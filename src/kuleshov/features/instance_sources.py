"""Where instances come from: a CSV of boxes on tracks with a backbone's region features, or LVU's own files."""

import csv
import io
import math
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from kuleshov import backbones
from kuleshov.core.errors import FormatError, MissingDataError, VideoError
from kuleshov.core.files import code_version, sha256_file
from kuleshov.core.unpickle import restricted_load
from kuleshov.features.instance_store import Instances, InstanceWriter, instances
from kuleshov.features.roi_align import region_features
from kuleshov.video.reader import Backend, VideoReader
from kuleshov.video.video_file import Video

COLUMNS = ("video", "second", "x1", "y1", "x2", "y2", "track")
Boxes = dict[str, NDArray]


def read_boxes(path: str | Path, min_score: float = 0.0) -> dict[str, Boxes]:
    """Read `video,second,x1,y1,x2,y2,track[,score]` in pixels: video -> seconds, boxes, tracks, scores.

    Raises:
        MissingDataError: no such file.
        FormatError: a wrong header or line, by its number.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError("boxes", path.absolute(), f"name a CSV with the columns {','.join(COLUMNS)}[,score]")
    rows: dict[str, list[list[float]]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        lines = csv.reader(file)
        header = tuple(cell.strip() for cell in next(lines, []))
        if header not in (COLUMNS, (*COLUMNS, "score")):
            raise FormatError(path, f"the header must be '{','.join(COLUMNS)}[,score]', found {header}", 1)
        for number, cells in enumerate(lines, 2):
            if cells:
                row = _box_row(path, number, cells, len(header))
                if row[6] >= min_score:
                    rows[cells[0].strip()].append(row)
    return {name: _columns(np.array(found)) for name, found in rows.items()}


def _box_row(path: Path, number: int, cells: list[str], width: int) -> list[float]:
    if len(cells) != width:
        raise FormatError(path, f"{width} columns expected, found {len(cells)}", number)
    try:
        values = [float(cell) for cell in cells[1:]]
    except ValueError as error:
        raise FormatError(path, f"numbers expected after the video ({error})", number) from error
    second, x1, y1, x2, y2, track = values[:6]
    if not all(map(math.isfinite, values)) or second < 0 or not second.is_integer() or not track.is_integer():
        raise FormatError(path, "second and track must be whole numbers, second not negative, all finite", number)
    if x2 <= x1 or y2 <= y1:
        raise FormatError(path, f"a box needs x1 < x2 and y1 < y2, found {x1:g},{y1:g},{x2:g},{y2:g}", number)
    return [*values[:6], values[6] if len(values) > 6 else 1.0]


def _columns(rows: NDArray) -> Boxes:
    order = np.argsort(rows[:, 0], kind="stable")
    rows = rows[order]
    return {"seconds": rows[:, 0].astype(np.int64), "boxes": rows[:, 1:5], "tracks": rows[:, 5], "scores": rows[:, 6]}


class RegionExtractor:
    """Region features of one video's boxes from a backbone's last map.

    Args:
        weights: the backbone's `.safetensors`; its manifest says how clips are sampled.
        pool: `max` or `mean` over the cells of a region.
        size: cells of a region in each direction.
        batch_size: clips in a forward pass.
        device: where the backbone runs.
        backend: auto, decord or pyav.
    """

    def __init__(
        self,
        weights: str | Path,
        pool: str = "max",
        size: int = 7,
        batch_size: int = 8,
        device: str = "cpu",
        backend: Backend = "auto",
    ) -> None:
        self.network = backbones.load(weights).to(device, memory_format=torch.channels_last_3d)
        self.pool, self.size, self.batch_size, self.device = pool, size, batch_size, torch.device(device)
        self.reader = VideoReader(backend)

    def times(self, second: int) -> NDArray:
        """Times (T,) of the clip centered in a second, not before the movie's beginning."""
        clip = self.network.clip
        times = second + 0.5 - clip.span_seconds / 2 + np.arange(clip.num_frames) * clip.frame_seconds
        return np.maximum(times, 0.0)

    @torch.inference_mode()
    def __call__(self, path: Path, found: Boxes) -> Instances:
        """The instances of a video; boxes are cut at the frame's edge, those outside of it are left out.

        Raises:
            VideoError: the video cannot be read.
        """
        info = self.reader.probe(path)
        frame = np.array([info.width, info.height] * 2, dtype=np.float64)
        boxes = np.clip(found["boxes"] / frame, 0, 1)
        kept = (boxes[:, 2] - boxes[:, 0] > 1e-4) & (boxes[:, 3] - boxes[:, 1] > 1e-4)
        if not kept.any():
            raise VideoError(path, f"none of its {len(kept)} boxes lies in the frame of {info.width}x{info.height}")
        found, boxes = {name: column[kept] for name, column in found.items()}, boxes[kept]
        seconds = np.unique(found["seconds"])
        features = torch.zeros(len(boxes), self.network.feature_width)
        clips: list[NDArray] = []
        windows = (self.times(int(second)) for second in seconds)
        for window, frames in self.reader.stream(path, windows, self.network.clip.short_side):
            clips.append(frames)
            if len(clips) == self.batch_size or window == len(seconds) - 1:
                batch = seconds[window + 1 - len(clips) : window + 1]
                rows = np.flatnonzero(np.isin(found["seconds"], batch))
                owner = torch.from_numpy(np.searchsorted(batch, found["seconds"][rows])).to(self.device)
                cut = torch.from_numpy(boxes[rows]).float().to(self.device)
                features[torch.from_numpy(rows)] = self._regions(clips, cut, owner)
                clips = []
        return instances(features.numpy(), boxes, found["seconds"], found["tracks"], scores=found["scores"])

    def _regions(self, clips: list[NDArray], boxes: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        stacked = torch.from_numpy(np.stack(clips)).to(self.device).permute(0, 4, 1, 2, 3)  # (M, 3, T, H, W)
        prepared = self.network.clip.normalize(stacked).contiguous(memory_format=torch.channels_last_3d)
        maps = self.network.forward_map(prepared)
        return region_features(maps, boxes, owner, self.size, self.pool).float().cpu()


def from_boxes(
    boxes: str | Path,
    weights: str | Path,
    videos: Sequence[Video],
    output: str | Path,
    min_score: float = 0.0,
    dtype: str = "fp16",
    pool: str = "max",
    batch_size: int = 8,
    device: str = "cpu",
    backend: Backend = "auto",
) -> dict[str, Any]:
    """Write an instance store from a CSV of boxes; run again, it goes on after the last whole movie.

    Args:
        boxes: `video,second,x1,y1,x2,y2,track[,score]` in pixels of the video.
        weights: a backbone's `.safetensors`.
        videos: the videos, by id.
        output: the store's folder.
        min_score: boxes below this score are left out.
        dtype: of the features on disk, fp32 or fp16.
        pool: `max` or `mean` over a region.
        batch_size: clips in a forward pass.
        device: where the backbone runs.
        backend: auto, decord or pyav.

    Returns:
        The manifest: source, backbone, movies, `of`, and {"id", "reason"} of each that is missing.
    """
    found = read_boxes(boxes, min_score)
    writer = InstanceWriter(output, dtype)
    extractor = RegionExtractor(weights, pool, batch_size=batch_size, device=device, backend=backend)
    missing = add_videos(writer, extractor, found, {video.id: video.path for video in videos})
    manifest = {
        "source": "boxes",
        "boxes_sha256": sha256_file(boxes),
        "backbone": {**extractor.network.manifest},
        "pool": pool,
        "min_score": min_score,
        "of": len(found),
        "missing": missing,
        "code_version": code_version(),
    }
    writer.finish(manifest)
    return {**manifest, "movies": len(found) - len(missing)}


def add_videos(
    writer: InstanceWriter, extractor: RegionExtractor, found: dict[str, Boxes], paths: dict[str, Path]
) -> list[dict[str, str]]:
    """Add the videos that are not there yet; {"id", "reason"} of each that cannot be."""
    missing = []
    for movie_id in sorted(found):
        if movie_id in writer:
            continue
        if movie_id not in paths:
            missing.append({"id": movie_id, "reason": "no video file of this id"})
            continue
        try:
            writer.add(movie_id, extractor(paths[movie_id], found[movie_id]))
        except VideoError as error:
            missing.append({"id": movie_id, "reason": error.reason})
    return missing


def from_official(meta: str | Path, features: str | Path, output: str | Path, dtype: str = "fp16") -> dict[str, Any]:
    """Write an instance store from LVU's `instance_meta_<task>.pkl` and its folder of `<video>.npz`.

    Nothing in these files is run: both are read by the restricted unpickler.

    Raises:
        FormatError: a file that is not of this kind.
    """
    movies = restricted_load(meta)
    if not isinstance(movies, dict) or not movies:
        raise FormatError(meta, "not a dict of videos to seconds to boxes")
    writer = InstanceWriter(output, dtype)
    missing = []
    for movie_id, seconds in sorted(movies.items()):
        path = Path(features) / f"{movie_id}.npz"
        if movie_id in writer:
            continue
        if not path.is_file():
            missing.append({"id": movie_id, "reason": f"no {path.name}"})
            continue
        writer.add(movie_id, official_movie(meta, movie_id, seconds, path))
    manifest = {
        "source": "lvu",
        "meta_sha256": sha256_file(meta),
        "of": len(movies),
        "missing": missing,
        "code_version": code_version(),
    }
    writer.finish(manifest)
    return {**manifest, "movies": len(movies) - len(missing)}


def official_movie(meta: str | Path, movie_id: str, seconds: dict, path: Path) -> Instances:
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
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(meta, f"not as LVU's files are ({type(error).__name__}: {error})", movie_id) from error
    return instances(stacked, table[:, 3:7], table[:, 0], table[:, 2], table[:, 1])


def read_object_npz(path: Path) -> Any:
    """The object that `np.savez(path, a=object)` wrote, read without running anything.

    Raises:
        FormatError: not such a file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            raw = io.BytesIO(archive.read("a.npy"))
        version = npy.read_magic(raw)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = header(raw)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise FormatError(path, f"not an .npz with an array 'a' ({error})") from error
    if shape != () or dtype != np.dtype(object):
        raise FormatError(path, f"array 'a' is {dtype} {shape}, one object was expected")
    loaded = restricted_load(raw.read())
    return loaded.item() if isinstance(loaded, np.ndarray) else loaded
