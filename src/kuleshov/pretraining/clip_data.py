"""Clips for pretraining, as LightningDataModules."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kuleshov.core.distributed import world_size
from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import sha256_ids
from kuleshov.core.results import global_seed
from kuleshov.datasets.registry import data_set
from kuleshov.pretraining.global_batch_sampler import GlobalBatchSampler
from kuleshov.video.augmentation import ClipAugmentation, crop_view, cvrl_views, modist_view
from kuleshov.video.bad_files import BAD_FILES_FILE, BadFiles
from kuleshov.video.clip_datasets import ClipDataset, LabeledClip, MotionInput, TwoClips, VisualMotionClips
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.frame_source import FrameSource
from kuleshov.video.optical_flow import MotionMemo, motion_path
from kuleshov.video.reader import Backend
from kuleshov.video.video_file import Video, evenly

log = logging.getLogger(__name__)
Normalize = Literal["none", "kinetics"]
_CONSTANTS = {"none": ((0.0,) * 3, (1.0,) * 3), "kinetics": ((0.45,) * 3, (0.225,) * 3)}


class PretrainingClips(pl.LightningDataModule):
    """What the clips of all pretraining methods share.

    Args:
        videos: a list of videos (`path label`, `path`, or Kinetics' own CSV), a data set's root, or a folder.
        kind: kinetics (a list, or a folder of lists or class folders), vidsitu, lvu or folder.
        split: split of a data set that is named by its root.
        video_root: where the video files lie, if not where the data set's format says.
        probe_bank: labeled list whose features answer the k-NN probe; no probe when null.
        probe_queries: labeled list whose labels it guesses; for supervised training the validation list.
        probe_limit: at most so many videos of each of the two, evenly chosen; all when null.
        batch_size: samples in a global batch, shared evenly by all processes.
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

    clips_per_sample = 1

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
        pixel_normalization: Normalize = "none",
        cache_mb: int = 0,
        backend: Backend = "auto",
        unreadable_limit: float = 0.2,
    ) -> None:
        super().__init__()
        if (probe_bank is None) != (probe_queries is None):
            raise KuleshovError("the k-NN probe needs both probe_bank and probe_queries, or neither")
        self.videos_at, self.kind, self.split, self.video_root = videos, kind, split, video_root
        self.probe_lists, self.probe_limit = (probe_bank, probe_queries), probe_limit
        self.global_batch, self.num_workers, self.backend = batch_size, num_workers, backend
        self.seed = (global_seed() or 0) if seed is None else seed
        self.shape = ClipFormat(num_frames, frame_stride, frame_rate)
        mean, std = _CONSTANTS[pixel_normalization]
        self.short_side, after = short_side, eval_short_side or short_side
        self.clip_format = ClipFormat(num_frames, frame_stride, frame_rate, crop_size, after, mean, std)
        self.augment = ClipAugmentation(pixel_normalization)
        self.cache_bytes, self.unreadable_limit = cache_mb * 10**6, unreadable_limit
        self.videos: list[Video] = []
        self.probe: list[list[Video]] = []
        self.train_clips: ClipDataset | None = None
        self._next_epoch = 0

    def make(self, videos: list[Video], source: FrameSource, bad_files: BadFiles) -> ClipDataset:
        """The training set of clips; each method has its own."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Find the videos, once a process."""
        if self.train_clips is not None:
            return
        self.videos, missing = data_set(self.kind).videos(self.videos_at, [self.split], self.video_root)
        if missing:
            log.warning("%d of %d videos are not on disk", len(missing), len(missing) + len(self.videos))
        self.probe = [self._probe_videos(listed) for listed in self.probe_lists if listed is not None]
        paths = [video.path for videos in (self.videos, *self.probe) for video in videos]
        self.source = FrameSource(paths, self.short_side, self.backend, self.cache_bytes)
        folder = self.trainer.default_root_dir if self.trainer is not None else None
        self.bad_files = BadFiles(
            total=len(set(paths)),
            path=Path(folder) / BAD_FILES_FILE if folder is not None else None,
            limit=self.unreadable_limit,
        )
        self.train_clips = self.make(self.videos, self.source, self.bad_files)

    def _probe_videos(self, listed: str) -> list[Video]:
        videos, _ = data_set("kinetics").videos(listed, ["val"], self.video_root)
        return evenly(videos, self.probe_limit)

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
        sampler = GlobalBatchSampler(len(self.train_clips), self.global_batch, self.seed)
        # worker processes draw ahead before Lightning tells the sampler and the clips of the epoch
        sampler.set_epoch(self._next_epoch)
        self.set_epoch(self._next_epoch)
        share = self.global_batch // world_size()
        return self._loader(self.train_clips, share, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader | list:
        """Labeled center clips of the probe's two lists; nothing without a probe."""
        if not self.probe:
            return []
        view = crop_view(self.clip_format.crop_size)
        parts = [
            LabeledClip(videos, self.source, view, self.shape, False, seed=self.seed, bad_files=self.bad_files)
            for videos in self.probe
        ]
        return self._loader(ProbeClips(parts), max(1, self.global_batch // world_size()))

    def _loader(self, dataset: Dataset, batch_size: int, **options: Any) -> DataLoader:
        return DataLoader(
            dataset,
            batch_size=batch_size,
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
        """What a manifest says about the data."""
        return {
            "videos": self.videos_at,
            "kind": self.kind,
            "split": self.split,
            "n": len(self.videos),
            "ids_sha256": sha256_ids(video.id for video in self.videos),
        }

    def probe_ids(self) -> list[str]:
        """Ids of the videos whose labels the probe guesses."""
        return [video.id for video in self.probe[1]] if self.probe else []


class ProbeClips(Dataset):
    """Two labeled sets in a row; `part` says which a sample is of: 0 the bank, 1 the queries."""

    def __init__(self, parts: list[LabeledClip]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        first = len(self.parts[0])
        part, place = (0, index) if index < first else (1, index - first)
        return {**self.parts[part][place], "part": torch.tensor(part)}


class ClipPairs(PretrainingClips):
    """CVRL's pairs of clips; the other arguments are those of `PretrainingClips`.

    Args:
        asymmetric: blur and solarize the two views unlike each other, as CVRL's released code does.
        area_low: least share of the frame's area that a crop takes.
        color: multiplies the strengths of CVRL's color jitter (brightness, contrast, saturation .8, hue .2).
        blur: multiplies its probabilities of blurring.
    """

    clips_per_sample = 2

    def __init__(
        self,
        videos: str,
        asymmetric: bool = True,
        area_low: float = 0.3,
        color: float = 1.0,
        blur: float = 1.0,
        **kwargs,
    ) -> None:
        super().__init__(videos, **kwargs)
        self.views = cvrl_views(self.clip_format.crop_size, asymmetric, area_low, color, blur)

    def make(self, videos: list[Video], source: FrameSource, bad_files: BadFiles) -> TwoClips:
        """Two clips a video, by the interval law."""
        return TwoClips(videos, source, self.views, self.shape, seed=self.seed, bad_files=bad_files)


class LabeledClips(PretrainingClips):
    """Labeled clips for supervised training; the other arguments are those of `PretrainingClips`.

    Args:
        area_low: least share of the frame's area that a crop takes.
    """

    def __init__(self, videos: str, area_low: float = 0.3, **kwargs) -> None:
        super().__init__(videos, **kwargs)
        self.area = (area_low, 1.0)

    def make(self, videos: list[Video], source: FrameSource, bad_files: BadFiles) -> LabeledClip:
        """One clip a video, at a random time, randomly cropped and flipped."""
        view = crop_view(self.clip_format.crop_size, self.area)
        return LabeledClip(videos, source, view, self.shape, True, seed=self.seed, bad_files=bad_files)


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

    clips_per_sample = 2

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
        **kwargs,
    ) -> None:
        super().__init__(videos, **kwargs)
        self.shift = (shift_low, shift_high)
        area = (area_low, 1.0)
        self.view = replace(modist_view(self.clip_format.crop_size, jitter, gray, blur), area=area)
        self.motion_shape = ClipFormat(motion_frames, motion_stride, motion_rate)
        self.motion_view, self.motion_maximum = crop_view(motion_size, area), motion_maximum
        self.motion_folder = Path(motion_folder) if motion_folder is not None else None
        self.motion_memo = MotionMemo(motion_cache_mb * 10**6)
        plain = _CONSTANTS["none"]
        after = self.clip_format.short_side
        self.motion_format = ClipFormat(motion_frames, motion_stride, motion_rate, motion_size, after, *plain)

    def make(self, videos: list[Video], source: FrameSource, bad_files: BadFiles) -> VisualMotionClips:
        """Two moments a video, each with a visual and a motion clip."""
        files = None
        if self.motion_folder is not None:
            paths = [motion_path(self.motion_folder, video.id) for video in videos]
            files = FrameSource(paths, None, self.backend, self.cache_bytes)
        shape, view, memo = self.motion_shape, self.motion_view, self.motion_memo
        motion = MotionInput(shape, view, self.motion_maximum, self.motion_folder, files, memo)
        shared = {"seed": self.seed, "bad_files": bad_files}
        return VisualMotionClips(videos, source, self.view, self.shape, motion, self.shift, **shared)
