"""The head that relates the events of a segment to its third one."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PAIRS = ((0, 2), (1, 2), (2, 3), (2, 4))  # Ev1, Ev2, Ev4, Ev5 with Ev3, the earlier event first


class RelationHead(nn.Module):
    """Features of two events, concatenated in time order, to four classes (Sadhu et al., CVPR 2021).

    Args:
        width: D, width of an event feature.
        hidden: width of the hidden layers.
        classes: number of relations.
        dropout: before the last layer.
    """

    def __init__(self, width: int, hidden: int = 1024, classes: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.event = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.pair = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, classes)
        )

    def forward(self, events: Tensor) -> Tensor:
        """Five event features (B, 5, D) -> scores (B, 4, classes) of Ev1, Ev2, Ev4, Ev5 against Ev3."""
        projected = self.event(events)  # (B, 5, hidden)
        first, second = zip(*PAIRS, strict=True)
        return self.pair(torch.cat([projected[:, first], projected[:, second]], dim=-1))


def class_weights(counts: Tensor) -> Tensor:
    """Weights (classes,) inverse to the classes' frequencies, 1 on average over the labels.

    Args:
        counts: (classes,) how often each class occurs; one that never does gets weight 0.
    """
    counts = counts.float()
    weights = torch.where(counts > 0, 1.0 / counts.clamp(min=1), torch.zeros_like(counts))
    return weights * counts.sum() / (counts > 0).sum().clamp(min=1)


def relation_loss(scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the pairs that have a relation, weighted by class where weights are given.

    Args:
        scores: (B, 4, classes), not normalized.
        labels: (B, 4) long; -1 where no relation is given.
        weights: (classes,) or None.
    """
    known = labels[labels >= 0]
    total = weights[known].sum() if weights is not None else known.new_tensor(known.numel())
    loss = F.cross_entropy(scores.flatten(0, -2), labels.flatten(), weights, ignore_index=-1, reduction="sum")
    return loss / total.clamp(min=1e-6 if weights is not None else 1)
