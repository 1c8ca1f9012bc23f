"""MoDist's motion input: the edges of the optical flow, which a camera that pans evenly does not have.

Flow is OpenCV's DIS. Edges are the sizes of the spatial gradients of the flow, cut off at a maximum and
stored in 8 bits, three channels: of the horizontal flow, of the vertical flow, of both. The authors' recipe
is not published: flow network, edge operator, cut-off and channels are chosen here.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import count, takewhile
from pathlib import Path

import av
import cv2
import numpy as np

from kuleshov.core.errors import KuleshovError, VideoError
from kuleshov.core.files import read_json, write_json, write_through
from kuleshov.core.processes import map_in_processes
from kuleshov.video.metadata import probe
from kuleshov.video.reader import VideoReader, reader_version
from kuleshov.video.video_file import Video

log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def _flow():
    # OpenCV's threads can hang in forked workers
    cv2.setNumThreads(0)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow.setFinestScale(1)
    return flow


def optical_flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32 pixels (right, down) by which uint8 RGB (H, W, 3) `first` moved to `second`."""
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second)]
    return _flow().calc(gray[0], gray[1], None)


def flow_edges(flow: np.ndarray, maximum: float) -> np.ndarray:
    """Edges of a flow field in 8 bits.

    Args:
        flow: (H, W, 2) pixels.
        maximum: gradient, in pixels of flow a pixel, that becomes 255.

    Returns:
        uint8 (H, W, 3): gradient magnitude of the horizontal flow, of the vertical flow, of both together.
    """
    down, right = np.gradient(flow, axis=(0, 1))
    squares = down**2 + right**2
    edges = np.sqrt(np.concatenate([squares, squares.sum(axis=2, keepdims=True)], axis=2))
    return np.round(np.clip(edges / maximum, 0.0, 1.0) * 255).astype(np.uint8)


class MotionMemo:
    """Flow edges computed before, found again by the pixels of the two frames, so that nothing else changes.

    Each process has its own; where the budget is used up, nothing more is kept.

    Args:
        budget: bytes of flow edges to keep.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.used = budget, 0
        self._kept: dict[bytes, np.ndarray] = {}

    def edges(self, pair: np.ndarray, maximum: float) -> np.ndarray:
        """uint8 (H, W, 3) flow edges of a uint8 RGB pair (2, H, W, 3)."""
        pixels = hashlib.blake2b(pair.tobytes(), digest_size=16, key=repr((pair.shape, maximum)).encode())
        name = pixels.digest()
        if name not in self._kept:
            edges = flow_edges(optical_flow(pair[0], pair[1]), maximum)
            if self.used + edges.nbytes > self.budget:
                return edges
            self._kept[name], self.used = edges, self.used + edges.nbytes
        return self._kept[name]


def motion_frames(pairs: np.ndarray, maximum: float, memo: MotionMemo | None = None) -> np.ndarray:
    """uint8 (T, H, W, 3) flow edges of uint8 RGB pairs (T, 2, H, W, 3); `memo` keeps them for the next time."""
    memo = memo or MotionMemo(0)
    return np.stack([memo.edges(pair, maximum) for pair in pairs])


def motion_path(folder: str | Path, video_id: str) -> Path:
    """The file of a video's motion in a folder of them.

    Raises:
        KuleshovError: the id would lead out of the folder.
    """
    path = Path(folder) / f"{video_id}.mkv"
    if not path.resolve().is_relative_to(Path(folder).resolve()):
        raise KuleshovError(f"the video id {video_id!r} is no name for a file in {folder}")
    return path


@dataclass(frozen=True)
class MotionSettings:
    """How motion is computed.

    Attributes:
        fps: flow steps per second.
        short_side: pixels of the shorter side of the frames.
        maximum: see `flow_edges`.
    """

    fps: float = 30.0
    short_side: int = 256
    maximum: float = 2.0


@dataclass(frozen=True)
class MotionSummary:
    """What `precompute` did: ids written now, ids that were there, and id -> reason of those that failed."""

    written: list[str]
    present: list[str]
    failed: dict[str, str]


def precompute(
    videos: Sequence[Video], output: str | Path, settings: MotionSettings | None = None, workers: int = 0
) -> MotionSummary:
    """Write each video's motion once, as a lossless `<id>.mkv` whose time 0 is the span's beginning.

    Each file appears whole by an atomic rename; a run that was interrupted goes on where it stopped.

    Args:
        videos: what to read; ids name the files.
        output: folder of the motion files, with the settings in motion.json.
        settings: how motion is computed.
        workers: processes; 0 for none beside this one.

    Raises:
        KuleshovError: the folder holds motion of other settings, or other videos.
    """
    output, settings = Path(output), settings or MotionSettings()
    path = output / "motion.json"
    if not path.exists():
        if any(output.glob("*.mkv")):
            raise KuleshovError(
                f"{output} has .mkv files that are no motion (there is no motion.json): name another folder"
            )
        made = {"flow": f"opencv {cv2.__version__} DIS fast", "reader": reader_version()}
        write_json(path, {**asdict(settings), **made})
    elif not asdict(settings).items() <= read_json(path).items():
        raise KuleshovError(f"{path} was made with other settings: choose another folder or the same settings")
    present = {video.id for video in videos if motion_path(output, video.id).exists()}
    waiting = [video for video in videos if video.id not in present]
    unfinished = f"motion in {output} is not complete: a process died; run again with no workers to see at which video"
    jobs = [(video, output, settings) for video in waiting]
    found: dict[str, str | None] = dict(map_in_processes(_write_motion, jobs, workers, unfinished))
    failed = {video_id: reason for video_id, reason in found.items() if reason is not None}
    for video_id, reason in failed.items():
        log.warning("no motion of %s: %s", video_id, reason)
    return MotionSummary(sorted(found.keys() - failed.keys()), sorted(present), failed)


def _write_motion(video: Video, output: Path, settings: MotionSettings) -> tuple[str, str | None]:
    """Write one video's motion; its id, and why it could not be written."""
    try:
        begin, end = video.span(probe(video.path).duration)
        starts = takewhile(lambda t: t < end - 1e-6, (begin + k / settings.fps for k in count()))
        windows = ([start, start + 1 / settings.fps] for start in starts)
        pairs = VideoReader().stream(video.path, windows, settings.short_side)
        frames = (motion_frames(pair[None], settings.maximum)[0] for _, pair in pairs)
        write_through(motion_path(output, video.id), lambda temporary: _encode(temporary, frames, settings.fps))
    except VideoError as error:
        return video.id, error.reason
    return video.id, None


def _encode(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    """Write uint8 (H, W, 3) frames without loss, every tenth a key frame."""
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w", format="matroska") as container:
        stream = None
        for number, image in enumerate(frames):
            if stream is None:
                stream = container.add_stream("libx264rgb", rate=rate)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "rgb24"
                stream.options = {"qp": "0", "preset": "ultrafast", "g": "10", "bf": "0"}
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        if stream is None:
            raise VideoError(path, "it holds no frames")
        container.mux(stream.encode(None))
