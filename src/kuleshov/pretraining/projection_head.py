"""Projection heads: from features to the unit sphere on which contrast is measured."""

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
