"""What the clip data sets share: epochs that reach the workers, replacing what cannot be read, views."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kuleshov.core.errors import KuleshovError, VideoError
from kuleshov.core.random import numpy_generator
from kuleshov.video.augmentation import ViewParameters, ViewPolicy, center_view, crop_clip, draw_view
from kuleshov.video.bad_files import BadFiles
from kuleshov.video.frame_source import FrameSource
from kuleshov.video.video_file import Video

_ATTEMPTS = 20
# views of a sample's generator: 0 is the time; these are apart from the augmentations' 1, 2, ...
_REPLACEMENTS = 1000


class ClipDataset(Dataset):
    """What the clip data sets share: epochs that reach the workers, and replacing what cannot be read.

    Args:
        videos: the samples, whole files or spans of them.
        source: gives their frames.
        seed: of the run.
        bad_files: where unreadable files go, a training sample then being replaced by one drawn from
            (seed, epoch, index, attempt); None to stop at the first, as evaluation must.
    """

    def __init__(
        self, videos: Sequence[Video], source: FrameSource, seed: int = 0, bad_files: BadFiles | None = None
    ) -> None:
        if not videos:
            raise KuleshovError("a data set of clips needs at least one video")
        self.videos, self.source, self.seed, self.bad_files = list(videos), source, seed, bad_files
        # in shared memory, so that workers that live on see it change
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.videos)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the samples to come, in all workers; call it before the loader is iterated."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The sample at `index`, or its replacement; `index` in the result is the one that was read."""
        epoch, started = int(self._epoch), time.perf_counter()
        for attempt in range(_ATTEMPTS):
            chosen = index if attempt == 0 else self._replacement(epoch, index, attempt)
            try:
                sample = self.sample(chosen, epoch)
            except VideoError as error:
                if self.bad_files is None:
                    raise KuleshovError(str(error)) from error
                self.bad_files.add(error)
                continue
            read = torch.tensor(time.perf_counter() - started)
            return {**sample, "index": torch.tensor(chosen), "read_s": read}
        raise KuleshovError(f"no readable video in {_ATTEMPTS} draws for sample {index}: {self.bad_files.summary()}")

    def sample(self, index: int, epoch: int) -> dict[str, Tensor]:
        """Read one sample; each data set has its own.

        Raises:
            VideoError: its file cannot be read.
        """
        raise NotImplementedError

    def _replacement(self, epoch: int, index: int, attempt: int) -> int:
        generator = numpy_generator(self.seed, epoch, index, _REPLACEMENTS + attempt)
        return int(generator.integers(len(self.videos)))

    def _generator(self, epoch: int, index: int, view: int) -> np.random.Generator:
        return numpy_generator(self.seed, epoch, index, view)

    def _span(self, video: Video) -> tuple[float, float]:
        """First and last second of what may be shown of a video's file."""
        begin = video.start or 0.0
        end = self.source.duration(video.path) if video.end is None else video.end
        if end <= begin:
            raise VideoError(video.path, f"its span {begin:g} to {end:g} s is empty")
        return begin, end


def cut_view(
    frames: np.ndarray, policy: ViewPolicy | None, generator: np.random.Generator, size: int | None = None
) -> tuple[Tensor, Tensor]:
    """Draw a view of frames (T, H, W, 3), or take their center; its clip (3, T, S, S) and vector (14,)."""
    height, width = frames.shape[1:3]
    drawn = center_view(height, width) if policy is None else draw_view(generator, height, width, policy)
    vector = drawn.vector()
    # the crop is made from the vector that is kept, so that a replay gives the same pixels
    clip = crop_clip(frames, ViewParameters.from_vector(vector), policy.size if policy else size)
    return clip, torch.from_numpy(vector)
