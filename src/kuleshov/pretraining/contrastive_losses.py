"""Contrastive losses, as pure functions of L2-normalized embeddings."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kuleshov.core.errors import KuleshovError


def pair_info_nce(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """InfoNCE between two views' L2-normalized embeddings (B, D) of the global batch, summed over both directions.

    Each of the 2B embeddings has the other view of its sample as positive and the 2B - 2 embeddings of other
    samples as negatives (NT-Xent; Chen et al., SimCLR, ICML 2020). The two directions are added, as CVRL's
    published code does: twice the usual mean over 2B.
    """
    _check_pair(first, second, temperature)
    rows = first.shape[0]
    target = torch.arange(rows, device=first.device)
    own = torch.eye(rows, dtype=torch.bool, device=first.device)
    across = first @ second.T / temperature  # (B, B)
    within_first = (first @ first.T / temperature).masked_fill(own, -math.inf)
    within_second = (second @ second.T / temperature).masked_fill(own, -math.inf)
    forth = F.cross_entropy(torch.cat([across, within_first], dim=1), target)
    back = F.cross_entropy(torch.cat([across.T, within_second], dim=1), target)
    return forth + back


def queue_info_nce(
    queries: Tensor, keys: Tensor, queue: Tensor, temperature: float, batch: Tensor | None = None, first: int = 0
) -> Tensor:
    """InfoNCE of queries against their own keys and the rows of a queue (He et al., MoCo, CVPR 2020).

    Args:
        queries: (B, D) L2-normalized, with gradient.
        keys: (B, D) L2-normalized positives, row for row; taken without gradient.
        queue: (K, D) L2-normalized negatives; K may be 0, which makes the loss 0.
        temperature: divides the cosines.
        batch: (G, D) keys of the global batch, whose rows are negatives too, but for the queries' own.
        first: the place of the first query's own key in `batch`.
    """
    _check_pair(queries, keys, temperature)
    if queue.ndim != 2 or queue.shape[1] != queries.shape[1]:
        raise KuleshovError(f"queue {tuple(queue.shape)} does not fit queries {tuple(queries.shape)}")
    positive = (queries * keys.detach()).sum(dim=1, keepdim=True)  # (B, 1)
    negatives = [queries @ queue.detach().to(queries.dtype).T]  # (B, K)
    if batch is not None:
        rows = torch.arange(queries.shape[0], device=queries.device)
        others = queries @ batch.detach().to(queries.dtype).T  # (B, G)
        negatives.append(others.index_put((rows, rows + first), others.new_tensor(-math.inf)))
    logits = torch.cat([positive, *negatives], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(logits.shape[0], dtype=torch.long, device=logits.device))


def pair_chance_loss(rows: int) -> float:
    """`pair_info_nce` where all embeddings are the same: 2 log(2B - 1)."""
    return 2 * math.log(2 * rows - 1)


def queue_chance_loss(filled: int) -> float:
    """`queue_info_nce` where all embeddings are the same: log(1 + K)."""
    return math.log(1 + filled)


def _check_pair(first: Tensor, second: Tensor, temperature: float) -> None:
    if first.ndim != 2 or first.shape != second.shape or not first.shape[0]:
        raise KuleshovError(f"two (B, D) embeddings are needed, got {tuple(first.shape)}, {tuple(second.shape)}")
    if temperature <= 0:
        raise KuleshovError(f"the temperature must be positive, got {temperature}")
