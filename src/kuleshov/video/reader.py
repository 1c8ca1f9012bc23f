"""Reading frames at given times: one interface over decord and PyAV."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np

from kuleshov.core.errors import KuleshovError
from kuleshov.video.decoders import DecordDecoder, PyAVDecoder, import_decord
from kuleshov.video.metadata import probe

Backend = Literal["auto", "decord", "pyav"]


class VideoReader:
    """Reads frames by time, in seconds after the first frame.

    Holds no open file, so that it can be sent to workers.

    Args:
        backend: `decord`, `pyav`, or `auto`, which is PyAV: it is the faster one but for files of key frames alone,
            where the two are alike (benchmarks/bench_decoders.py), and reads what decord cannot.
    """

    probe = staticmethod(probe)

    def __init__(self, backend: Backend = "auto") -> None:
        if backend not in ("auto", "decord", "pyav"):
            raise KuleshovError(f"unknown video backend {backend!r}: choose auto, decord or pyav")
        if backend == "decord" and import_decord() is None:
            raise KuleshovError("decord is not installed here: choose the video backend auto or pyav")
        self.backend = backend

    def read(self, path: str | Path, times: Sequence[float] | np.ndarray, short_side: int | None = None) -> np.ndarray:
        """The frames shown at `times`, in any order and with repetitions, in one pass over the file.

        Args:
            path: the file.
            times: T seconds; the last frame whose time is <= t is shown at t, and the first and last
                frames before and after the ends.
            short_side: pixels of the shorter side of the frames given; None for their own size.

        Returns:
            uint8 (T, H, W, 3), RGB.

        Raises:
            VideoError: the file cannot be read at these times.
        """
        ordered = np.sort(_checked_times(path, times))
        with closing(self._decoder(path, short_side, ordered)) as decoder:
            frames = [decoder.at(time) for time in ordered]
        places = np.empty(len(ordered), dtype=np.int64)
        places[np.argsort(np.asarray(times), kind="stable")] = np.arange(len(ordered))
        return np.stack([frames[place] for place in places])

    def stream(
        self, path: str | Path, windows: Iterable[Sequence[float]], short_side: int | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Go once through a file for many, perhaps overlapping, windows.

        Each frame is decoded once; only the windows that are open at a time are held, however long the file.

        Args:
            path: the file.
            windows: for each window its times in seconds, ascending; windows in order of their first time.
            short_side: pixels of the shorter side of the frames given; None for their own size.

        Yields:
            (window's index, uint8 (T, H, W, 3)), each window as soon as its last frame is there.

        Raises:
            VideoError: the file cannot be read.
        """
        buffers: dict[int, list[np.ndarray]] = {}
        with closing(self._decoder(path, short_side)) as decoder:
            for time, window, length in _in_time_order(path, windows):
                frames = buffers.setdefault(window, [])
                frames.append(decoder.at(time))
                if len(frames) == length:
                    yield window, np.stack(buffers.pop(window))

    def _decoder(
        self, path: str | Path, short_side: int | None, times: np.ndarray | None = None
    ) -> DecordDecoder | PyAVDecoder:
        if self.backend == "decord":
            return DecordDecoder(path, short_side)
        return PyAVDecoder(path, short_side, times)


def reader_version(backend: Backend = "auto") -> str:
    """Name and version of the decoder behind a backend, for manifests."""
    name = "decord" if backend == "decord" else "av"
    return f"{name} {version(name)}"


def _checked_times(path: str | Path, times: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.asarray(times, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise KuleshovError(f"times for {path} must be one or more finite seconds, not {times!r}")
    return values


def _in_time_order(path: str | Path, windows: Iterable[Sequence[float]]) -> Iterator[tuple[float, int, int]]:
    """Merge the windows' times; gives (time, window, window's length), pulling windows only when due."""
    pending: list[tuple[float, int, int, np.ndarray]] = []
    source = ((index, _checked_times(path, times)) for index, times in enumerate(windows))
    upcoming, previous = next(source, None), -np.inf
    while pending or upcoming is not None:
        while upcoming is not None and (not pending or upcoming[1][0] <= pending[0][0]):
            index, times = upcoming
            if times[0] < previous or (np.diff(times) < 0).any():
                raise KuleshovError(f"windows for {path} must be in order of time: window {index} is not")
            heapq.heappush(pending, (float(times[0]), index, 0, times))
            upcoming, previous = next(source, None), times[0]
        time, index, place, times = heapq.heappop(pending)
        yield time, index, len(times)
        if place + 1 < len(times):
            heapq.heappush(pending, (float(times[place + 1]), index, place + 1, times))
