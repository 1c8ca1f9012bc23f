"""VidSitu's event relations: how Ev1, Ev2, Ev4 and Ev5 relate to Ev3, from pairs of event features."""

from collections import Counter
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kuleshov.core.errors import FormatError
from kuleshov.datasets.vidsitu_format import NO_RELATION_GIVEN, RELATIONS
from kuleshov.metrics.relation_metrics import ANNOTATORS
from kuleshov.tasks.event_task import EventTask
from kuleshov.tasks.pictures import confusion_figure
from kuleshov.tasks.segment_data import SegmentData, SegmentTask

PAIRS = ((0, 2), (1, 2), (2, 3), (2, 4))  # Ev1, Ev2, Ev4, Ev5 with Ev3, the earlier event first


class RelationHead(nn.Module):
    """Features of two events, concatenated in time order, to four classes (Sadhu et al., CVPR 2021).

    With a `text_width` each event passes the official code's second MLP, which joins it with text: here zeros.
    """

    def __init__(self, width: int, hidden: int = 1024, dropout: float = 0.0, text_width: int | None = None) -> None:
        super().__init__()
        self.text_width = text_width
        self.event = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.joint = None
        if text_width is not None:
            self.joint = nn.Sequential(nn.Linear(hidden + text_width, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.pair = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, len(RELATIONS))
        )

    def forward(self, events: Tensor) -> Tensor:
        """Five event features (B, 5, D) -> logits (B, 4, 4) of Ev1, Ev2, Ev4, Ev5 against Ev3."""
        projected = self.event(events)  # (B, 5, hidden)
        if self.joint is not None:
            projected = self.joint(F.pad(projected, (0, self.text_width)))
        first, second = zip(*PAIRS, strict=True)
        return self.pair(torch.cat([projected[:, first], projected[:, second]], dim=-1))


def class_weights(counts: Tensor) -> Tensor:
    """Weights (classes,) inverse to the classes' `counts`, 1 on average over the labels, 0 for unseen classes."""
    counts = counts.float()
    weights = torch.where(counts > 0, 1.0 / counts.clamp(min=1), torch.zeros_like(counts))
    return weights * counts.sum() / (counts > 0).sum().clamp(min=1)


def relation_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the pairs that have a relation, weighted by class where weights (classes,) are given.

    Logits are (B, 4, classes), labels (B, 4) long, -1 where no relation is given.
    """
    known = labels[labels >= 0]
    total = weights[known].sum() if weights is not None else known.new_tensor(known.numel())
    loss = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), weights, ignore_index=-1, reduction="sum")
    return loss / total.clamp(min=1e-6 if weights is not None else 1)


class RelationTask(SegmentTask, EventTask):
    """Names the relation of Ev1, Ev2, Ev4 and Ev5 to Ev3, from features as they are or through TxE.

    Args:
        head_width: width of the head's hidden layers.
        head_dropout: dropout before the head's last layer.
        head_text_width: width of the text that the official head's second MLP takes, zeros here; null leaves that MLP
            out.
        class_weighting: `balanced` weights the loss inversely to the classes' frequencies in training.
    """

    task = target = "relations"

    def __init__(
        self,
        *,
        head_width: int = 1024,
        head_dropout: float = 0.0,
        head_text_width: int | None = None,
        class_weighting: Literal["none", "balanced"] = "none",
        **shared,
    ) -> None:
        super().__init__(**shared)

    def build(self, width: int) -> None:
        given, weights = self.hparams, None
        self.head = RelationHead(width, given.head_width, given.head_dropout, given.head_text_width)
        if given.class_weighting == "balanced":
            weights = class_weights(torch.tensor(self.facts["relation_counts"]))
        self.register_buffer("class_weights", weights)

    def forward(self, events: Tensor) -> Tensor:
        """Event features (B, 5, D) -> logits (B, 4, 4)."""
        return self.head(self.contextualizer(events))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return relation_loss(self(batch["events"]), batch["relations"], self.class_weights)

    def answer(self, batch: dict[str, Tensor]) -> Tensor:
        """The four relations' numbers, (B, 4) long."""
        return self(batch["events"]).argmax(-1)

    def decode(self, sample_ids: list[str], answers: Tensor) -> dict[str, Any]:
        """Four relations for each segment, repeated at every annotator's place as the official file has them."""
        places = self.trainer.datamodule.places
        segments = zip(sample_ids, answers.tolist(), strict=True)
        return {name: [[RELATIONS[i]] * places.get(name, ANNOTATORS) for i in row] for name, row in segments}

    def show(self, predicted: dict[str, Any], board: Any) -> None:
        """The relation that most annotators give against the one named."""
        annotated = self.trainer.datamodule.annotations.relations(self.trainer.datamodule.split)
        pairs = [
            (Counter(given).most_common(1)[0][0], named[0])
            for name, answers in predicted.items()
            for given, named in zip(zip(*annotated[name], strict=True), answers, strict=True)
        ]
        board.add_figure("test/confusion", confusion_figure(pairs, "relations"), self.global_step)


class RelationData(SegmentData):
    """VidSitu's event features with `relations` (B, 4) long of Ev1, Ev2, Ev4, Ev5 to Ev3, -1 where none is given."""

    def prepare(self) -> None:
        """Count the relations, and the annotators' places that an official answer fills."""
        labels = self.targets(self.train_ids, self.train_split)["relations"]
        self.relation_counts = torch.bincount(labels[labels >= 0], minlength=len(RELATIONS)).tolist()
        annotated = self.annotations.annotations(self.split) if self.annotations.has(self.split) else {}
        self.places = {name: min(len(many), ANNOTATORS) for name, many in annotated.items()}

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "relation_counts": self.relation_counts}

    def targets(self, ids: list[str], split: str) -> dict[str, Tensor]:
        """The first annotator's relations.

        Raises:
            FormatError: a relation that VidSitu does not have.
        """
        number = {name: i for i, name in enumerate(RELATIONS)} | {NO_RELATION_GIVEN: -1}
        annotated = self.annotated(self.annotations.relations, ids, split)
        rows = [annotated[name][0] for name in ids]
        for name, labels in zip(ids, rows, strict=True):
            unknown = [label for label in labels if label not in number]
            if unknown:
                file = self.annotations.annotation_file(split)
                raise FormatError(file, f"unknown relation {unknown[0]!r}", record=name, field="EvRel")
        return {"relations": torch.tensor([[number[label] for label in labels] for labels in rows])}
