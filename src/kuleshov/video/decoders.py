"""Going through one open video, forward in time: one class for PyAV and one for decord.

Both give the frame shown at a time t: the last one whose presentation time is <= t, the first frame being
at 0; before the first and after the last frame, these two.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from kuleshov.core.errors import VideoError
from kuleshov.video import metadata
from kuleshov.video.metadata import READ_ERRORS, plain_reason
from kuleshov.video.shard_member import shard_member

# shorter gaps than this (seconds) are decoded through, longer ones are worth looking for a key frame
_SEEK_GAP = 1.0
# a container without an index has to be asked by seeking: only for gaps longer than this (seconds)
_BLIND_SEEK_GAP = 10.0
# how long before the target to look for a key frame (seconds): its decoding time precedes its display
_SEEK_MARGINS = (0.25, 5.0)


def scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """(width, height) scaled so that the shorter one is `short_side`; unchanged for None."""
    if short_side is None:
        return width, height
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


class PyAVDecoder:
    """Decodes a video with PyAV; converts a frame to RGB only when it is asked for.

    Args:
        path: the file.
        short_side: pixels of the shorter side of the frames given; None for their own size.
        times: the seconds that will be asked for, where they are known: frames that none of them shows and that no
            other frame leans on are then left undecoded.
    """

    def __init__(self, path: str | Path, short_side: int | None = None, times: np.ndarray | None = None) -> None:
        self._path, self._short_side, self._asked = Path(path), short_side, times
        self._open()

    def _open(self) -> None:
        self._manager = metadata.open_video(self._path)
        self._container, self._stream = self._manager.__enter__()
        self._reformatter = VideoReformatter()
        self._step, self._base = metadata.frame_length(self._stream), float(self._stream.time_base)
        self._slack = metadata.time_slack(self._base, self._step)
        # where stamps cannot be relied on, the k-th frame has the k-th time of the packets
        trusted = self._container.format.name in metadata.STAMPED
        index = None if trusted else metadata.packet_index(self._path)
        self._times = None if index is None or index.stamped else index.times
        self._shown = self._shown_ticks()
        self._decoder = self._frames()
        self._clock, self._origin, self._count = 0.0, None, 0
        self._failure: VideoError | None = None
        self._next = self._decode()
        if self._next is None:
            raise VideoError(self._path, "it holds no frames")
        self._size = scaled_size(*_shown_size(self._next[1]), self._short_side)
        self._advance()

    def close(self) -> None:
        """Close the file."""
        self._manager.__exit__(None, None, None)

    def at(self, time: float) -> np.ndarray:
        """The frame shown at `time` (seconds), uint8 (H, W, 3); times must not decrease from call to call.

        A file whose frames change their size gives them all in the size of its first.

        Raises:
            VideoError: the video cannot be decoded up to there.
        """
        if time - self._time > _SEEK_GAP and self._next is not None and self._times is None:
            self._seek(time)
        while self._next is not None and self._next[0] <= time + self._slack:
            self._advance()
        if self._next is None:
            if self._failure is not None and time > self._end:
                raise self._failure
            declared = metadata.declared_end(self._container, self._stream)
            metadata.check_tail(self._path, time, self._end, declared)
        if self._image is None:
            self._image = self._convert(self._frame)
        return self._image

    def _advance(self) -> None:
        (self._time, self._frame), self._image = self._next, None
        try:
            self._next = self._decode()
        except VideoError as error:
            # the frame that is there is good: only who asks for more is told
            self._next, self._failure = None, error
        if self._next is None:
            self._end = self._time + max((self._frame.duration or 0) * self._base, self._step)

    def _shown_ticks(self) -> set[int] | None:
        """Stamps of the frames that will be shown; None where they are not known beforehand, or all are needed."""
        # in other codecs a later frame may lean on one that is marked as not referred to
        if self._asked is None or self._stream.codec_context.name != "h264":
            return None
        indexed = self._container.format.name in metadata.INDEXED
        index = metadata.packet_index(self._path, (self._container, self._stream) if indexed else None)
        if index.fault is not None:
            return None
        return set(np.rint(index.times[index.shown(self._asked)] / self._base).astype(int).tolist())

    def _frames(self) -> Iterator[av.VideoFrame]:
        codec, skipping = self._stream.codec_context, False
        codec.skip_frame = "DEFAULT"
        for packet in self._container.demux(self._stream):
            if self._shown is not None and skipping == (packet.pts in self._shown):
                skipping = not skipping
                codec.skip_frame = "NONREF" if skipping else "DEFAULT"
            yield from packet.decode()

    def _decode(self) -> tuple[float, av.VideoFrame] | None:
        try:
            frame = next(self._decoder, None)
        except READ_ERRORS as error:
            reason = f"its frames cannot be decoded after {self._clock:.2f} s ({plain_reason(error)})"
            raise VideoError(self._path, reason) from error
        if frame is None:
            return None
        if frame.is_corrupt:
            raise VideoError(self._path, f"its frames are damaged after {self._clock:.2f} s")
        self._clock, self._count = self._time_of(frame), self._count + 1
        return self._clock, frame

    def _time_of(self, frame: av.VideoFrame) -> float:
        if self._times is not None:
            return float(self._times[self._count]) if self._count < len(self._times) else self._clock + self._step
        stamp = frame.pts if frame.pts is not None else frame.dts
        if self._origin is None:
            self._origin = stamp or 0
        elif stamp is None:
            return self._clock + self._step
        return 0.0 if stamp is None else (stamp - self._origin) * self._base

    def _seek(self, time: float) -> None:
        if not self._worth_seeking(time):
            return
        for margin in _SEEK_MARGINS:
            try:
                self._container.seek(self._ticks(time - margin), stream=self._stream, backward=True)
                found = self._key_frame()
            except (VideoError, *READ_ERRORS):
                break
            if found is not None and found[0] <= time + self._slack:
                self._next = found
                return self._advance()
        # no usable key frame: through the file from its beginning
        self.close()
        self._open()

    def _key_frame(self) -> tuple[float, av.VideoFrame] | None:
        # frames shown before the key frame lean on frames that were not decoded
        self._decoder = self._frames()
        while (found := self._decode()) is not None and not found[1].key_frame:
            pass
        return found

    def _worth_seeking(self, time: float) -> bool:
        index = self._stream.index_entries
        if len(index) < 2:
            return time - self._time > _BLIND_SEEK_GAP
        place = index.search_timestamp(self._ticks(time - _SEEK_MARGINS[0]), backward=True)
        return place >= 0 and (index[place].timestamp - self._origin) * self._base > self._next[0]

    def _ticks(self, time: float) -> int:
        return self._origin + int(max(0.0, time) / self._base)

    def _convert(self, frame: av.VideoFrame) -> np.ndarray:
        turns = int(frame.rotation) // 90 % 4
        width, height = self._size[::-1] if turns % 2 else self._size
        method = "AREA" if width * height < frame.width * frame.height else "BILINEAR"
        try:
            # its own threads cost more than they give, in each of many loaders
            options = {"format": "rgb24", "interpolation": method, "threads": 1}
            image = self._reformatter.reformat(frame, width, height, **options).to_ndarray()
        except READ_ERRORS as error:
            raise VideoError(self._path, f"its pixels cannot be converted ({plain_reason(error)})") from error
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _shown_size(frame: av.VideoFrame) -> tuple[int, int]:
    """(width, height) of a frame once it is turned."""
    return (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)


class DecordDecoder:
    """Decodes a video with decord, frames found by the packets' times.

    Args:
        path: the file.
        short_side: pixels of the shorter side of the frames given; None for their own size. Scaling is
            done here: decord 0.6's own returns four channels for widths such as 48.
    """

    def __init__(self, path: str | Path, short_side: int | None = None) -> None:
        self._path, self._short_side, self._decord = Path(path), short_side, import_decord()
        self._index = metadata.packet_index(path)
        self._place, self._image = -1, None
        try:
            member = shard_member(path)
            source = str(Path(path).absolute()) if member is None else io.BytesIO(member.read())
            self._reader = self._decord.VideoReader(source, ctx=self._decord.cpu(0), num_threads=1)
            frames = len(self._reader)
        except (self._decord.DECORDError, RuntimeError, OSError) as error:
            raise VideoError(path, f"decord cannot open it ({plain_reason(error)[:120]})") from error
        if frames != len(self._index.times):
            raise VideoError(path, f"decord finds {frames} frames, its packets are {len(self._index.times)}")

    def close(self) -> None:
        """Close the file."""
        self._reader = None

    def at(self, time: float) -> np.ndarray:
        """The frame shown at `time` (seconds), uint8 (H, W, 3).

        Raises:
            VideoError: decord cannot decode it.
        """
        place = int(self._index.shown([time])[0])
        if place == len(self._index.times) - 1:
            metadata.check_tail(self._path, time, self._index.end, self._index.declared)
        if place != self._place:
            self._image, self._place = self._read(place), place
        return self._image

    def _read(self, place: int) -> np.ndarray:
        try:
            image = self._reader[place].asnumpy()
        except (self._decord.DECORDError, RuntimeError, IndexError) as error:
            reason = f"decord cannot decode frame {place} ({plain_reason(error)[:120]})"
            raise VideoError(self._path, reason) from error
        if image.shape[2] != 3:
            # decord 0.6 misreads the rows of some widths, such as 48: the pixels are wrong too
            raise VideoError(self._path, f"decord gives {image.shape[2]} channels for its width")
        width, height = scaled_size(image.shape[1], image.shape[0], self._short_side)
        if (height, width) == image.shape[:2]:
            return image
        shrinks = width * height < image.shape[0] * image.shape[1]
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def import_decord() -> ModuleType | None:
    """The decord module with its messages off, or None where it is not installed (it has few wheels)."""
    try:
        import decord
    except (ImportError, OSError):
        return None
    decord.logging.set_level(decord.logging.QUIET)
    return decord
