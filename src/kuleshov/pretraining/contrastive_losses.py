"""Projection heads, from features to the unit sphere, and the contrastive losses there."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError

# TensorFlow's momentum .997 of the published CVRL code, in PyTorch's terms
HEAD_BN_MOMENTUM = 0.003


class ProjectionHead(nn.Module):
    """A multi-layer perceptron from features (B, D) to embeddings (B, output_width) of length 1.

    CVRL: three hidden layers of 2048 with batch norm before the ReLU, then 128. MoDist: one of 2048 without.
    """

    def __init__(
        self,
        input_width: int,
        hidden_width: int = 2048,
        output_width: int = 128,
        hidden_layers: int = 3,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if min(input_width, hidden_width, output_width, hidden_layers) < 1:
            raise KuleshovError(
                "a projection head needs widths and hidden layers of at least 1, got "
                f"{input_width}, {hidden_width}, {output_width} and {hidden_layers} layers"
            )
        layers: list[nn.Module] = []
        width = input_width
        for _ in range(hidden_layers):
            layers.append(nn.Linear(width, hidden_width, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(hidden_width, momentum=HEAD_BN_MOMENTUM))
            layers.append(nn.ReLU(inplace=True))
            width = hidden_width
        self.layers = nn.Sequential(*layers, nn.Linear(width, output_width))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D) to embeddings (B, output_width) of length 1."""
        embeddings = self.layers(features)
        # lengths in half precision would make cosines differ in the third digit
        half = embeddings.dtype in (torch.float16, torch.bfloat16)
        return F.normalize(embeddings.float() if half else embeddings, dim=1)


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


def _check_pair(first: Tensor, second: Tensor, temperature: float) -> None:
    if first.ndim != 2 or first.shape != second.shape or not first.shape[0]:
        raise KuleshovError(f"two (B, D) embeddings are needed, got {tuple(first.shape)}, {tuple(second.shape)}")
    if temperature <= 0:
        raise KuleshovError(f"the temperature must be positive, got {temperature}")
