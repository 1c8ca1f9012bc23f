"""Event relations from pairs of event features."""

from typing import Any, Literal

import torch
from torch import Tensor

from kuleshov.datasets.vidsitu_format import RELATIONS
from kuleshov.tasks.context_task import ContextTask
from kuleshov.tasks.relations.model import RelationHead, class_weights, relation_loss


class RelationsFromEvents(ContextTask):
    """Names the relation of Ev1, Ev2, Ev4 and Ev5 to Ev3, from features as they are or through TxE.

    Args:
        head_width: width of the head's hidden layers.
        head_dropout: dropout before the head's last layer.
        class_weighting: `balanced` weights the loss inversely to the classes' frequencies in training.
    """

    task = "relations"

    def __init__(
        self,
        *,
        head_width: int = 1024,
        head_dropout: float = 0.0,
        class_weighting: Literal["none", "balanced"] = "none",
        **shared,
    ) -> None:
        super().__init__(**shared)
        self.head_width, self.head_dropout, self.class_weighting = head_width, head_dropout, class_weighting
        self.head: RelationHead | None = None

    def build(self, width: int) -> None:
        """Make the head and the classes' weights."""
        self.head = RelationHead(width, self.head_width, len(RELATIONS), self.head_dropout)
        weights = None
        if self.class_weighting == "balanced":
            weights = class_weights(torch.tensor(self.facts["relation_counts"]))
        self.register_buffer("class_weights", weights)

    def forward(self, events: Tensor) -> Tensor:
        """Event features (B, 5, D) -> relation scores (B, 4, 4)."""
        return self.head(self.contextualizer(events))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy over the four pairs."""
        return relation_loss(self(batch["events"]), batch["relations"], self.class_weights)

    def predict(self, batch: dict[str, Tensor]) -> list[Any]:
        """Four relations for each segment, repeated at every annotator's place as the official file has them."""
        data = self.trainer.datamodule
        chosen = self(batch["events"]).argmax(-1).tolist()
        places = [data.places[data.test_ids[place]] for place in batch["place"].tolist()]
        return [[[RELATIONS[i]] * n for i in row] for row, n in zip(chosen, places, strict=True)]

    @torch.inference_mode()
    def relate(self, events: Tensor) -> list[str]:
        """The relations of Ev1, Ev2, Ev4 and Ev5 to Ev3, of five events (5, D)."""
        return [RELATIONS[i] for i in self(events.unsqueeze(0))[0].argmax(-1).tolist()]
