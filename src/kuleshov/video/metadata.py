"""What a video file says about itself: size, length, rotation; and the times of its frames.

Times are seconds after the first frame, which is at 0 whatever the container's own clock says.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from kuleshov.core.errors import VideoError

# frame lengths that differ more than this (in parts of the usual one) are no longer a constant rate
_RATE_TOLERANCE = 0.1
# what FFmpeg raises on damaged or foreign files
READ_ERRORS = (av.FFmpegError, OSError, ValueError, EOFError, RuntimeError, MemoryError)
# tags that are not UTF-8 are no reason to refuse a file: older versions than 19 have to be told
_ANY_TEXT = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


@dataclass(frozen=True)
class VideoInfo:
    """A video's properties.

    Attributes:
        duration: seconds from the first frame to the end of the last.
        width: pixels, after rotation.
        height: pixels, after rotation.
        rotation: degrees counter-clockwise by which frames are turned for display; a multiple of 90.
    """

    duration: float
    width: int
    height: int
    rotation: int


@dataclass(frozen=True)
class PacketIndex:
    """The times of a video's frames, from its packets, without decoding.

    Attributes:
        times: (n,) float64 seconds of the frames in display order, the first at 0.
        end: seconds at which the last frame ends.
        slack: see `time_slack`.
        declared: seconds the header claims, None where it claims nothing.
        begins_shown: whether the first packet is the first frame to show; if not, decoders may drop frames.
        fault: why decord is not to be trusted with the file; None for a clean file of constant rate.
    """

    times: np.ndarray
    end: float
    slack: float
    declared: float | None
    begins_shown: bool
    fault: str | None

    def shown(self, times: Sequence[float] | np.ndarray) -> np.ndarray:
        """(T,) numbers of the frames shown at `times`: the last whose time is at or before each, or the first."""
        places = np.searchsorted(self.times, np.asarray(times) + self.slack, side="right") - 1
        return np.maximum(places, 0)


@contextmanager
def open_video(path: str | Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a file and its first video stream, decoding in this thread only; closed on leaving.

    Raises:
        VideoError: no such file, not a video, or no decoder for it.
    """
    _require_file(path)
    try:
        container = av.open(str(path), **_ANY_TEXT)
    except READ_ERRORS as error:
        raise VideoError(path, f"it cannot be opened ({plain_reason(error)})") from error
    with container:
        streams = [s for s in container.streams.video if s.codec_context is not None]
        if not streams:
            raise VideoError(path, "it has no video stream that can be decoded")
        # FFmpeg's own threads hang in forked workers
        streams[0].codec_context.thread_count = 1
        streams[0].thread_type = "NONE"
        yield container, streams[0]


def probe(path: str | Path) -> VideoInfo:
    """Read a video's properties from its header and its first frame (only that one has the rotation).

    Raises:
        VideoError: the file cannot be opened or its first frame cannot be decoded.
    """
    with open_video(path) as (container, stream):
        try:
            first = next(container.decode(stream), None)
        except READ_ERRORS as error:
            raise VideoError(path, f"its first frame cannot be decoded ({plain_reason(error)})") from error
        if first is None:
            raise VideoError(path, "it holds no frames")
        rotation = int(first.rotation) % 360
        width, height = (first.height, first.width) if rotation % 180 else (first.width, first.height)
        declared = declared_end(stream)
        duration = float(declared if declared is not None else (container.duration or 0) / av.time_base)
    return VideoInfo(duration if duration > 0 else packet_index(path).end, width, height, rotation)


def packet_index(path: str | Path) -> PacketIndex:
    """Find the frames' times by demuxing the whole file once, remembered per process and file state."""
    _require_file(path)
    state = Path(path).stat()
    return _packet_index(str(path), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _packet_index(path: str, _modified: int, _size: int) -> PacketIndex:
    with open_video(path) as (container, stream):
        fault, stamps, ends, key = None, [], [], None
        try:
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue
                if packet.pts is None or packet.is_corrupt or packet.is_discard:
                    fault = fault or "its packets are damaged or without a time"
                    continue
                key = packet.pts if packet.is_keyframe else key
                # decord counts these frames wrongly: 99 came out as 95
                if key is None or packet.pts < key:
                    fault = fault or "frames come before the key frame that they need"
                stamps.append(packet.pts)
                ends.append(packet.pts + (packet.duration or 0))
        except READ_ERRORS as error:
            fault = f"its packets cannot be read ({plain_reason(error)})"
        if not stamps:
            raise VideoError(path, "it holds no frames")
        base, declared, step = float(stream.time_base), declared_end(stream), frame_length(stream)
    ticks = np.sort(np.asarray(stamps, dtype=np.int64))
    times = (ticks - ticks[0]) * base
    end = max((max(ends) - int(ticks[0])) * base, times[-1] + step)
    fault = fault or _timing_fault(ticks, declared, end)
    return PacketIndex(times, end, time_slack(base, step), declared, bool(stamps[0] == ticks[0]), fault)


def _require_file(path: str | Path) -> None:
    # a pipe or device would block for ever
    if not Path(path).is_file():
        raise VideoError(path, "it is not a regular file" if Path(path).exists() else "there is no such file")


def _timing_fault(ticks: np.ndarray, declared: float | None, end: float) -> str | None:
    if ticks[0] != 0:
        return "it does not start at time 0"
    steps = np.diff(ticks)
    if len(steps) and (steps.min() <= 0 or _varies(steps)):
        return "its frame rate is not constant"
    return "it is truncated" if _tail_is_missing(end, declared, np.inf) else None


def _varies(steps: np.ndarray) -> bool:
    usual = float(np.median(steps))
    # a clock that counts in milliseconds rounds each step by up to one tick
    rounding = 1.0 if usual >= 4 else 0.0
    return bool((np.abs(steps - usual) > max(rounding, _RATE_TOLERANCE * usual)).any())


def _tail_is_missing(end: float, declared: float | None, time: float) -> bool:
    # the last frame may end before the header's claim by half a second or 2 %
    return declared is not None and min(time, declared) - end > max(0.5, 0.02 * declared)


def check_tail(path: Path, time: float, end: float, declared: float | None) -> None:
    """Refuse to repeat the last frame where the file claims to go on: its end is missing.

    Raises:
        VideoError: `time` lies in the claimed part that holds no frames.
    """
    if _tail_is_missing(end, declared, time):
        raise VideoError(path, f"it claims {declared:.1f} s, but its frames end at {end:.1f} s")


def declared_end(stream: av.VideoStream) -> float | None:
    """Seconds the stream's own header claims, None where it claims nothing."""
    return float(stream.duration * stream.time_base) if stream.duration else None


def frame_length(stream: av.VideoStream) -> float:
    """Seconds of a frame at the stream's mean rate; 1/25 where it has none."""
    return 1 / (float(stream.average_rate or stream.guessed_rate or 0) or 25.0)


def time_slack(tick: float, step: float) -> float:
    """Seconds by which a time may precede a frame's stamp and still show that frame.

    Covers floating point, and containers that round stamps to their clock (Matroska: 1 ms, so that frame 2
    of 30 a second is at 0.067 and 2/30 must find it); never more than a tenth of a frame.
    """
    return max(1e-4, min(0.51 * tick, 0.1 * step))


def plain_reason(error: BaseException) -> str:
    """An exception's message without the path and numbers that FFmpeg adds."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.split(": '")[0].rstrip(".")
