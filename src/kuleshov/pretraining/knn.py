"""A k-nearest-neighbor probe: what labels the nearest features carry, without any training."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kuleshov.core.errors import KuleshovError


@torch.no_grad()
def knn_predict(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, neighbors: int = 20, temperature: float = 0.07
) -> Tensor:
    """Labels by a vote of the nearest features by cosine, each vote weighing exp(cosine / temperature).

    Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018.

    Args:
        bank: (M, D) features with known labels.
        bank_labels: (M,) class indices.
        queries: (B, D) features.
        neighbors: how many vote; all, where the bank holds fewer.
        temperature: of the votes' weights.

    Returns:
        (B,) class indices; ties go to the lowest.
    """
    if bank.shape[0] == 0 or bank.shape[0] != bank_labels.shape[0]:
        raise KuleshovError(f"k-NN needs labeled features, got {bank.shape[0]} and {bank_labels.shape[0]} labels")
    cosines = F.normalize(queries.float(), dim=1) @ F.normalize(bank.float(), dim=1).T  # (B, M)
    nearest, places = cosines.topk(min(neighbors, bank.shape[0]), dim=1)  # (B, k)
    votes = cosines.new_zeros(queries.shape[0], int(bank_labels.max()) + 1)
    votes.scatter_add_(1, bank_labels[places], ((nearest - 1) / temperature).exp())
    return votes.argmax(dim=1)


def majority_accuracy(bank_labels: Tensor, labels: Tensor) -> float:
    """Accuracy of always answering the bank's most frequent label."""
    return float((labels == bank_labels.mode().values).float().mean())
