"""Segments' clips with their verbs, to fine-tune a backbone on."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kuleshov.core.errors import MissingDataError
from kuleshov.core.results import global_seed
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.tasks.segment_data import EpochOrder, spread
from kuleshov.tasks.verbs.offscreen import read_offscreen
from kuleshov.video.bad_files import BAD_FILES_FILE, BadFiles
from kuleshov.video.clip_datasets import EventClips
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.frame_source import FrameSource
from kuleshov.video.reader import Backend
from kuleshov.video.video_file import Video


class VerbClips(EventClips):
    """`EventClips` with `verbs` (5,) long where they are known, and `place`, the segment's place in the list.

    Args:
        videos: segments.
        source: gives their frames.
        size: pixels of the square frames.
        clip: frames around each event's center.
        verbs: segment -> five numbers, -1 outside the vocabulary; None where nothing is learned.
        seed: of the run.
        bad_files: where unreadable files go.
    """

    def __init__(
        self,
        videos: list[Video],
        source: FrameSource,
        size: int,
        clip: ClipFormat,
        verbs: dict[str, list[int]] | None = None,
        seed: int = 0,
        bad_files: BadFiles | None = None,
    ) -> None:
        super().__init__(videos, source, size, clip, seed=seed, bad_files=bad_files)
        self.verbs = verbs

    def sample(self, index: int, epoch: int) -> dict[str, Tensor]:
        """See the class."""
        clips = super().sample(index, epoch)["clips"]
        if self.verbs is None:
            return {"clips": clips, "place": torch.tensor(index)}
        return {"clips": clips, "verbs": torch.tensor(self.verbs[self.videos[index].id])}


class VerbClipData(pl.LightningDataModule):
    """VidSitu's segments as five clips each: `clips` uint8 (B, 5, 3, T, S, S), `verbs` (B, 5) or `place` (B,).

    Frames are squashed to squares and not augmented, as the official loader does.

    Args:
        annotations: root of VidSitu's annotations.
        videos: folder of whole sources or cut segments; `videos` under the annotations by default.
        batch_size: segments a step and device.
        num_workers: loader processes of each process.
        seed: decides the order; the training's seed when null.
        train_split: the split to train on.
        split: the split to choose the epoch by and to report.
        split_file: another list of segment ids to report on; `ann_idx` counts in it.
        train_segments: train on this many segments, evenly spread over the split; all by default.
        allow_missing: go on where videos are missing; they are counted in the results.
        vocabulary: the official verb vocabulary pickle, where it does not lie beside the annotations.
        offscreen_file: see `VerbData`.
        num_frames: frames of a clip.
        frame_stride: steps of the nominal rate between frames.
        frame_rate: nominal steps per second.
        crop_size: height and width of a clip, in pixels.
        cache_mb: megabytes of decoded frames kept in memory; 0 for none.
        backend: video decoder.
        unreadable_limit: share of files that may be unreadable before the training stops.
    """

    def __init__(
        self,
        annotations: str,
        videos: str | None = None,
        batch_size: int = 16,
        num_workers: int = 8,
        seed: int | None = None,
        train_split: str = "train",
        split: str = "valid",
        split_file: str | None = None,
        train_segments: int | None = None,
        allow_missing: bool = False,
        vocabulary: str | None = None,
        offscreen_file: str | None = None,
        num_frames: int = 16,
        frame_stride: int = 4,
        frame_rate: float = 30.0,
        crop_size: int = 224,
        cache_mb: int = 0,
        backend: Backend = "auto",
        unreadable_limit: float = 0.2,
    ) -> None:
        super().__init__()
        self.root, self.video_root = Path(annotations), videos
        self.batch_size, self.num_workers, self.backend = batch_size, num_workers, backend
        self.seed = (global_seed() or 0) if seed is None else seed
        self.train_split, self.split, self.split_file = train_split, split, split_file
        self.train_segments, self.allow_missing, self.vocabulary_file = (train_segments, allow_missing, vocabulary)
        self.offscreen_file, self.unreadable_limit = offscreen_file, unreadable_limit
        self.shape, self.cache_bytes = ClipFormat(num_frames, frame_stride, frame_rate), cache_mb * 10**6
        self.clip_format = ClipFormat(num_frames, frame_stride, frame_rate, crop_size, crop_size)
        self.annotations: VidSitu | None = None
        self._next_epoch = 0

    def setup(self, stage: str) -> None:
        """Read the annotations and find the videos, once a process."""
        if self.annotations is not None:
            return
        self.annotations = VidSitu(self.root, self.vocabulary_file)
        self.verbs = self.annotations.vocabulary()
        self.offscreen = read_offscreen(self.root, self.offscreen_file)
        self.split_ids = self.annotations.segments(self.split, self.split_file)
        trained = spread(self.annotations.segments(self.train_split), self.train_segments)
        train = self._videos(self.train_split, trained)
        test = self._videos(self.split, self.split_ids)
        self.train_ids, self.test_ids = [v.id for v in train], [v.id for v in test]
        paths = [video.path for video in (*train, *test)]
        size = self.clip_format.crop_size
        self.source = FrameSource(paths, size, self.backend, self.cache_bytes)
        bad_files = BadFiles(len(set(paths)), self._bad_files_path(), self.unreadable_limit)
        self.train_clips = VerbClips(
            train, self.source, size, self.shape, self._numbers(self.train_ids), self.seed, bad_files
        )
        self.test_clips = VerbClips(test, self.source, size, self.shape)

    def _bad_files_path(self) -> Path | None:
        folder = self.trainer.default_root_dir if self.trainer is not None else None
        return Path(folder) / BAD_FILES_FILE if folder is not None else None

    def _videos(self, split: str, ids: list[str]) -> list[Video]:
        found = {video.id: video for video in self.annotations.videos(split, self.video_root)}
        missing = [name for name in ids if name not in found]
        if missing and (not self.allow_missing or len(missing) == len(ids)):
            raise MissingDataError(
                f"the video of {len(missing)} of {len(ids)} {split} segments (first {missing[0]})",
                Path(self.video_root or self.root / "videos").absolute(),
                "name the folder with data.init_args.videos, or go on without them with allow_missing",
            )
        return [found[name] for name in ids if name in found]

    def _numbers(self, ids: list[str]) -> dict[str, list[int]]:
        number = {verb: i for i, verb in enumerate(self.verbs)}
        annotated = self.annotations.verbs(self.train_split)
        return {name: [number.get(event[0], -1) for event in annotated[name]] for name in ids}

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
        """Shuffled batches; a last batch that is not full is left out."""
        order = EpochOrder(len(self.train_clips), self.seed, shuffle=True)
        # worker processes draw ahead before Lightning tells the order and the clips of the epoch
        order.set_epoch(self._next_epoch)
        self.set_epoch(self._next_epoch)
        return self._loader(self.train_clips, order, drop_last=order.num_samples >= self.batch_size)

    def val_dataloader(self) -> DataLoader:
        """All segments of the reported split."""
        return self._loader(self.test_clips, EpochOrder(len(self.test_clips), self.seed, shuffle=False))

    def test_dataloader(self) -> DataLoader:
        """The same as for the choice of the epoch."""
        return self.val_dataloader()

    def _loader(self, clips: VerbClips, order: EpochOrder, drop_last: bool = False) -> DataLoader:
        return DataLoader(
            clips,
            batch_size=self.batch_size,
            sampler=order,
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
