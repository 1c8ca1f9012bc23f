"""Supervised pretraining on action labels, PySlowFast's Kinetics recipe."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from kuleshov.backbones.protocol import HEAD_PREFIX
from kuleshov.core.errors import KuleshovError
from kuleshov.metrics.answers import Answers
from kuleshov.pretraining.backbone_pretraining import BackbonePretraining


class Supervised(BackbonePretraining):
    """A backbone trained to name the action of a clip.

    Args:
        classes: number of action classes.
        dropout: share of the features dropped before the classifier.
        label_smoothing: share of the target spread over all classes.

    Raises:
        KuleshovError: fewer than two classes; later, a label outside of them.
    """

    method = "supervised"

    def __init__(self, *, classes: int = 400, dropout: float = 0.5, label_smoothing: float = 0.0, **shared) -> None:
        super().__init__(**shared)
        if classes < 2:
            raise KuleshovError(f"a classifier needs at least 2 classes, got {classes}")
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(self.backbone.feature_width, classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)
        self.hits = Answers()

    def loss(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cross-entropy of clips (B, 3, T, H, W) with labels (B,), logits (B, classes), features (B, D)."""
        wrong = int(labels.min() if labels.min() < 0 else labels.max())
        if not 0 <= wrong < self.hparams.classes:
            raise KuleshovError(
                f"label {wrong} is outside of the {self.hparams.classes} classes: set model.init_args.classes"
            )
        features = self(clips)
        logits = self.classifier(self.dropout(features)).float()
        smoothing = self.hparams.label_smoothing
        return F.cross_entropy(logits, labels, label_smoothing=smoothing), logits, features

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on {clip, label}, augmented and normalized."""
        loss, logits, features = self.loss(batch["clip"], batch["label"])
        self.record(loss, {"top1": (logits.argmax(1) == batch["label"]).float().mean()})
        if self.due(batch_idx):
            self.record_health({}, features)
        self.show_pairs(batch["clip"], batch["clip"].flip(2), batch_idx)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Collect features for the probe, and score the center clips of the validation list."""
        features = super().validation_step(batch, batch_idx)
        hits = self.classifier(features).argmax(1) == batch["label"]
        asked = batch["part"] == 1
        self.hits.update(batch["index"][asked], hits[asked])
        return features

    def on_validation_epoch_end(self) -> None:
        """Log `val/top1` over the validation list, each sample counted once, and the probe."""
        hits = self.hits.compute()["answer"]
        self.hits.reset()
        if len(hits):
            self.log("val/top1", hits.float().mean(), prog_bar=True)
        super().on_validation_epoch_end()

    def exports(self) -> dict[str, tuple[Any, dict]]:
        """The backbone with its classification head."""
        head = {HEAD_PREFIX + name: tensor for name, tensor in self.classifier.state_dict().items()}
        tensors = {**self.backbone.state_dict(), **head}
        return {"backbone": (tensors, self.exported(self.backbone, classes=self.hparams.classes))}
