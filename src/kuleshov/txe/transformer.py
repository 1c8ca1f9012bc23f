"""The one transformer layer: TxE, TxD and the Object Transformer are stacks of it."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kuleshov.core.errors import KuleshovError

Activation = Literal["relu", "gelu"]


class TransformerLayer(nn.Module):
    """A post-norm layer (Vaswani et al., NeurIPS 2017): (B, N, H) -> (B, N, H).

    Args:
        width: H.
        heads: attention heads; divides H.
        feedforward: width of the feed-forward part.
        dropout: on the residual branches and in the feed-forward part.
        attention_dropout: of attention's weights; the same as `dropout` where it is None.
        activation: of the feed-forward part.
        memory: whether the layer also attends to a memory (a decoder's layer).
        feedforward_dropout: inside the feed-forward part; the same as `dropout` where it is None (BERT has none).

    Raises:
        KuleshovError: the width is no multiple of the heads.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feedforward: int,
        dropout: float,
        attention_dropout: float | None = None,
        activation: Activation = "relu",
        memory: bool = False,
        feedforward_dropout: float | None = None,
    ) -> None:
        super().__init__()
        if width % heads:
            raise KuleshovError(f"width {width} is not a multiple of heads {heads}: change one of them")
        self.heads, self.activation = heads, getattr(F, activation)
        self.attention_dropout = dropout if attention_dropout is None else attention_dropout
        self.to_qkv = nn.Linear(width, 3 * width)
        self.from_heads = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        if memory:
            self.memory_query = nn.Linear(width, width)
            self.memory_to_kv = nn.Linear(width, 2 * width)
            self.memory_from_heads = nn.Linear(width, width)
            self.memory_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, feedforward)
        self.narrow = nn.Linear(feedforward, width)
        self.feedforward_norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)
        self.drop_inside = nn.Dropout(dropout if feedforward_dropout is None else feedforward_dropout)

    def qkv(self, x: Tensor) -> Tensor:
        """Queries, keys and values of every head, (3, B, heads, N, H / heads)."""
        return self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def memory_keys_values(self, memory: Tensor) -> Tensor:
        """Keys and values of a memory, made once for all steps: (B, M, H) -> (2, B, heads, M, H / heads)."""
        return self.memory_to_kv(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """Scaled dot-product attention of (B, heads, N, d) to (B, heads, M, d): (B, N, H)."""
        dropout = self.attention_dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, mask, dropout, causal)
        return mixed.transpose(1, 2).flatten(2)

    def finish(self, x: Tensor, mixed: Tensor, memory_keys_values: Tensor | None = None) -> Tensor:
        """All that follows self-attention's mixing: its output, attention to a memory, the feed-forward part."""
        x = self.attention_norm(x + self.drop(self.from_heads(mixed)))
        if memory_keys_values is not None:
            query = self.memory_query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            seen = self.memory_from_heads(self.attend(query, *memory_keys_values))
            x = self.memory_norm(x + self.drop(seen))
        changed = self.narrow(self.drop_inside(self.activation(self.widen(x))))
        return self.feedforward_norm(x + self.drop(changed))

    def forward(
        self, x: Tensor, keep: Tensor | None = None, causal: bool = False, memory_keys_values: Tensor | None = None
    ) -> Tensor:
        """Attend over the N tokens, then transform each.

        Args:
            x: (B, N, H).
            keep: bool (B, N), tokens that may be attended to; all where it is None.
            causal: attend to the tokens before alone.
            memory_keys_values: what `memory_keys_values` made, for a layer with memory.
        """
        mask = None if keep is None else keep[:, None, None, :]
        return self.finish(x, self.attend(*self.qkv(x), mask, causal), memory_keys_values)

    def attention(self, x: Tensor) -> Tensor:
        """Self-attention's weights (B, heads, N, N) for the same input; a row sums to 1."""
        query, key, _ = self.qkv(x)
        return (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])).softmax(-1)


def sinusoidal_positions(length: int, width: int) -> Tensor:
    """Fixed positions (length, width): sines in the first half, cosines in the second, as fairseq has them.

    Raises:
        KuleshovError: an odd width.
    """
    if width % 2:
        raise KuleshovError(f"sinusoidal positions need an even width, got {width}")
    frequency = torch.exp(-math.log(10000.0) * torch.arange(width // 2) / max(1, width // 2 - 1))
    angle = torch.arange(length)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
