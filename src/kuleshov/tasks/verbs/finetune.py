"""The backbone fine-tuned on verbs (Table 4, and the `vb finetune` rows of Table 3)."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kuleshov.backbones import build, load, manifest
from kuleshov.core.errors import KuleshovError
from kuleshov.core.weights import load_weights
from kuleshov.tasks.segment_task import SegmentTask
from kuleshov.tasks.verbs.model import VerbHead, ranked_verbs, verb_loss
from kuleshov.tasks.verbs.offscreen import split_accuracy
from kuleshov.video.clip_format import ClipFormat


class VerbsFinetune(SegmentTask):
    """Learns the verb of each event from its clip, backbone and head together; hands the backbone on.

    Args:
        backbone: name of the network; the weights' own where some are given.
        width: channels of its stem; full size (64) when null.
        backbone_weights: exported weights to start from; from scratch when null.
        backbone_lr: learning rate of the backbone; the same as the head's by default.
        channels_last: channels-last memory layout.
    """

    task = "verbs"

    def __init__(
        self,
        *,
        backbone: str = "slow_d_r50",
        width: int | None = None,
        backbone_weights: str | None = None,
        backbone_lr: float | None = None,
        channels_last: bool = True,
        **shared,
    ) -> None:
        super().__init__(**shared)
        self.backbone_weights, self.backbone_lr, self.channels_last = (backbone_weights, backbone_lr, channels_last)
        self.backbone = build(backbone, width) if backbone_weights is None else load(backbone_weights).train()
        if backbone_weights is not None:
            asked = (backbone, self.backbone.width if width is None else width)
            if asked != (self.backbone.architecture, self.backbone.width):
                raise KuleshovError(
                    f"{backbone_weights} holds {self.backbone.architecture} of width {self.backbone.width}, "
                    f"the training asks for {asked[0]} of width {asked[1]}: make them the same"
                )
        if channels_last:
            self.backbone = self.backbone.to(memory_format=torch.channels_last_3d)
        self.head: VerbHead | None = None

    def configure_model(self) -> None:
        """Make the head for the data's verbs, and check that the clips are those the weights know."""
        if self.head is not None:
            return
        data = self.trainer.datamodule
        self.clip_format = clips_of(self.backbone, data.clip_format, self.backbone_weights)
        self.verbs = list(data.verbs)
        self.head = VerbHead(self.backbone.feature_width, len(self.verbs))

    @property
    def row(self) -> str:
        """The table's row that this training belongs to."""
        return "finetuned" if self.backbone_weights is not None else "finetuned from scratch"

    def rate(self, module: torch.nn.Module) -> float:
        """The backbone's rate may differ from the head's."""
        of_backbone = module is self.backbone and self.backbone_lr is not None
        return self.backbone_lr if of_backbone else self.lr

    def weights_sha256(self) -> str | None:
        """Of the backbone that the training started from."""
        return load_weights(self.backbone_weights)[1]["sha256"] if self.backbone_weights is not None else None

    def forward(self, clips: Tensor) -> Tensor:
        """Clips uint8 (B, N, 3, T, H, W) -> verb scores (B, N, V)."""
        batch, events = clips.shape[:2]
        frames = self.clip_format.normalize(clips.flatten(0, 1))  # (B * N, 3, T, H, W)
        if self.channels_last:
            frames = frames.contiguous(memory_format=torch.channels_last_3d)
        return self.head(self.backbone(frames).unflatten(0, (batch, events)))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy per event."""
        return verb_loss(self(batch["clips"]), batch["verbs"])

    def predict(self, batch: dict[str, Tensor]) -> list[Any]:
        """Five ranked verbs for each event."""
        return ranked_verbs(self(batch["clips"]), self.verbs)

    def extra_scores(self, predicted: dict[str, Any]) -> dict[str, tuple[float, int]]:
        """Acc@1 of the events that the camera shows and of those that it does not, where that is known."""
        data = self.trainer.datamodule
        return split_accuracy(predicted, data.annotations.verbs(data.split), data.offscreen)

    def exports(self) -> dict[str, tuple[Any, dict[str, Any]]]:
        """The tuned backbone."""
        data = self.trainer.datamodule
        facts = {
            "method": "verbs-finetune",
            "data": {"annotations": str(data.root), "split": data.train_split, "n": len(data.train_ids)},
            "started_from": self.weights_sha256(),
        }
        return {"backbone": (self.backbone, manifest(self.backbone, self.clip_format, **facts))}


def clips_of(backbone: torch.nn.Module, clips: ClipFormat, weights: str | None) -> ClipFormat:
    """The format of the clips: the data's frames with the weights' normalization.

    Raises:
        KuleshovError: the weights know clips of another time grid.
    """
    if weights is None:
        return clips
    known = backbone.clip
    for name in ("num_frames", "frame_stride", "frame_rate"):
        if getattr(known, name) != getattr(clips, name):
            raise KuleshovError(
                f"{weights} knows clips of {name}={getattr(known, name)}, the data has {getattr(clips, name)}: "
                f"set data.init_args.{name}"
            )
    return replace(clips, mean=known.mean, std=known.std)
