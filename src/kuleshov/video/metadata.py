"""What a video file says about itself: size, length, rotation; and the times of its frames.

Times are seconds after the first frame, which is at 0 whatever the container's own clock says; a video ends where its
last frame ends, whatever its header claims.
"""

import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import islice
from pathlib import Path

import av
import numpy as np

from kuleshov.core.errors import VideoError
from kuleshov.video.shard_member import shard_member

# frame lengths that differ more than this (in parts of the usual one) are no longer a constant rate
_RATE_TOLERANCE = 0.1
# a stamp that falls back by more (seconds) begins another file: several were joined by `cat`
_FALLS_BACK = 1.0
# a larger share of the file after its last frame is worth a remark: others were joined to it that cannot be seen
_UNREAD = 0.4
# no frame for longer (seconds) is worth a remark
_STANDSTILL = 1.0
# no frame for longer (seconds): a broken clock, or a part that is lost
_LONGEST_GAP = 30.0
# so many packets of all video streams tell which is the film
_PACKETS_OF_SEVERAL = 300
# containers whose stamps are right for every codec, also after a seek (tests/video/test_containers.py)
STAMPED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv", "ogg"})
# those that keep a table of their packets at hand: going back to the beginning costs nothing
INDEXED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2"})
# these know the times at which frames are decoded, not shown
_DECODING_TIMES = frozenset({"avi", "asf"})
# what MPEG program streams are made for; others come out shifted
_MPEG_CODECS = frozenset({"mpeg1video", "mpeg2video", "h264", "hevc"})
# those in which decord finds the frame it is asked for
_DECORD_SEEKS = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
# what FFmpeg raises on damaged or foreign files
READ_ERRORS = (av.FFmpegError, OSError, ValueError, LookupError, EOFError, RuntimeError, MemoryError)
Opened = tuple[av.container.InputContainer, av.VideoStream]
# files whose index and properties a process remembers
_REMEMBERED = 4096
_indices: dict[tuple[str, int, int], "PacketIndex"] = {}
# tags that are not UTF-8 are no reason to refuse a file: older versions than 19 have to be told
_ANY_TEXT = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


@dataclass(frozen=True)
class VideoInfo:
    """A video's properties.

    Attributes:
        duration: seconds from the first frame to the end of the last one that is there.
        width: pixels, after rotation.
        height: pixels, after rotation.
        rotation: degrees counter-clockwise by which frames are turned for display; a multiple of 90.
        remark: in what the file falls short (a header that claims more, a part without frames or unread); or empty.
    """

    duration: float
    width: int
    height: int
    rotation: int
    remark: str = ""


@dataclass(frozen=True)
class PacketIndex:
    """The times of a video's frames, from its packets, without decoding.

    Attributes:
        times: (n,) float64 seconds of the frames in display order, the first at 0.
        end: seconds at which the last frame ends.
        slack: see `time_slack`.
        declared: seconds the header claims, None where it claims nothing.
        begins_shown: whether the first packet is the first frame to show; if not, decoders may drop frames.
        stamped: whether decoded frames carry their own times, also after a seek; if not, they have to be counted.
        unread: share of the file's bytes after its last frame.
        fault: why decord is not to be trusted with the file; None for a clean file of constant rate.
    """

    times: np.ndarray
    end: float
    slack: float
    declared: float | None
    begins_shown: bool
    stamped: bool
    unread: float
    fault: str | None

    def shown(self, times: Sequence[float] | np.ndarray) -> np.ndarray:
        """(T,) numbers of the frames shown at `times`: the last whose time is at or before each, or the first."""
        places = np.searchsorted(self.times, np.asarray(times) + self.slack, side="right") - 1
        return np.maximum(places, 0)


@contextmanager
def open_video(path: str | Path) -> Iterator[Opened]:
    """Open a file and its film (no cover picture, no still), decoding in this thread only; closed on leaving.

    Raises:
        VideoError: no such file, not a video, or no decoder for it.
    """
    file_state(path)
    with ExitStack() as stack:
        try:
            container = stack.enter_context(av.open(_source(path, stack), **_ANY_TEXT))
            streams = _films(container)
            stream = streams[0] if len(streams) == 1 else container.streams[_busiest(path)] if streams else None
        except READ_ERRORS as error:
            raise VideoError(path, f"it cannot be opened ({plain_reason(error)})") from error
        if stream is None:
            raise VideoError(path, "it has no video stream that can be decoded")
        # FFmpeg's own threads hang in forked workers
        stream.codec_context.thread_count = 1
        stream.thread_type = "NONE"
        yield container, stream


def _source(path: str | Path, stack: ExitStack):
    member = shard_member(path)
    if member is not None:
        return stack.enter_context(io.BytesIO(member.read()))
    # absolute: FFmpeg takes `Solaris: the return.mp4` for a protocol; and it takes names in UTF-8 only
    return str(Path(path).absolute()) if is_utf8(path) else stack.enter_context(open(path, "rb"))


def is_utf8(path: str | Path) -> bool:
    """Whether a file's name can be written in UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in str(path))


def _films(container: av.container.InputContainer) -> list[av.VideoStream]:
    pictures = av.stream.Disposition.attached_pic | av.stream.Disposition.still_image
    return [s for s in container.streams.video if s.codec_context is not None and not s.disposition & pictures]


def _busiest(path: str | Path) -> int:
    """Number of the stream with most frames near the beginning: a still before the film is not the film."""
    with ExitStack() as stack:
        container = stack.enter_context(av.open(_source(path, stack), **_ANY_TEXT))
        films = _films(container)
        packets = (packet.stream_index for packet in container.demux(films) if packet.size)
        found = Counter(islice(packets, _PACKETS_OF_SEVERAL))
        return max(films, key=lambda stream: found[stream.index]).index


def probe(path: str | Path) -> VideoInfo:
    """Read a video's properties from its packets and its first frame (only that one has the rotation).

    Remembered like the packets' index: the segments of one source ask for it again and again.

    Raises:
        VideoError: the file cannot be opened, its first frame cannot be decoded, or its clock is broken.
    """
    return _probe(str(path), *file_state(path))


@lru_cache(maxsize=_REMEMBERED)
def _probe(path: str, _modified: int, _size: int) -> VideoInfo:
    index = packet_index(path)
    with open_video(path) as (container, stream):
        try:
            first = next(container.decode(stream), None)
        except READ_ERRORS as error:
            raise VideoError(path, f"its first frame cannot be decoded ({plain_reason(error)})") from error
        if first is None:
            raise VideoError(path, "it holds no frames")
        rotation = int(first.rotation) % 360
        width, height = (first.height, first.width) if rotation % 180 else (first.width, first.height)
    return VideoInfo(index.end, width, height, rotation, _remark(index))


def _remark(index: PacketIndex) -> str:
    remarks, steps = [], np.diff(index.times)
    if _tail_is_missing(index.end, index.declared, np.inf):
        remarks.append(f"its header claims {index.declared:.1f} s, its frames end at {index.end:.1f} s")
    if len(steps) and steps.max() > max(_STANDSTILL, 10 * np.median(steps)):
        begin, end = index.times[steps.argmax()], index.times[steps.argmax() + 1]
        remarks.append(f"it has no frame between {begin:.1f} and {end:.1f} s")
    if index.unread > _UNREAD:
        remarks.append(f"{index.unread:.0%} of the file come after its last frame and are not read")
    return "; ".join(remarks)


def packet_index(path: str | Path, opened: Opened | None = None) -> PacketIndex:
    """Find the frames' times by demuxing the whole file once, remembered per process and file state.

    Args:
        path: the file.
        opened: it, where it is open already and its container has an index: demuxed if need be, and wound back.

    Raises:
        VideoError: the file cannot be opened, holds no frames, or none for more than half a minute.
    """
    key = (str(path), *file_state(path))
    found = _indices.get(key)
    if found is None:
        if opened is None:
            with open_video(path) as fresh:
                found = _index_packets(path, key[2], *fresh)
        else:
            found = _index_packets(path, key[2], *opened)
            opened[0].seek(0)
        if len(_indices) >= _REMEMBERED:
            _indices.clear()
        _indices[key] = found
    return found


def _index_packets(
    path: str | Path, size: int, container: av.container.InputContainer, stream: av.VideoStream
) -> PacketIndex:
    layout, several = container.format.name, len(_films(container)) > 1
    packets = _Packets(layout in _DECODING_TIMES)
    fault = None if is_utf8(path) else "its name is not UTF-8"
    try:
        for packet in container.demux(stream):
            packets.add(packet)
    except READ_ERRORS as error:
        fault = f"its packets cannot be read ({plain_reason(error)})"
    reordered, base = stream.codec_context.has_b_frames, stream.time_base
    declared, step = declared_end(container, stream), frame_length(stream)
    codec = stream.codec_context.name
    if layout == "mpeg" and codec not in _MPEG_CODECS:
        raise VideoError(path, f"frames of {codec} in an MPEG file cannot be told apart: put it into another container")
    parts = [part for part in packets.parts if part.stamps]
    if not parts:
        raise VideoError(path, "it holds no frames")
    if len(parts) > 1 and layout in STAMPED:
        raise VideoError(path, "it is several files in one: join them with a tool that writes one clock")
    times, end = np.zeros(0), 0.0
    for part in parts:
        found, length = part.times(base, step, layout not in STAMPED)
        times, end = np.concatenate([times, end + found]), end + length
    _refuse_gaps(path, times)
    if layout in _DECODING_TIMES:
        stamped = not reordered
    else:
        stamped = layout in STAMPED or (layout == "mpegts" and len(parts) == 1)
    first = parts[0].stamps
    fault = fault or packets.fault or ("it has several video streams" if several else None)
    fault = fault or (None if layout in _DECORD_SEEKS else f"decord does not find its frames in {layout}")
    fault = fault or _timing_fault(np.sort(first), declared, end)
    slack = time_slack(float(base), step)
    rest = size - packets.reached - _index_after(path, packets.reached) if packets.reached else 0
    unread = max(0, rest) / size
    return PacketIndex(times, end, slack, declared, first[0] == min(first), stamped, unread, fault)


def _index_after(path: str | Path, place: int) -> int:
    """Bytes of an MP4's own index (its box `moov`) where it comes after a place, else 0."""
    if not os.path.isfile(path):  # a member of a shard
        return 0
    with open(path, "rb") as file:
        begin = 0
        while len(header := file.read(16)) == 16:
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            length = int.from_bytes(header[8:], "big") if length == 1 else length
            if kind == b"moov":
                return length if begin >= place else 0
            if length < 8 or not kind.isalnum():
                return 0
            begin += length
            file.seek(begin)
    return 0


class _Packets:
    """Gathers a video's packets as they come from the file.

    Args:
        decoding_times: whether to take the times of decoding for those of showing.
    """

    def __init__(self, decoding_times: bool) -> None:
        self.parts, self.fault = [_Part()], None
        self.reached = 0
        self._decoding_times = decoding_times
        self._key: int | None = None
        self._last: int | None = None
        self._decoded = False
        self._torn: list[av.Packet] = []

    def add(self, packet: av.Packet) -> None:
        """Take the next packet."""
        if packet.size == 0 or packet.is_discard:
            return
        self.reached = max(self.reached, (packet.pos or 0) + packet.size)
        if packet.is_corrupt:
            # it counts when others follow: the last one of a truncated file is not whole
            self.fault = self.fault or "its packets are damaged"
            self._torn.append(packet)
            return
        for torn in self._torn:
            self._keep(torn)
        self._torn = []
        # times of decoding and of showing are no measure of each other: a first packet may have the latter alone
        decoded, order = packet.dts is not None, packet.dts if packet.dts is not None else packet.pts
        fallen = 0 if None in (self._last, order) or decoded != self._decoded else self._last - order
        # fractions are slow: most packets need none
        if fallen > 0 and fallen * packet.time_base > _FALLS_BACK:
            self.fault, self._key = "it is several files in one", None
            self.parts.append(_Part())
        self._last, self._decoded = (order, decoded) if order is not None else (self._last, self._decoded)
        self._keep(packet)

    def _keep(self, packet: av.Packet) -> None:
        stamp, part = packet.dts if self._decoding_times else packet.pts, self.parts[-1]
        if stamp is None:
            self.fault = self.fault or "its packets are without a time"
            part.unstamped += 1
            return
        self._key = stamp if packet.is_keyframe else self._key
        # decord counts these frames wrongly: 99 came out as 95
        if self._key is None or stamp < self._key:
            self.fault = self.fault or "frames come before the key frame that they need"
        part.stamps.append(stamp)
        part.ends.append(stamp + (packet.duration or 0))


@dataclass
class _Part:
    """The packets of a file, or of one of several that were joined: stamps and ends in ticks."""

    stamps: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    unstamped: int = 0

    def times(self, base: Fraction, step: float, count: bool) -> tuple[np.ndarray, float]:
        """Seconds of its frames after the first, and its length; frames without a stamp are counted where asked."""
        if count and self.unstamped:
            times = np.arange(len(self.stamps) + self.unstamped) * step
            return times, float(times[-1] + step)
        ticks = np.sort(np.asarray(self.stamps, dtype=np.int64))
        times, end = (ticks - ticks[0]) * float(base), max(self.ends)
        # in fractions, so that a whole file's end is its header's to the bit
        return times, float((end - int(ticks[0])) * base) if end > ticks[-1] else float(times[-1] + step)


def _refuse_gaps(path: str | Path, times: np.ndarray) -> None:
    gaps = np.diff(times)
    if len(gaps) and gaps.max() > _LONGEST_GAP:
        begin, end = times[gaps.argmax()], times[gaps.argmax() + 1]
        raise VideoError(path, f"it has no frame between {begin:.1f} and {end:.1f} s: cut it in two")


def file_state(path: str | Path) -> tuple[int, int]:
    """When a file was last changed, in nanoseconds (0 of a shard's member, which its place tells), and its bytes.

    Raises:
        VideoError: there is no such file.
    """
    member = shard_member(path)
    if member is not None:
        return 0, member.size
    # a pipe or device would block for ever
    if not Path(path).is_file():
        raise VideoError(path, "it is not a regular file" if Path(path).exists() else "there is no such file")
    state = Path(path).stat()
    return state.st_mtime_ns, state.st_size


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


def declared_end(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    """Seconds that the stream's header claims, or else the container's; None where neither claims anything."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


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
