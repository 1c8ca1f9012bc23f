"""Map-style data sets of clips; what a sample holds depends only on (seed, epoch, index)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from kuleshov.core.errors import KuleshovError, VideoError
from kuleshov.core.random import numpy_generator
from kuleshov.video import sampling
from kuleshov.video.augmentation import ViewParameters, ViewPolicy, center_view, crop_clip, draw_view
from kuleshov.video.bad_files import BadFiles
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.frame_source import FrameSource
from kuleshov.video.optical_flow import MotionMemo, motion_frames, motion_path
from kuleshov.video.video_file import Video

_ATTEMPTS = 20
# views of a sample's generator: 0 is the time; these are apart from the augmentations' 1, 2, ...
_REPLACEMENTS = 1000


class ClipDataset(Dataset):
    """What the clip data sets share: epochs that reach the workers, and replacing what cannot be read.

    Args:
        videos: the samples, whole files or spans of them.
        source: gives their frames.
        clip: frames of a clip.
        seed: of the run.
        bad_files: where unreadable files are listed, a training sample then being replaced by one drawn from
            (seed, epoch, index, attempt); None to stop at the first, as evaluation must.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        source: FrameSource,
        clip: ClipFormat,
        seed: int = 0,
        bad_files: BadFiles | None = None,
    ) -> None:
        if not videos:
            raise KuleshovError("a data set of clips needs at least one video")
        self.videos, self.source, self.clip, self.seed, self.bad_files = list(videos), source, clip, seed, bad_files
        # in shared memory, so that persistent workers see it change
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self.videos)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the samples to come, in all workers; call it before the loader is iterated."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The sample at `index`, or its replacement.

        Beside what `sample` gives: `index` of the sample that was read, and `read_s`, seconds that this took.
        """
        epoch, started = int(self._epoch), time.perf_counter()
        for attempt in range(_ATTEMPTS):
            chosen = index
            if attempt:
                chosen = int(self._generator(epoch, index, _REPLACEMENTS + attempt).integers(len(self.videos)))
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

    def _generator(self, epoch: int, index: int, view: int) -> np.random.Generator:
        return numpy_generator(self.seed, epoch, index, view)

    def _span(self, video: Video) -> tuple[float, float]:
        """First and last second of what may be shown of a video's file."""
        return video.span(self.source.duration(video.path))


def cut_view(
    frames: np.ndarray,
    policy: ViewPolicy | None,
    generator: np.random.Generator,
    size: int | None = None,
    squash: bool = False,
) -> tuple[Tensor, Tensor]:
    """Draw a view of frames (T, H, W, 3), or take the center or the whole; its clip (3, T, S, S) and vector (14,)."""
    height, width = frames.shape[1:3]
    drawn = center_view(height, width, squash) if policy is None else draw_view(generator, height, width, policy)
    vector = drawn.vector()
    # the crop is made from the vector that is kept, so that a replay gives the same pixels
    clip = crop_clip(frames, ViewParameters.from_vector(vector), policy.size if policy else size)
    return clip, torch.from_numpy(vector)


class TwoClips(ClipDataset):
    """CVRL's pairs: two clips of a video, their distance drawn by the interval law, each with its own view.

    A sample: clip_a, clip_b uint8 (3, T, S, S), cropped and flipped; params_a, params_b float32 (14,) for
    `ClipAugmentation`; start_a, start_b float64 seconds.

    Args:
        views: what may be drawn for clip a and for clip b.
        clip: frames of both clips.
        videos, source, shared: see `ClipDataset`.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        source: FrameSource,
        views: tuple[ViewPolicy, ViewPolicy],
        clip: ClipFormat,
        **shared,
    ) -> None:
        super().__init__(videos, source, clip, **shared)
        self.views = views

    def sample(self, index: int, epoch: int) -> dict[str, Tensor]:
        """See the class."""
        video = self.videos[index]
        begin, end = self._span(video)
        starts = sampling.two_clip_starts(self._generator(epoch, index, 0), end - begin, self.clip.last_frame_seconds)
        times = [self.clip.times(begin + start, begin, end) for start in starts]
        frames = np.split(self.source.read(video.path, np.concatenate(times)), 2)
        sample = {}
        for number, name in enumerate("ab"):
            generator = self._generator(epoch, index, 1 + number)
            clip, parameters = cut_view(frames[number], self.views[number], generator)
            sample |= {f"clip_{name}": clip, f"params_{name}": parameters}
            sample[f"start_{name}"] = torch.tensor(begin + starts[number], dtype=torch.float64)
        return sample


@dataclass(frozen=True)
class MotionInput:
    """How the motion clips of `VisualMotionClips` are made.

    Attributes:
        clip: frames of a motion clip; flow goes from each frame to the one a step of `clip.frame_rate` later.
        view: crop and flip of the motion clips.
        maximum: see `flow_edges`.
        folder: motion written by `precompute`; None to compute it in the loader.
        source: gives the frames of the motion files; needed with `folder`.
        memo: keeps motion that the loader computed.
    """

    clip: ClipFormat
    view: ViewPolicy
    maximum: float = 2.0
    folder: Path | None = None
    source: FrameSource | None = None
    memo: MotionMemo | None = None

    def times(self, start: float, begin: float, end: float) -> np.ndarray:
        """(2 T,) seconds of the pairs between which the flow goes: first and second of each, in turn."""
        firsts = self.clip.times(start, begin, end)
        # at the very end the pair stays inside: its flow is then that of the last two steps
        firsts = np.clip(firsts, begin, max(begin, end - 1.5 / self.clip.frame_rate))
        return np.stack([firsts, firsts + 1 / self.clip.frame_rate], axis=1).ravel()


class VisualMotionClips(ClipDataset):
    """MoDist's samples: at two moments of a video, `shift` seconds apart, a visual and a motion clip each.

    A sample: clip_a, clip_b uint8 (3, T, S, S); motion_a, motion_b uint8 (3, T', S', S'); params_a, params_b
    (14,) of the visual views; motion_params_a, motion_params_b (14,). Times and crops of the motion clips are not
    tied to the visual ones beyond the moment (a choice: the paper's is not known).

    Args:
        view: what may be drawn for a visual clip.
        clip: frames of a visual clip.
        motion: the motion clips.
        shift: least and greatest distance of the two moments, in seconds.
        videos, source, shared: see `ClipDataset`.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        source: FrameSource,
        view: ViewPolicy,
        clip: ClipFormat,
        motion: MotionInput,
        shift: tuple[float, float] = (0.5, 10.0),
        **shared,
    ) -> None:
        super().__init__(videos, source, clip, **shared)
        if motion.folder is not None and motion.source is None:
            raise KuleshovError(f"motion from the folder {motion.folder} needs a source for its files")
        self.view, self.motion, self.shift = view, motion, shift

    def sample(self, index: int, epoch: int) -> dict[str, Tensor]:
        """See the class."""
        video = self.videos[index]
        begin, end = self._span(video)
        span = max(self.clip.last_frame_seconds, self.motion.clip.last_frame_seconds)
        starts = sampling.shifted_clip_starts(self._generator(epoch, index, 0), end - begin, span, self.shift)
        visual, moving = self._read(video, [begin + start for start in starts], begin, end)
        sample = {}
        for number, name in enumerate("ab"):
            clip, parameters = cut_view(visual[number], self.view, self._generator(epoch, index, 1 + number))
            sample |= {f"clip_{name}": clip, f"params_{name}": parameters}
            generator = self._generator(epoch, index, 3 + number)
            clip, parameters = cut_view(moving[number], self.motion.view, generator)
            sample |= {f"motion_{name}": clip, f"motion_params_{name}": parameters}
        return sample

    def _read(
        self, video: Video, starts: list[float], begin: float, end: float
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Frames of both visual and both motion clips, the file being read in one pass."""
        motion = self.motion
        times = [self.clip.times(start, begin, end) for start in starts]
        if motion.folder is not None:
            frames = self.source.read(video.path, np.concatenate(times))
            inside = [motion.clip.times(start, begin, end) - begin for start in starts]
            moving = motion.source.read(motion_path(motion.folder, video.id), np.concatenate(inside))
            return np.split(frames, 2), np.split(moving, 2)
        times += [motion.times(start, begin, end) for start in starts]
        frames = self.source.read(video.path, np.concatenate(times))
        *visual, first, second = np.split(frames, np.cumsum([len(part) for part in times])[:-1])
        # (2 T', H, W, 3) -> (T', 2, H, W, 3)
        pairs = [part.reshape(-1, 2, *part.shape[1:]) for part in (first, second)]
        return visual, [motion_frames(pair, motion.maximum, motion.memo) for pair in pairs]


class LabeledClip(ClipDataset):
    """One labeled clip a video: a random moment and view for training, the center of both for evaluation.

    A sample: clip uint8 (3, T, S, S), params float32 (14,), label.

    Args:
        view: what may be drawn; its size is used in evaluation too.
        clip: frames of the clip.
        train: whether to draw.
        videos, source, shared: see `ClipDataset`.
    """

    def __init__(
        self, videos: Sequence[Video], source: FrameSource, view: ViewPolicy, clip: ClipFormat, train: bool, **shared
    ) -> None:
        super().__init__(videos, source, clip, **shared)
        bare = next((video.id for video in videos if video.label is None), None)
        if bare is not None:
            raise KuleshovError(f"video {bare} has no label: supervised clips need a class index for each")
        self.view, self.train = view, train

    def sample(self, index: int, epoch: int) -> dict[str, Tensor]:
        """See the class."""
        video = self.videos[index]
        begin, end = self._span(video)
        if self.train:
            start = sampling.uniform_start(self._generator(epoch, index, 0), end - begin, self.clip.last_frame_seconds)
        else:
            start = sampling.centered_start(end - begin, self.clip.last_frame_seconds)
        frames = self.source.read(video.path, self.clip.times(begin + start, begin, end))
        policy = self.view if self.train else None
        squash = self.clip.framing == "squash"
        clip, parameters = cut_view(frames, policy, self._generator(epoch, index, 1), self.view.size, squash)
        return {"clip": clip, "params": parameters, "label": torch.tensor(video.label)}


class EventClips(ClipDataset):
    """The clips of a segment's events, as VidSitu's loader reads them: frames squashed to a square.

    A file that ends less than half an event before the segment is padded with its last frame.

    A sample: clips uint8 (N, 3, T, S, S), params float32 (N, 14).

    Args:
        size: pixels of the square frames.
        clip: frames around each event's center: 16 x 4 at 30 fps reads c - 32, ..., c + 28.
        events: N.
        seconds: length of a segment.
        videos, source, shared: see `ClipDataset`.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        source: FrameSource,
        size: int,
        clip: ClipFormat,
        events: int = 5,
        seconds: float = 10.0,
        **shared,
    ) -> None:
        super().__init__(videos, source, clip, **shared)
        self.size, self.seconds, self.centers = size, seconds, sampling.event_centers(seconds, events)

    def sample(self, index: int, epoch: int) -> dict[str, Tensor]:
        """See the class."""
        video = self.videos[index]
        video = replace(video, end=(video.start or 0.0) + self.seconds)
        begin, end = video.span(self.source.duration(video.path), self.seconds / len(self.centers) / 2)
        times = [self.clip.times_around(begin + center, begin, end) for center in self.centers]
        frames = self.source.read(video.path, np.concatenate(times))
        view = center_view(*frames.shape[1:3], squash=True)
        clips = [crop_clip(part, view, self.size) for part in np.split(frames, len(times))]
        return {"clips": torch.stack(clips), "params": torch.from_numpy(view.vector()).repeat(len(clips), 1)}
