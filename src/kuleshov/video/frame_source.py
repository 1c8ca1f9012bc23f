"""Frames of a list of files for training: read when needed, or kept in memory that all workers share."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from kuleshov.core.errors import KuleshovError, VideoError
from kuleshov.video.decoders import scaled_size
from kuleshov.video.metadata import PacketIndex, check_tail, packet_index
from kuleshov.video.reader import Backend, VideoReader

log = logging.getLogger(__name__)
_SHARED_MEMORY = "/dev/shm"


class FrameSource:
    """Gives frames by time, the same with and without cache, to the bit.

    The cache keeps every frame of the files that fit into its budget, in the order of the list; the first
    worker that needs a file decodes it whole, once for all workers.

    Args:
        paths: the distinct files.
        short_side: pixels of the shorter side of the frames given; None for their own size.
        backend: see `VideoReader`.
        cache_bytes: budget of the cache; 0 for none.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        short_side: int | None = None,
        backend: Backend = "auto",
        cache_bytes: int = 0,
    ) -> None:
        self.reader, self.short_side = VideoReader(backend), short_side
        self._place = {str(path): number for number, path in enumerate(dict.fromkeys(map(str, paths)))}
        # seconds; NaN until they are known
        self._durations = torch.full((len(self._place),), float("nan"), dtype=torch.float64).share_memory_()
        self._slots: dict[int, tuple[int, tuple[int, int, int, int]]] = {}
        self._indices: dict[int, PacketIndex] = {}
        if cache_bytes > 0:
            self._lay_out(cache_bytes)

    def duration(self, path: str | Path) -> float:
        """Seconds of a file, found once for all workers.

        Raises:
            VideoError: the file cannot be opened.
        """
        place = self._place.get(str(path))
        if place is None:
            raise KuleshovError(f"{path} is not among this source's files")
        known = float(self._durations[place])
        if known != known:
            known = self.reader.probe(path).duration
            self._durations[place] = known
        return known

    def read(self, path: str | Path, times: Sequence[float] | np.ndarray) -> np.ndarray:
        """The frames shown at `times` (T seconds), uint8 (T, H, W, 3); see `VideoReader.read`.

        Raises:
            VideoError: the file cannot be read at these times.
        """
        place = self._place.get(str(path), -1)
        if place not in self._slots:
            return self.reader.read(path, times, self.short_side)
        start, shape = self._slots[place]
        frames = self._memory[start : start + int(np.prod(shape))].numpy().reshape(shape)
        index = self._indices[place]
        if not self._filled[place]:
            try:
                frames[:] = self.reader.read(path, index.times, self.short_side)
            except VideoError:
                # damaged somewhere: the frames asked for may still be good
                return self.reader.read(path, times, self.short_side)
            self._filled[place] = True
        check_tail(Path(path), float(np.max(times)), index.end, index.declared)
        return frames[index.shown(times)]

    @property
    def cached(self) -> int:
        """Number of files that have a place in the cache."""
        return len(self._slots)

    def _lay_out(self, budget: int) -> None:
        budget, used = min(budget, _free_memory()), 0
        for path, place in self._place.items():
            try:
                index, info = packet_index(path), self.reader.probe(path)
            except VideoError:
                # reading it will say so
                continue
            width, height = scaled_size(info.width, info.height, self.short_side)
            shape = (len(index.times), height, width, 3)
            if not index.begins_shown:
                continue
            if used + int(np.prod(shape)) > budget:
                break
            self._slots[place], self._indices[place] = (used, shape), index
            self._durations[place] = info.duration
            used += int(np.prod(shape))
        self._memory = torch.empty(used, dtype=torch.uint8).share_memory_()
        self._filled = torch.zeros(len(self._place), dtype=torch.bool).share_memory_()
        log.info("%d of %d videos are kept in memory (%.0f MB)", self.cached, len(self._place), used / 1e6)


def _free_memory() -> int:
    # filling shared memory beyond its size kills the process
    return int(0.8 * shutil.disk_usage(_SHARED_MEMORY).free) if Path(_SHARED_MEMORY).is_dir() else 0
