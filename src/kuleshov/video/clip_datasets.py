"""Map-style data sets of clips; what a sample holds depends only on (seed, epoch, index)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kuleshov.core.errors import KuleshovError
from kuleshov.video import sampling
from kuleshov.video.augmentation import ViewPolicy, center_view, crop_clip
from kuleshov.video.bad_files import BadFiles
from kuleshov.video.clip_dataset import ClipDataset, cut_view
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.frame_source import FrameSource
from kuleshov.video.optical_flow import MotionMemo, motion_frames, motion_path
from kuleshov.video.video_file import Video

__all__ = ["ClipDataset", "EventClips", "LabeledClip", "MotionInput", "TwoClips", "VisualMotionClips"]


class TwoClips(ClipDataset):
    """CVRL's pairs: two clips of a video, their distance drawn by the interval law, each with its own view.

    A sample: clip_a, clip_b uint8 (3, T, S, S), cropped and flipped; params_a, params_b float32 (14,) for
    `ClipAugmentation`; start_a, start_b float64 seconds; index; read_s.

    Args:
        videos: see `ClipDataset`.
        source: see `ClipDataset`.
        views: what may be drawn for clip a and for clip b.
        clip: frames of both clips.
        seed: of the run.
        bad_files: see `ClipDataset`.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        source: FrameSource,
        views: tuple[ViewPolicy, ViewPolicy],
        clip: ClipFormat,
        seed: int = 0,
        bad_files: BadFiles | None = None,
    ) -> None:
        super().__init__(videos, source, seed, bad_files)
        self.views, self.clip = views, clip

    def sample(self, index: int, epoch: int) -> dict[str, Tensor]:
        """See the class."""
        video = self.videos[index]
        begin, end = self._span(video)
        starts = sampling.two_clip_starts(self._generator(epoch, index, 0), end - begin, self.clip.last_frame_seconds)
        times = [self.clip.times(begin + start, begin, end) for start in starts]
        frames = np.split(self.source.read(video.path, np.concatenate(times)), 2)
        sample = {}
        for number, (name, policy) in enumerate(zip("ab", self.views, strict=True)):
            generator = self._generator(epoch, index, 1 + number)
            clip, parameters = cut_view(frames[number], policy, generator)
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
    (14,) of the visual views; motion_params_a, motion_params_b (14,); index; read_s. Times and crops of the
    motion clips are not tied to the visual ones beyond the moment (a choice: the paper's is not known).

    Args:
        videos: see `ClipDataset`.
        source: see `ClipDataset`.
        view: what may be drawn for a visual clip.
        clip: frames of a visual clip.
        motion: the motion clips.
        shift: least and greatest distance of the two moments, in seconds.
        seed: of the run.
        bad_files: see `ClipDataset`.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        source: FrameSource,
        view: ViewPolicy,
        clip: ClipFormat,
        motion: MotionInput,
        shift: tuple[float, float] = (0.5, 10.0),
        seed: int = 0,
        bad_files: BadFiles | None = None,
    ) -> None:
        super().__init__(videos, source, seed, bad_files)
        if motion.folder is not None and motion.source is None:
            raise KuleshovError(f"motion from the folder {motion.folder} needs a source for its files")
        self.view, self.clip, self.motion, self.shift = view, clip, motion, shift

    def sample(self, index: int, epoch: int) -> dict[str, Tensor]:
        """See the class."""
        video = self.videos[index]
        begin, end = self._span(video)
        span = max(self.clip.last_frame_seconds, self.motion.clip.last_frame_seconds)
        generator = self._generator(epoch, index, 0)
        starts = sampling.shifted_clip_starts(generator, end - begin, span, span, self.shift)
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

    A sample: clip uint8 (3, T, S, S), params float32 (14,), label, index, read_s.

    Args:
        videos: labeled; see `ClipDataset`.
        source: see `ClipDataset`.
        view: what may be drawn; its size is used in evaluation too.
        clip: frames of the clip.
        train: whether to draw.
        seed: of the run.
        bad_files: see `ClipDataset`.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        source: FrameSource,
        view: ViewPolicy,
        clip: ClipFormat,
        train: bool,
        seed: int = 0,
        bad_files: BadFiles | None = None,
    ) -> None:
        super().__init__(videos, source, seed, bad_files)
        bare = next((video.id for video in videos if video.label is None), None)
        if bare is not None:
            raise KuleshovError(f"video {bare} has no label: supervised clips need a class index for each")
        self.view, self.clip, self.train = view, clip, train

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
        clip, parameters = cut_view(frames, policy, self._generator(epoch, index, 1), self.view.size)
        return {"clip": clip, "params": parameters, "label": torch.tensor(video.label)}


class EventClips(ClipDataset):
    """The clips of a segment's events, as VidSitu's loader reads them: frames squashed to a square.

    A sample: clips uint8 (N, 3, T, S, S), params float32 (N, 14), index, read_s.

    Args:
        videos: segments; see `ClipDataset`.
        source: see `ClipDataset`.
        size: pixels of the square frames.
        clip: frames around each event's center: 16 x 4 at 30 fps reads c - 32, ..., c + 28.
        events: N.
        seconds: length of a segment.
        seed: of the run.
        bad_files: see `ClipDataset`.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        source: FrameSource,
        size: int,
        clip: ClipFormat,
        events: int = 5,
        seconds: float = 10.0,
        seed: int = 0,
        bad_files: BadFiles | None = None,
    ) -> None:
        super().__init__(videos, source, seed, bad_files)
        self.size, self.clip = size, clip
        self.centers, self.seconds = sampling.event_centers(seconds, events), seconds

    def sample(self, index: int, epoch: int) -> dict[str, Tensor]:
        """See the class."""
        video, clip = self.videos[index], self.clip
        begin = video.start or 0.0
        end = begin + self.seconds
        times = [
            sampling.centered_clip_times(
                begin + center, clip.num_frames, clip.frame_stride, clip.frame_rate, begin, end
            )
            for center in self.centers
        ]
        frames = self.source.read(video.path, np.concatenate(times))
        view = center_view(*frames.shape[1:3], squash=True)
        clips = [crop_clip(part, view, self.size) for part in np.split(frames, len(times))]
        return {"clips": torch.stack(clips), "params": torch.from_numpy(view.vector()).repeat(len(clips), 1)}
