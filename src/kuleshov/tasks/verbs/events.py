"""Verbs from event features: the head on the five (contextualized) features of a segment."""

from typing import Any

import torch
from torch import Tensor

from kuleshov.tasks.context_task import ContextTask
from kuleshov.tasks.verbs.model import VerbHead, ranked_verbs, verb_loss
from kuleshov.tasks.verbs.offscreen import split_accuracy


class VerbsFromEvents(ContextTask):
    """Names the verb of each event from its feature, as it is or contextualized by TxE."""

    task = "verbs"

    def __init__(self, **shared) -> None:
        super().__init__(**shared)
        self.head: VerbHead | None = None

    def build(self, width: int) -> None:
        """Make the head."""
        self.verbs = self.facts["verbs"]
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

    @torch.inference_mode()
    def name_events(self, events: Tensor, count: int = 5, step: int = 1) -> list[list[tuple[str, float]]]:
        """The likeliest verbs of every event of a movie, with their probabilities, best first.

        Args:
            events: (L, D) features on the store's grid.
            count: verbs an event.
            step: grid points between two neighbors in TxE's window.
        """
        probabilities = self.head(self.context_of(events, step)).softmax(-1)  # (L, V)
        best = probabilities.topk(min(count, len(self.verbs)), dim=-1)
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [[(self.verbs[v], p) for v, p in zip(verbs, values, strict=True)] for verbs, values in rows]
