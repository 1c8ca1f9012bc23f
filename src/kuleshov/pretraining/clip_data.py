"""Clips for pretraining, as LightningDataModules."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, DistributedSampler

from kuleshov.core.distributed import rank, world_size
from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import sha256_ids
from kuleshov.core.random import numpy_generator
from kuleshov.core.results import global_seed
from kuleshov.datasets.registry import data_set
from kuleshov.video.augmentation import ClipAugmentation, crop_view, cvrl_views, modist_view
from kuleshov.video.bad_files import BAD_FILES_FILE, BadFiles
from kuleshov.video.clip_datasets import ClipDataset, LabeledClip, MotionInput, TwoClips, VisualMotionClips
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.frame_source import FrameSource
from kuleshov.video.optical_flow import MotionMemo, motion_path
from kuleshov.video.reader import Backend
from kuleshov.video.video_file import Video, evenly

log = logging.getLogger(__name__)
_CONSTANTS = {"none": ((0.0,) * 3, (1.0,) * 3), "kinetics": ((0.45,) * 3, (0.225,) * 3)}
# the view under which the order of samples is drawn, apart from the views of the samples themselves
_ORDER = 0xFFFF


class PretrainingClips(pl.LightningDataModule):
    """What the clips of all pretraining methods share; `predict` reads the center clip of each video.

    Args:
        videos: a list of videos (`path label`, `path`, or Kinetics' own CSV), a data set's root, or a folder.
        kind: kinetics (a list, or a folder of lists or class folders), vidsitu, lvu, folder, or
            shards (a folder or URL of what `kuleshov pack` wrote).
        split: split of a data set that is named by its root.
        video_root: where the video files lie, if not where the data set's format says.
        probe_bank: labeled list whose features answer the k-NN probe; no probe when null.
        probe_queries: labeled list whose labels it guesses; for supervised training the validation list.
        probe_limit: at most so many videos of each of the two, evenly chosen; all when null.
        batch_size: samples in a global batch, shared evenly by all processes; as many as there are, where these are
            fewer.
        num_workers: loader processes of each process.
        seed: decides order, times and views; the training's seed when null.
        num_frames: frames of a clip.
        frame_stride: steps of the nominal rate between frames.
        frame_rate: nominal steps per second, whatever the files' own rates.
        crop_size: height and width of a clip, in pixels.
        short_side: short side of the frames before the random crop, in pixels.
        eval_short_side: the same before the center crop of whoever uses the weights; short_side when null.
        pixel_normalization: none leaves values in [0, 1]; kinetics subtracts 0.45 and divides by 0.225.
        cache_mb: megabytes of decoded frames kept in memory, so that a file is decoded once; 0 for none.
        backend: video decoder.
        unreadable_limit: share of files that may be unreadable before the training stops.
    """

    def __init__(
        self,
        videos: str,
        kind: str = "kinetics",
        split: str = "train",
        video_root: str | None = None,
        probe_bank: str | None = None,
        probe_queries: str | None = None,
        probe_limit: int | None = 1000,
        batch_size: int = 64,
        num_workers: int = 8,
        seed: int | None = None,
        num_frames: int = 16,
        frame_stride: int = 4,
        frame_rate: float = 30.0,
        crop_size: int = 224,
        short_side: int = 256,
        eval_short_side: int | None = None,
        pixel_normalization: Literal["none", "kinetics"] = "none",
        cache_mb: int = 0,
        backend: Backend = "auto",
        unreadable_limit: float = 0.2,
    ) -> None:
        super().__init__()
        if (probe_bank is None) != (probe_queries is None):
            raise KuleshovError("the k-NN probe needs both probe_bank and probe_queries, or neither")
        self.data_set, self.kind = data_set(kind), kind
        self.videos_at, self.split, self.video_root = videos, split, video_root
        self.probe_lists, self.probe_limit = (probe_bank, probe_queries), probe_limit
        self.batch_size, self.num_workers, self.backend = batch_size, num_workers, backend
        self.seed = (global_seed() or 0) if seed is None else seed
        mean, std = _CONSTANTS[pixel_normalization]
        self.short_side, after = short_side, eval_short_side or short_side
        self.clip_format = ClipFormat(num_frames, frame_stride, frame_rate, crop_size, after, mean, std)
        self.augment = ClipAugmentation(pixel_normalization)
        self.cache_bytes, self.unreadable_limit = cache_mb * 10**6, unreadable_limit
        self.videos: list[Video] = []
        self.probe: list[list[Video]] = []
        self.train_clips: ClipDataset | None = None
        self._next_epoch = 0

    def training_clips(self) -> ClipDataset:
        """The training set of clips of `videos`; each method has its own."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Find the videos, once a process."""
        if self.train_clips is not None:
            return
        self.videos, missing = self.data_set.videos(self.videos_at, (self.split,), self.video_root)
        if missing:
            log.warning("%d of %d videos are not on disk", len(missing), len(missing) + len(self.videos))
        lists = [path for path in self.probe_lists if path is not None]
        self.probe = [labeled_videos(path, self.probe_limit, self.video_root) for path in lists]
        paths = [video.path for videos in (self.videos, *self.probe) for video in videos]
        self.source = FrameSource(paths, self.short_side, self.backend, self.cache_bytes)
        listed = Path(self.trainer.default_root_dir) / BAD_FILES_FILE if self.trainer is not None else None
        bad_files = BadFiles(total=len(set(paths)), path=listed, limit=self.unreadable_limit)
        self.shared = {"seed": self.seed, "bad_files": bad_files}
        self.train_clips = self.training_clips()
        most = len(self.train_clips) // world_size() * world_size()
        if 2 <= most < self.batch_size:
            log.warning(
                "%d videos are fewer than a batch of %d: batches of %d", len(self.videos), self.batch_size, most
            )
            self.batch_size = most

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the clips to come."""
        self.train_clips.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """The epoch that a training which goes on from here begins with."""
        return {"next_epoch": self.trainer.current_epoch + 1 if self.trainer is not None else 0}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Take the epoch to go on with; Lightning calls this before it makes the loaders."""
        self._next_epoch = state_dict["next_epoch"]

    def train_dataloader(self) -> DataLoader:
        """Shuffled global batches, of which this process gets its share."""
        sampler = GlobalBatchSampler(len(self.train_clips), self.batch_size, self.seed)
        # worker processes draw ahead before Lightning gives the sampler and the clips the epoch
        sampler.set_epoch(self._next_epoch)
        self.set_epoch(self._next_epoch)
        return self._loader(self.train_clips, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader | list:
        """Labeled center clips of the probe's two lists, `part` 0 and 1; nothing without a probe."""
        parts = [LabeledPart(self._center_clips(videos), part) for part, videos in enumerate(self.probe)]
        return self._loader(ConcatDataset(parts)) if parts else []

    def predict_dataloader(self) -> DataLoader:
        """The center clip of each video, whether it has a label or not."""
        return self._loader(self._center_clips([replace(video, label=0) for video in self.videos]))

    def _center_clips(self, videos: list[Video]) -> LabeledClip:
        view = crop_view(self.clip_format.crop_size)
        return LabeledClip(videos, self.source, view, self.clip_format, False, **self.shared)

    def _loader(self, dataset: Dataset, **options: Any) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=max(1, self.batch_size // world_size()),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **options,
        )

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Augment and normalize on the device: every uint8 clip becomes float."""
        done = {}
        for name, value in batch.items():
            if value.dtype == torch.uint8 and value.ndim == 5:
                motion = name.startswith("motion")
                parameters = None if motion else batch.get(name.replace("clip", "params"))
                done[name] = value.float() / 255 if motion else self.augment(value, parameters)
            elif "params" not in name:
                done[name] = value
        return done

    def shown(self, clips: Tensor) -> Tensor:
        """Normalized clips (B, 3, T, H, W) back in [0, 1], to be looked at."""
        shape = (1, 3, 1, 1, 1)
        mean, std = clips.new_tensor(self.clip_format.mean), clips.new_tensor(self.clip_format.std)
        return (clips * std.view(shape) + mean.view(shape)).clamp(0, 1)

    def describe(self) -> dict[str, Any]:
        """What a manifest records of the data."""
        ids = [video.id for video in self.videos]
        found = {"videos": self.videos_at, "kind": self.kind, "split": self.split}
        return {**found, "n": len(ids), "ids_sha256": sha256_ids(ids)}

    def probe_ids(self) -> list[str]:
        """Ids of the videos whose labels the probe guesses."""
        return [video.id for video in self.probe[1]] if self.probe else []


class ClipPairs(PretrainingClips):
    """CVRL's pairs of clips; the other arguments are those of `PretrainingClips`.

    Args:
        asymmetric: blur and solarize the two views unlike each other, as CVRL's released code does.
        area_low: least share of the frame's area that a crop takes.
        color: multiplies the strengths of CVRL's color jitter (brightness, contrast, saturation .8, hue .2).
        blur: multiplies its probabilities of blurring.
    """

    def __init__(
        self,
        videos: str,
        asymmetric: bool = True,
        area_low: float = 0.3,
        color: float = 1.0,
        blur: float = 1.0,
        **shared,
    ) -> None:
        super().__init__(videos, **shared)
        self.views = cvrl_views(self.clip_format.crop_size, asymmetric, area_low, color, blur)

    def training_clips(self) -> TwoClips:
        """Two clips a video, by the interval law."""
        return TwoClips(self.videos, self.source, self.views, self.clip_format, **self.shared)


class LabeledClips(PretrainingClips):
    """Labeled clips for supervised training; the other arguments are those of `PretrainingClips`.

    Args:
        area_low: least share of the frame's area that a crop takes.
    """

    def __init__(self, videos: str, area_low: float = 0.3, **shared) -> None:
        super().__init__(videos, **shared)
        self.view = crop_view(self.clip_format.crop_size, (area_low, 1.0))

    def training_clips(self) -> LabeledClip:
        """One clip a video, at a random time, randomly cropped and flipped."""
        return LabeledClip(self.videos, self.source, self.view, self.clip_format, True, **self.shared)


class MotionPairs(PretrainingClips):
    """MoDist's pairs of clips with their motion; the other arguments are those of `PretrainingClips`.

    Args:
        shift_low: least distance of the two moments, in seconds.
        shift_high: greatest distance, in seconds.
        jitter: probability of color jitter of the visual clips.
        gray: probability of dropping their colors.
        blur: probability of blurring them.
        area_low: least share of the frame's area that a crop takes, visual or motion.
        motion_frames: frames of a motion clip.
        motion_stride: steps of the motion's rate between its frames.
        motion_rate: flow steps per second; the flow goes from a frame to the one a step later.
        motion_size: height and width of a motion clip, in pixels.
        motion_maximum: gradient of the flow, in pixels a pixel, that becomes 1; greater ones are cut.
        motion_folder: motion computed beforehand; computed in the loader when null.
        motion_cache_mb: megabytes of motion that each loader process keeps once computed; 0 for none.
    """

    def __init__(
        self,
        videos: str,
        shift_low: float = 0.5,
        shift_high: float = 10.0,
        jitter: float = 0.8,
        gray: float = 0.2,
        blur: float = 0.5,
        area_low: float = 0.3,
        motion_frames: int = 16,
        motion_stride: int = 4,
        motion_rate: float = 30.0,
        motion_size: int = 224,
        motion_maximum: float = 2.0,
        motion_folder: str | None = None,
        motion_cache_mb: int = 0,
        **shared,
    ) -> None:
        super().__init__(videos, **shared)
        self.shift, area = (shift_low, shift_high), (area_low, 1.0)
        self.view = replace(modist_view(self.clip_format.crop_size, jitter, gray, blur), area=area)
        self.motion_view, self.motion_maximum = crop_view(motion_size, area), motion_maximum
        self.motion_folder = Path(motion_folder) if motion_folder is not None else None
        self.motion_memo = MotionMemo(motion_cache_mb * 10**6)
        size = (motion_size, self.clip_format.short_side)
        self.motion_format = ClipFormat(motion_frames, motion_stride, motion_rate, *size, *_CONSTANTS["none"])

    def training_clips(self) -> VisualMotionClips:
        """Two moments a video, each with a visual and a motion clip."""
        files = None
        if self.motion_folder is not None:
            paths = [motion_path(self.motion_folder, video.id) for video in self.videos]
            files = FrameSource(paths, None, self.backend, self.cache_bytes)
        given = (self.motion_format, self.motion_view, self.motion_maximum)
        motion = MotionInput(*given, self.motion_folder, files, self.motion_memo)
        clips = (self.clip_format, motion, self.shift)
        return VisualMotionClips(self.videos, self.source, self.view, *clips, **self.shared)


class LabeledPart(Dataset):
    """A labeled set of several in a row; samples bring its number as `part`."""

    def __init__(self, clips: LabeledClip, part: int) -> None:
        self.clips, self.part = clips, part

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {**self.clips[index], "part": torch.tensor(self.part)}


class GlobalBatchSampler(DistributedSampler):
    """Shuffles by (seed, epoch) and gives each process its contiguous share of every global batch.

    The t-th global batch holds the same samples in the same order, whatever the number of processes; the
    last, incomplete one is dropped. A subclass of `DistributedSampler` so that Lightning leaves it in place
    and sets its epoch.

    Args:
        size: number of samples.
        batch_size: samples in a global batch.
        seed: together with the epoch decides the order.

    Raises:
        KuleshovError: fewer samples than a batch, or a batch that the processes cannot share evenly.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        if batch_size % world_size():
            raise KuleshovError(
                f"a global batch of {batch_size} cannot be shared by {world_size()} processes: choose a multiple"
            )
        if size < batch_size:
            raise KuleshovError(f"{size} videos are fewer than one batch of {batch_size}: lower batch_size")
        super().__init__(range(size), num_replicas=world_size(), rank=rank(), seed=seed, drop_last=True)
        self.batch_size = batch_size
        self.steps = size // batch_size

    def __len__(self) -> int:
        """Samples that this process sees in an epoch."""
        return self.steps * self.batch_size // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        """This process's samples, batch after batch."""
        order = numpy_generator(self.seed, self.epoch, 0, view=_ORDER).permutation(len(self.dataset))
        batches = order[: self.steps * self.batch_size].reshape(self.steps, self.num_replicas, -1)
        return iter(np.ascontiguousarray(batches[:, self.rank]).ravel().tolist())


def labeled_videos(path: str | Path, limit: int | None = None, video_root: str | None = None) -> list[Video]:
    """The videos of a labeled list that are on disk, at most `limit` of them, evenly chosen."""
    videos, _ = data_set("k400").videos(path, ("val",), video_root)
    return evenly(videos, limit)
