"""TxD: the transformer decoder that writes an event's roles from its contextualized feature.

Sadhu et al., Visual Semantic Role Labeling for Video Understanding, CVPR 2021: 3 layers of width 1024 with 8
heads and a feed-forward width of 2048, post-norm, ReLU, sinusoidal positions, an output bottleneck of 512,
not tied to the embedding. Here training and writing both begin with the verb's token; the original's
generator begins with its end token instead.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kuleshov.core.errors import KuleshovError


@dataclass
class DecodingState:
    """What a decoder keeps between two steps: keys and values of the tokens so far, and of the memory.

    Attributes:
        past: (layers, 2, R, heads, longest, width / heads) keys and values; valid up to `position`.
        memory: (layers, 2, R, heads, M, width / heads), or None without a memory.
        position: number of tokens read so far.
    """

    past: Tensor
    memory: Tensor | None
    position: int = 0

    def select(self, rows: Tensor) -> None:
        """Keep these rows (n,), in this order; a row may be taken more than once."""
        shape = (*self.past.shape[:2], rows.shape[0], *self.past.shape[3:])
        fresh = self.past.new_empty(shape)
        fresh[..., : self.position, :] = self.past[..., : self.position, :].index_select(2, rows)
        self.past = fresh
        if self.memory is not None:
            self.memory = self.memory.index_select(2, rows)


class SelfAttention(nn.Module):
    """Causal self-attention, (R, L, width) -> (R, L, width)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, past: Tensor | None = None, position: int = 0) -> Tensor:
        """Attend to the tokens before.

        With `past` (2, R, heads, longest, d), x is the one token at `position`.
        """
        query, key, value = self.inputs(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if past is not None:
            past[0, :, :, position], past[1, :, :, position] = key[:, :, 0], value[:, :, 0]
            key, value = past[:, :, :, : position + 1]  # (R, heads, position + 1, d) each
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=past is None)
        return self.output(mixed.transpose(1, 2).flatten(2))  # (R, heads, L, d) -> (R, L, width)


class CrossAttention(nn.Module):
    """Attention of (R, L, width) to keys and values made once from a memory (R, M, width)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.memory = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def keys_values(self, memory: Tensor) -> Tensor:
        """(R, M, width) -> (2, R, heads, M, width / heads)."""
        return self.memory(memory).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor, keys_values: Tensor) -> Tensor:
        """Attend to what `keys_values` made."""
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, keys_values[0], keys_values[1], dropout_p=dropout)
        return self.output(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Self-attention, attention to the memory where there is one, feed-forward; each with post-norm."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, attends: bool) -> None:
        super().__init__()
        self.itself = SelfAttention(width, heads, dropout)
        self.itself_norm = nn.LayerNorm(width)
        self.memory = CrossAttention(width, heads, dropout) if attends else None
        self.memory_norm = nn.LayerNorm(width) if attends else None
        self.feedforward = nn.Sequential(
            nn.Linear(width, feedforward), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward, width)
        )
        self.feedforward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keys_values: Tensor | None, past: Tensor | None = None, position: int = 0) -> Tensor:
        """(R, L, width) -> (R, L, width)."""
        x = self.itself_norm(x + self.dropout(self.itself(x, past, position)))
        if self.memory is not None:
            x = self.memory_norm(x + self.dropout(self.memory(x, keys_values)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class RoleDecoder(nn.Module):
    """TxD: predicts the next token of an event's description.

    Args:
        vocabulary: V, number of tokens.
        memory_width: width of a contextualized feature; None for language only.
        width: of the tokens.
        layers: number of layers.
        heads: attention heads.
        feedforward: hidden width of the feed-forward parts.
        dropout: on attention, residual branches and the embedding.
        bottleneck: width between the last layer and the vocabulary; 0 for none.
        longest: greatest number of tokens in a sequence.
        events: 1 where an event sees its own feature alone, 5 where it sees all five (each then carries
            a learned vector for its distance from the event that is described).

    Raises:
        KuleshovError: the width is no multiple of the heads.
    """

    positions: Tensor

    def __init__(
        self,
        vocabulary: int,
        memory_width: int | None,
        width: int = 1024,
        layers: int = 3,
        heads: int = 8,
        feedforward: int = 2048,
        dropout: float = 0.1,
        bottleneck: int = 512,
        longest: int = 256,
        events: int = 1,
    ) -> None:
        super().__init__()
        if width % heads or width % 2:
            raise KuleshovError(f"TxD's width {width} must be even and a multiple of its {heads} heads")
        self.width, self.heads, self.longest, self.events = width, heads, longest, events
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.register_buffer("positions", sinusoids(longest, width), persistent=False)
        attends = memory_width is not None
        self.memory = _memory_projection(memory_width, width) if memory_width is not None else None
        # distance from the described event, -(events - 1) .. events - 1
        self.distance = nn.Embedding(2 * events - 1, width) if attends and events > 1 else None
        self.layers = nn.ModuleList(Layer(width, heads, feedforward, dropout, attends) for _ in range(layers))
        self.dropout = nn.Dropout(dropout)
        self.bottleneck = nn.Linear(width, bottleneck) if bottleneck else nn.Identity()
        self.output = nn.Linear(bottleneck or width, vocabulary)

    def memories(self, events: Tensor) -> Tensor | None:
        """What each event's description attends to: (B, N, D) -> (B * N, M, width), M = 1 or N.

        None for language only.
        """
        if self.memory is None:
            return None
        projected = self.memory(events)  # (B, N, width)
        if self.distance is None:
            return projected.flatten(0, 1).unsqueeze(1)
        number = torch.arange(events.shape[1], device=events.device)
        distance = self.distance(number[None] - number[:, None] + self.events - 1)  # (described, seen, width)
        return (projected.unsqueeze(1) + distance).flatten(0, 1)

    def forward(self, tokens: Tensor, memory: Tensor | None = None) -> Tensor:
        """Next-token scores, not normalized: tokens (R, L) long, memory (R, M, width) -> (R, L, V)."""
        self._check(memory)
        x = self.dropout(self.embedding(tokens) * math.sqrt(self.width) + self.positions[: tokens.shape[1]])
        for layer in self.layers:
            keys_values = layer.memory.keys_values(memory) if layer.memory is not None else None
            x = layer(x, keys_values)
        return self.output(self.bottleneck(x))

    def begin(self, rows: int, memory: Tensor | None = None, longest: int | None = None) -> DecodingState:
        """State before the first token of R sequences of at most `longest` tokens; memory (R, M, width)."""
        self._check(memory)
        made = [layer.memory.keys_values(memory) for layer in self.layers if layer.memory is not None]
        shape = (len(self.layers), 2, rows, self.heads, longest or self.longest, self.width // self.heads)
        return DecodingState(past=self.output.weight.new_empty(shape), memory=torch.stack(made) if made else None)

    def step(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """Read one token of each sequence (R,) and score the next: (R, V). The state moves on by one."""
        x = self.embedding(tokens) * math.sqrt(self.width) + self.positions[state.position]
        x = x.unsqueeze(1)  # (R, 1, width)
        for number, layer in enumerate(self.layers):
            keys_values = state.memory[number] if state.memory is not None else None
            x = layer(x, keys_values, state.past[number], state.position)
        state.position += 1
        return self.output(self.bottleneck(x))[:, 0]

    def _check(self, memory: Tensor | None) -> None:
        if (memory is None) != (self.memory is None):
            wants = "needs the memory that `memories` makes" if memory is None else "is blind: give it no memory"
            raise KuleshovError(f"this decoder {wants}")


def sinusoids(length: int, width: int) -> Tensor:
    """Sinusoidal positions (length, width): sines in the first half, cosines in the second."""
    frequency = torch.exp(-math.log(10000.0) * torch.arange(width // 2) / max(1, width // 2 - 1))
    angle = torch.arange(length)[:, None] * frequency[None]
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def _memory_projection(memory_width: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(memory_width, width), nn.ReLU(), nn.Linear(width, width))


def next_token_loss(logits: Tensor, tokens: Tensor, pad: int) -> Tensor:
    """Mean cross-entropy of the tokens after the verb, padding left out.

    Args:
        logits: (R, L, V) scores of the token after each position.
        tokens: (R, L) long; the first column is the verb.
        pad: the padding's id.
    """
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=pad)
