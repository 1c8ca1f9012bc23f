"""Verbs from event features: the head on the five (contextualized) features of a segment."""

from typing import Any

from torch import Tensor

from kuleshov.tasks.segment_task import SegmentTask
from kuleshov.tasks.verbs.model import VerbHead, ranked_verbs, verb_loss
from kuleshov.tasks.verbs.offscreen import split_accuracy


class VerbsFromEvents(SegmentTask):
    """Names the verb of each event from its feature, as it is or contextualized by TxE."""

    task = "verbs"

    def __init__(self, **shared) -> None:
        super().__init__(**shared)
        self.head: VerbHead | None = None

    def build(self, width: int) -> None:
        """Make the head."""
        self.verbs = list(self.trainer.datamodule.verbs)
        self.head = VerbHead(width, len(self.verbs))

    def forward(self, events: Tensor) -> Tensor:
        """Event features (B, N, D) -> verb scores (B, N, V)."""
        return self.head(self.contextualizer(events))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy per event."""
        return verb_loss(self(batch["events"]), batch["verbs"])

    def predict(self, batch: dict[str, Tensor]) -> list[Any]:
        """Five ranked verbs for each event."""
        return ranked_verbs(self(batch["events"]), self.verbs)

    def extra_scores(self, predicted: dict[str, Any]) -> dict[str, tuple[float, int]]:
        """Acc@1 of the events that the camera shows and of those that it does not, where that is known."""
        data = self.trainer.datamodule
        return split_accuracy(predicted, data.annotations.verbs(data.split), data.offscreen)
