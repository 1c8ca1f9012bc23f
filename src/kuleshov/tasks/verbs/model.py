"""The head that names an event's verb."""

from torch import Tensor, nn
from torch.nn import functional as F


class VerbHead(nn.Sequential):
    """Linear D -> D/2, ReLU, Linear -> V: (..., D) -> (..., V) scores (Sadhu et al., CVPR 2021).

    Args:
        width: D, width of an event feature.
        verbs: V, number of verbs.
    """

    def __init__(self, width: int, verbs: int) -> None:
        super().__init__(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, verbs))


def verb_loss(scores: Tensor, verbs: Tensor) -> Tensor:
    """Mean cross-entropy over the events whose verb is in the vocabulary.

    Args:
        scores: (B, N, V), not normalized.
        verbs: (B, N) long; -1 for a verb outside the vocabulary.
    """
    known = (verbs >= 0).sum().clamp(min=1)
    return F.cross_entropy(scores.flatten(0, -2), verbs.flatten(), ignore_index=-1, reduction="sum") / known


def ranked_verbs(scores: Tensor, vocabulary: list[str], count: int = 5) -> list[list[list[str]]]:
    """The `count` best verb ids of every event, best first: (B, N, V) -> B x N x count names."""
    best = scores.topk(min(count, scores.shape[-1]), dim=-1).indices.tolist()
    return [[[vocabulary[verb] for verb in event] for event in segment] for segment in best]
