"""Supervised pretraining on action labels, PySlowFast's Kinetics recipe."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kuleshov.backbones.loading import HEAD_PREFIX
from kuleshov.core.distributed import gather_rows
from kuleshov.core.errors import KuleshovError
from kuleshov.pretraining.pretraining_module import Optimizer, Pretraining


class Supervised(Pretraining):
    """A backbone trained to name the action of a clip.

    Args:
        backbone: name of the network.
        width: channels of its stem; full size (64) when null.
        backbone_weights: exported weights to start from; from scratch when null.
        zero_init_final_gamma: start residual blocks as their shortcuts.
        classes: number of action classes.
        dropout: share of the features dropped before the classifier.
        label_smoothing: share of the target spread over all classes.
        lr: learning rate for a global batch of `lr_batch`; scaled in proportion to the batch used.
        lr_batch: the batch that `lr` is meant for.
        momentum: of SGD.
        nesterov: Nesterov's form of it.
        optimizer: sgd, as published, or adamw, which small networks learn faster with.
        weight_decay: L2 decay of kernels.
        warmup_epochs: epochs of linear warm-up.
        sync_batchnorm: batch norm over all processes.
        channels_last: channels-last memory layout.
        compile: compile the backbone with torch.compile.
        recompute_stages: residual stages, 0 to 4, whose activations the backward pass computes again.
        health_every: steps between two measurements of the features' effective rank.
        probe_neighbors: neighbors that vote in the k-NN probe.

    Raises:
        KuleshovError: fewer than two classes; later, a label outside of them.
    """

    method = "supervised"

    def __init__(
        self,
        backbone: str = "slow_d_r50",
        width: int | None = None,
        backbone_weights: str | None = None,
        zero_init_final_gamma: bool = True,
        classes: int = 400,
        dropout: float = 0.5,
        label_smoothing: float = 0.0,
        lr: float = 0.1,
        lr_batch: int = 64,
        momentum: float = 0.9,
        nesterov: bool = True,
        optimizer: Optimizer = "sgd",
        weight_decay: float = 1e-4,
        warmup_epochs: float = 34,
        sync_batchnorm: bool = False,
        channels_last: bool = True,
        compile: bool = False,
        recompute_stages: int = 0,
        health_every: int = 50,
        probe_neighbors: int = 20,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise KuleshovError(f"a classifier needs at least 2 classes, got {classes}")
        self.save_hyperparameters()
        self.backbone = self._prepare(zero_init_final_gamma)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.backbone.feature_width, classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        self._scored: list[tuple[Tensor, ...]] = []

    def loss(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy of clips (B, 3, T, H, W) with labels (B,), logits (B, classes), features (B, D)."""
        self._check_labels(labels)
        features = self.backbone(self.laid_out(clips))
        logits = self.classifier(self.dropout(features)).float()
        smoothing = self.hparams.label_smoothing
        return F.cross_entropy(logits, labels, label_smoothing=smoothing), logits, features

    def _check_labels(self, labels: Tensor) -> None:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= self.hparams.classes:
            wrong = low if low < 0 else high
            raise KuleshovError(
                f"label {wrong} is outside of the {self.hparams.classes} classes: set model.init_args.classes"
            )

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on {clip, label}, augmented and normalized."""
        loss, logits, features = self.loss(batch["clip"], batch["label"])
        self.record(loss, {"top1": (logits.argmax(1) == batch["label"]).float().mean()})
        if self.due(batch_idx):
            self.record_health({}, features)
        self.show_pairs(batch["clip"], batch["clip"].flip(2), batch_idx)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Score the center clips of the validation list, and collect features for the probe."""
        super().validation_step(batch, batch_idx)
        logits = self.classifier(self._probe[-1][0])
        right = logits.argmax(1) == batch["label"]
        self._scored.append((right, batch["part"], batch["index"]))

    def on_validation_epoch_end(self) -> None:
        """Log `val/top1` over the validation list, each sample counted once, and the probe."""
        if self._scored:
            columns = [gather_rows(torch.cat(column)).cpu() for column in zip(*self._scored, strict=True)]
            right = {int(i): bool(hit) for hit, part, i in zip(*columns, strict=True) if int(part) == 1}
            self._scored = []
            if right:
                self.log("val/top1", sum(right.values()) / len(right), prog_bar=True)
        super().on_validation_epoch_end()

    def exports(self) -> dict[str, tuple[Any, dict]]:
        """The backbone with its classification head."""
        head = {HEAD_PREFIX + name: tensor for name, tensor in self.classifier.state_dict().items()}
        tensors = {**self.backbone.state_dict(), **head}
        return {"backbone": (tensors, self.exported(self.backbone, classes=self.hparams.classes))}
