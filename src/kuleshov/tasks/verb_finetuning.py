"""The backbone fine-tuned on VidSitu's verbs (Table 4, and the `vb finetune` rows of Table 3)."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from kuleshov.backbones.backbone_spec import BackboneSpec, origin_of, phases_of
from kuleshov.backbones.protocol import backbone_manifest, build_backbone, check_clips, load_backbone_weights
from kuleshov.core.errors import KuleshovError, MissingDataError, VideoError
from kuleshov.tasks.segment_data import EpochOrder
from kuleshov.tasks.verbs import VerbHead, VerbNaming, VerbTargets
from kuleshov.video.bad_files import BAD_FILES_FILE, BadFiles
from kuleshov.video.clip_datasets import EventClips
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.frame_source import FrameSource
from kuleshov.video.reader import Backend, VideoReader
from kuleshov.video.video_file import Video

log = logging.getLogger(__name__)
# a segment whose file ends less than this (seconds) before it is padded
_HALF_EVENT = 1.0


class VerbFinetuning(VerbNaming):
    """Learns the verb of each event from its clip, backbone and head together; hands the backbone on.

    Args:
        backbone: the network: a name of ours, or `class_path` and `init_args` of any.
        backbone_weights: exported weights of that network to start from; null takes it as it is built.
        backbone_lr: learning rate of the backbone; the same as the head's by default.
        channels_last: channels-last memory layout.
        export_by: metric that chooses the epoch whose backbone is handed on, where a `BestCheckpoint` monitors it;
            null hands on the epoch that is scored.
    """

    inputs = "clips"

    def __init__(
        self,
        *,
        backbone: BackboneSpec = "slow_d_r50",
        backbone_weights: str | None = None,
        backbone_lr: float | None = None,
        channels_last: bool = True,
        export_by: str | None = None,
        **shared,
    ) -> None:
        super().__init__(**shared)
        self.backbone = build_backbone(backbone).train()
        self.known_clip, self.trained = self.backbone.clip, ["verbs-vidsitu"]
        if backbone_weights is not None:
            manifest = load_backbone_weights(self.backbone, backbone_weights)
            self.known_clip = ClipFormat.from_dict(manifest["clip"])
            self.trained = [*phases_of(manifest), *self.trained]
        if channels_last:
            self.backbone = self.backbone.to(memory_format=torch.channels_last_3d)

    def configure_model(self) -> None:
        """Make the head for the data's verbs, and check that the clips are those the weights know."""
        if self.facts:
            return
        data = self.trainer.datamodule
        self.facts = data.facts()
        self.clip_format = clips_of(self.known_clip, data.clip_format, self.hparams.backbone_weights)
        check_clips(self.backbone, self.clip_format)
        self.head = VerbHead(self.backbone.feature_width, len(self.verbs))

    def origin(self) -> dict[str, str]:
        return {"backbone": origin_of({**self.backbone.spec, "trained": self.trained})}

    @property
    def row(self) -> str:
        return "finetuned" if self.hparams.backbone_weights is not None else "finetuned from scratch"

    def lr_of(self, module: nn.Module) -> float:
        own = module is self.backbone and self.hparams.backbone_lr is not None
        return self.hparams.backbone_lr if own else self.hparams.lr

    def forward(self, clips: Tensor) -> Tensor:
        """Clips uint8 (B, N, 3, T, H, W) -> logits (B, N, V)."""
        batch, events = clips.shape[:2]
        frames = self.clip_format.normalize(clips.flatten(0, 1))  # (B * N, 3, T, H, W)
        if self.hparams.channels_last:
            frames = frames.contiguous(memory_format=torch.channels_last_3d)
        return self.head(self.backbone(frames).unflatten(0, (batch, events)))

    def on_train_epoch_start(self) -> None:
        self.trainer.datamodule.train_rows.set_epoch(self.current_epoch)

    def exports(self) -> dict[str, tuple[Any, dict[str, Any]]]:
        data = self.trainer.datamodule
        facts = {
            "method": "verbs-finetune",
            "trained": self.trained,
            "data": {"annotations": str(data.root), "split": data.train_split, "n": len(data.train_ids)},
            "started_from": self.weights_sha256(),
        }
        return {"backbone": (self.backbone, backbone_manifest(self.backbone, self.clip_format, **facts))}


def clips_of(known: ClipFormat, clips: ClipFormat, weights: str | None) -> ClipFormat:
    """The format of the clips: the data's frames with the backbone's pixel normalization.

    Raises:
        KuleshovError: the weights know clips of another time grid.
    """
    for name in ("num_frames", "frame_stride", "frame_rate"):
        if weights is not None and getattr(known, name) != getattr(clips, name):
            raise KuleshovError(
                f"{weights} knows clips of {name}={getattr(known, name)}, the data has {getattr(clips, name)}: "
                f"set data.init_args.{name}"
            )
    return replace(clips, mean=known.mean, std=known.std)


class VerbClips(EventClips):
    """`EventClips` with further tensors (S, ...) of each segment."""

    def __init__(self, tensors: dict[str, Tensor], **options) -> None:
        super().__init__(**options)
        self.tensors = tensors

    def sample(self, index: int, epoch: int) -> dict[str, Tensor]:
        clips = super().sample(index, epoch)["clips"]
        return {"clips": clips, **{name: tensor[index] for name, tensor in self.tensors.items()}}


class VerbClipData(VerbTargets):
    """VidSitu's segments as five clips each: `clips` uint8 (B, 5, 3, T, S, S), `verbs` (B, 5) or `place` (B,).

    Frames are squashed to squares and not augmented, as the official loader does.

    Args:
        videos: folder of whole sources or cut segments; `videos` under the annotations by default.
        num_workers: loader processes of each process.
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
        *,
        videos: str | None = None,
        num_workers: int = 8,
        num_frames: int = 16,
        frame_stride: int = 4,
        frame_rate: float = 30.0,
        crop_size: int = 224,
        cache_mb: int = 0,
        backend: Backend = "auto",
        unreadable_limit: float = 0.2,
        **shared,
    ) -> None:
        super().__init__(**shared)
        self.video_root, self.num_workers, self.backend = videos, num_workers, backend
        self.clip_format = ClipFormat(num_frames, frame_stride, frame_rate, crop_size, crop_size, framing="squash")
        self.cache_bytes, self.unreadable_limit = cache_mb * 10**6, unreadable_limit
        self._next_epoch = 0

    def load(self, learns: bool) -> None:
        """Find the videos; training replaces those that cannot be read, evaluation needs them all beforehand."""
        train = self._videos(self.train_split, self.train_ids) if learns else []
        test = self._videos(self.split, self.split_ids)
        paths, size = [video.path for video in (*train, *test)], self.clip_format.crop_size
        source = FrameSource(paths, size, self.backend, self.cache_bytes)
        options = {"source": source, "size": size, "clip": self.clip_format}
        if learns:
            self.train_ids = [video.id for video in train]
            record = Path(self.trainer.default_root_dir) / BAD_FILES_FILE if self.trainer is not None else None
            bad_files = BadFiles(len(set(paths)), record, self.unreadable_limit)
            targets = self.targets(self.train_ids, self.train_split)
            self.train_rows = VerbClips(targets, videos=train, seed=self.seed, bad_files=bad_files, **options)
        self.test_ids = [video.id for video in test]
        self.test_rows = VerbClips({"place": torch.arange(len(test))}, videos=test, **options)

    def _videos(self, split: str, ids: list[str]) -> list[Video]:
        found = {video.id: video for video in self.annotations.videos(split, self.video_root)}
        reasons = {name: "no such video" for name in ids if name not in found}
        for name in [name for name in ids if name in found] if split == self.split else ():
            video = found[name]
            try:
                video.span(VideoReader.probe(video.path).duration, _HALF_EVENT)
            except VideoError as error:
                reasons[name] = error.reason
        if reasons:
            first = next(iter(reasons))
            what = f"the video of {len(reasons)} of {len(ids)} {split} segments (first {first}: {reasons[first]})"
            if not self.allow_missing or len(reasons) == len(ids):
                where = Path(self.video_root or self.root / "videos").absolute()
                how = "name the folder with data.init_args.videos, or go on without them with allow_missing"
                raise MissingDataError(what, where, how)
            log.warning("%s is missing: left out", what)
        return [found[name] for name in ids if name not in reasons]

    def state_dict(self) -> dict[str, int]:
        return {"next_epoch": self.trainer.current_epoch + 1 if self.trainer is not None else 0}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Take the epoch to go on with; Lightning calls this before it makes the loaders."""
        self._next_epoch = state_dict["next_epoch"]

    def train_dataloader(self) -> DataLoader:
        loader = super().train_dataloader()
        # worker processes draw ahead before Lightning sets the epoch of the order and of the clips
        loader.sampler.set_epoch(self._next_epoch)
        self.train_rows.set_epoch(self._next_epoch)
        return loader

    def loader(self, rows: Dataset, batch_size: int, order: EpochOrder) -> DataLoader:
        return DataLoader(
            rows,
            batch_size=batch_size,
            sampler=order,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )
