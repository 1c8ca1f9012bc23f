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
from kuleshov.txe.transformer import TransformerLayer, sinusoidal_positions


@dataclass
class DecodingState:
    """What a decoder keeps between two steps: keys and values of the tokens so far, and of the memory."""

    past: Tensor  # (layers, 2, R, heads, longest, width / heads), valid up to `position`
    memory: Tensor | None  # (layers, 2, R, heads, M, width / heads)
    position: int = 0  # number of tokens read so far

    def select(self, rows: Tensor) -> None:
        """Keep these rows (n,), in this order; a row may be taken more than once."""
        shape = (*self.past.shape[:2], rows.shape[0], *self.past.shape[3:])
        fresh = self.past.new_empty(shape)
        fresh[..., : self.position, :] = self.past[..., : self.position, :].index_select(2, rows)
        self.past = fresh
        if self.memory is not None:
            self.memory = self.memory.index_select(2, rows)


class RoleDecoder(nn.Module):
    """TxD: predicts the next token of an event's description.

    Args:
        vocabulary: V, number of tokens.
        memory_width: width of a contextualized feature; None for language only.
        width, layers, heads, feedforward, dropout: of the transformer; dropout is on the embedding, too.
        bottleneck: width between the last layer and the vocabulary; 0 for none.
        longest: greatest number of tokens in a sequence.
        mlp: whether contextualized features pass an MLP before they are attended to; otherwise they have to have the
            width of the decoder.
        events: 1 where an event sees its own feature alone, 5 where it sees all five (each then carries
            a learned vector for its distance from the event that is described).

    Raises:
        KuleshovError: the width is odd, no multiple of the heads, or not the memory's where there is no MLP.
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
        mlp: bool = True,
    ) -> None:
        super().__init__()
        self.width, self.heads, self.longest, self.events = width, heads, longest, events
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.register_buffer("positions", sinusoidal_positions(longest, width), persistent=False)
        attends = memory_width is not None
        self.memory = None
        if attends and not mlp and memory_width != width:
            raise KuleshovError(
                f"features of width {memory_width} are attended to as they are: decoder_width is {width}"
            )
        if attends:
            self.memory = event_mlp(memory_width, width) if mlp else nn.Identity()
        # distance from the described event, -(events - 1) .. events - 1
        self.distance = nn.Embedding(2 * events - 1, width) if attends and events > 1 else None
        self.layers = nn.ModuleList(
            TransformerLayer(width, heads, feedforward, dropout, memory=attends) for _ in range(layers)
        )
        self.dropout = nn.Dropout(dropout)
        self.bottleneck = nn.Linear(width, bottleneck) if bottleneck else nn.Identity()
        self.output = nn.Linear(bottleneck or width, vocabulary)

    def memories(self, events: Tensor) -> Tensor | None:
        """What each event's description attends to: (B, N, D) -> (B * N, M, width), M = 1 or N; None without video."""
        if self.memory is None:
            return None
        projected = self.memory(events)  # (B, N, width)
        if self.distance is None:
            return projected.flatten(0, 1).unsqueeze(1)
        number = torch.arange(events.shape[1], device=events.device)
        distance = self.distance(number[None] - number[:, None] + self.events - 1)  # (described, seen, width)
        return (projected.unsqueeze(1) + distance).flatten(0, 1)

    def forward(self, tokens: Tensor, memory: Tensor | None = None) -> Tensor:
        """Next-token logits: tokens (R, L) long, memory (R, M, width) -> (R, L, V)."""
        self._check(memory)
        x = self.dropout(self.embedding(tokens) * math.sqrt(self.width) + self.positions[: tokens.shape[1]])
        for layer in self.layers:
            seen = layer.memory_keys_values(memory) if memory is not None else None
            x = layer(x, causal=True, memory_keys_values=seen)
        return self.output(self.bottleneck(x))

    def begin(self, rows: int, memory: Tensor | None = None, longest: int | None = None) -> DecodingState:
        """State before the first token of R sequences of at most `longest` tokens; memory (R, M, width)."""
        self._check(memory)
        made = [layer.memory_keys_values(memory) for layer in self.layers] if memory is not None else []
        shape = (len(self.layers), 2, rows, self.heads, longest or self.longest, self.width // self.heads)
        return DecodingState(past=self.output.weight.new_empty(shape), memory=torch.stack(made) if made else None)

    def step(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """Read one token of each sequence (R,) and score the next: (R, V). The state moves on by one."""
        x = self.embedding(tokens) * math.sqrt(self.width) + self.positions[state.position]
        x = x.unsqueeze(1)  # (R, 1, width)
        for number, layer in enumerate(self.layers):
            past = state.past[number]
            query, key, value = layer.qkv(x)
            past[0, :, :, state.position], past[1, :, :, state.position] = key[:, :, 0], value[:, :, 0]
            key, value = past[:, :, :, : state.position + 1]  # (R, heads, position + 1, width / heads) each
            seen = state.memory[number] if state.memory is not None else None
            x = layer.finish(x, layer.attend(query, key, value), seen)
        state.position += 1
        return self.output(self.bottleneck(x))[:, 0]

    def _check(self, memory: Tensor | None) -> None:
        if (memory is None) != (self.memory is None):
            wants = "needs the memory that `memories` makes" if memory is None else "is blind: give it no memory"
            raise KuleshovError(f"this decoder {wants}")


def event_mlp(width: int, hidden: int) -> nn.Sequential:
    """Linear, ReLU, Linear: event features (..., width) to (..., hidden) (the official code's video encoder)."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden))


def next_token_loss(logits: Tensor, tokens: Tensor, pad: int) -> Tensor:
    """Mean cross-entropy of the tokens after the verb, `pad` left out: logits (R, L, V), tokens (R, L) long."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=pad)
