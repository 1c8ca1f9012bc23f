"""Movies to clips for extraction: every movie once, in order, by a few decoding threads."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from kuleshov.core.errors import KuleshovError, VideoError
from kuleshov.features.store_index import event_count
from kuleshov.video.augmentation import center_view, crop_clip
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.reader import Backend, VideoReader
from kuleshov.video.video_file import Video


@dataclass(frozen=True)
class Grid:
    """Which windows of a movie are events: length and distance in seconds, and where movies are cut off.

    Attributes:
        window: seconds of an event.
        stride: seconds between the beginnings of two events.
        durations: movie id -> seconds to keep of it (drops a trailing outro).
    """

    window: float
    stride: float
    durations: dict[str, float]


@dataclass(frozen=True)
class MovieClip:
    """Event number `event` of `events` of a movie: uint8 (T, S, S, 3)."""

    video: Video
    event: int
    events: int
    frames: np.ndarray


@dataclass(frozen=True)
class EventPlan:
    """A movie's events, as far as its file goes.

    Attributes:
        events: how many.
        begin: second of the file at which the first one begins.
        end: second at which the video ends in the file.
        remark: in what the file falls short: a padded last event, a header that claims more; empty where in nothing.
    """

    events: int
    begin: float
    end: float
    remark: str = ""

    @classmethod
    def of(cls, video: Video, grid: Grid, reader: VideoReader) -> "EventPlan":
        """Look at the file.

        A segment has the events of its nominal length, if its file ends less than half an event before it. Any other
        movie has its whole windows; and, as a clip of 9.9 seconds has five events of two, that one after the last
        side by side of which more than half is there. What is missing is padded with the last frame.

        Raises:
            VideoError: the file cannot be read, ends too early, or is shorter than one event.
        """
        info = reader.probe(video.path)
        begin, end = video.span(info.duration, grid.window / 2)
        duration, kept = (video.end or end) - begin, grid.durations.get(video.id, np.inf)
        events = event_count(min(duration, kept), grid.window, grid.stride)
        if not events:
            raise VideoError(video.path, f"too short: {min(duration, kept):.2f} s, an event takes {grid.window:g} s")
        if video.end is None and kept >= duration:
            beside = int(np.ceil(duration / grid.window - 0.5)) - 1
            events = max(events, int(beside * grid.window / grid.stride + 1e-6) + 1)
        remarks = []
        missing = begin + (events - 1) * grid.stride + grid.window - end
        if missing > 1e-3:
            remarks.append(f"its last event is padded by {missing:.2f} s")
        if info.remark and video.end is None:
            remarks.append(info.remark)
        return cls(events, begin, end, "; ".join(remarks))

    def times(self, event: int, grid: Grid, clip: ClipFormat) -> np.ndarray:
        """Seconds (T,) of a clip's frames, centered in the event and kept inside the video.

        As VidSitu's loader: T frames from half a clip before the center on (16 x 4 at 30 fps: c - 32 ... c + 28).
        """
        center = self.begin + event * grid.stride + grid.window / 2
        times = center - clip.span_seconds / 2 + np.arange(clip.num_frames) * clip.frame_seconds
        # a frame that begins at the span's end belongs to what follows it
        return np.clip(times, self.begin, self.end - 1e-3)


def movie_clips(video: Video, grid: Grid, clip: ClipFormat, reader: VideoReader) -> Iterator[MovieClip]:
    """All events of one movie in one pass over the file; only open windows are in memory.

    Raises:
        VideoError: the movie cannot be read, or has no event; see `EventPlan`.
    """
    plan = EventPlan.of(video, grid, reader)
    windows = (plan.times(event, grid, clip) for event in range(plan.events))
    for event, frames in reader.stream(video.path, windows, clip.decoded_side):
        yield MovieClip(video, event, plan.events, framed(frames, clip))


def framed(frames: np.ndarray, clip: ClipFormat) -> np.ndarray:
    """Frames (T, H, W, 3), their shorter side `clip.decoded_side`, as the clip's squares (T, S, S, 3)."""
    if clip.framing == "crop":
        return center_crop(frames, clip.crop_size)
    whole = center_view(*frames.shape[1:3], squash=True)
    return crop_clip(frames, whole, clip.crop_size).permute(1, 2, 3, 0).numpy()


def center_crop(frames: np.ndarray, size: int) -> np.ndarray:
    """The middle (T, size, size, 3) of frames (T, H, W, 3) with H, W >= size."""
    top, left = (frames.shape[1] - size) // 2, (frames.shape[2] - size) // 2
    if top < 0 or left < 0:
        raise KuleshovError(
            f"frames of {frames.shape[2]}x{frames.shape[1]} are smaller than the crop of {size}: "
            "the weights' clip format has a short_side below crop_size"
        )
    return frames[:, top : top + size, left : left + size]


def decode_movies(
    videos: Iterable[Video], grid: Grid, clip: ClipFormat, threads: int = 1, ahead: int = 64, backend: Backend = "auto"
) -> Iterator[MovieClip | tuple[Video, str]]:
    """Decode movies in `threads` threads, at most `ahead` clips ahead of whoever takes them.

    A movie's clips come in order of time; movies mix when there is more than one thread. A movie that gives no
    features comes with the reason. A video is taken when a thread is free for it.
    """
    waiting, turn = iter(videos), threading.Lock()
    ready: queue.Queue[MovieClip | tuple[Video, str] | Exception | None] = queue.Queue(ahead)
    stop = threading.Event()
    workers = [
        threading.Thread(target=_work, args=(waiting, turn, ready, stop, grid, clip, VideoReader(backend)), daemon=True)
        for _ in range(threads)
    ]
    for worker in workers:
        worker.start()
    running = len(workers)
    try:
        while running:
            item = ready.get()
            if item is None:
                running -= 1
            elif isinstance(item, Exception):
                raise item
            else:
                yield item
    finally:
        stop.set()
        while any(worker.is_alive() for worker in workers):
            with suppress(queue.Empty):  # a thread that is putting can end
                ready.get(timeout=0.05)


def _work(waiting, turn, ready, stop, grid: Grid, clip: ClipFormat, reader: VideoReader) -> None:
    """One thread: take movies until none is left; every outcome, also an error, goes through `ready`."""
    while not stop.is_set():
        video = None
        try:
            with turn:
                video = next(waiting, None)
            if video is None:
                break
            for item in movie_clips(video, grid, clip, reader):
                ready.put(item)
                if stop.is_set():
                    break
        except VideoError as error:
            ready.put((video, error.reason))
        except Exception as error:  # handed to the main thread, which raises it
            ready.put(error)
            break
    ready.put(None)
