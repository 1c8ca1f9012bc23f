"""TxE, the contextualizer: a transformer encoder over the features of a few neighboring events."""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.weights import load_into, load_weights, save_weights
from kuleshov.txe.feature_normalizer import FeatureNormalizer, Normalization

Positions = Literal["learned", "sinusoidal"]


class Block(nn.Module):
    """One post-norm encoder layer (Vaswani et al., NeurIPS 2017): (B, N, H) -> (B, N, H)."""

    def __init__(self, hidden: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.to_qkv = nn.Linear(hidden, 3 * hidden)
        self.from_heads = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden)
        self.widen = nn.Linear(hidden, feedforward)
        self.narrow = nn.Linear(feedforward, hidden)
        self.feedforward_norm = nn.LayerNorm(hidden)
        self.drop = nn.Dropout(dropout)

    def split(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of every head, each (B, heads, N, H / heads)."""
        batch, events, width = hidden.shape
        shaped = self.to_qkv(hidden).view(batch, events, 3, self.heads, width // self.heads)
        queries, keys, values = shaped.permute(2, 0, 3, 1, 4)  # (3, B, heads, N, H/heads)
        return queries, keys, values

    def forward(self, hidden: Tensor) -> Tensor:
        """Attend over the N events, then transform each."""
        queries, keys, values = self.split(hidden)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)
        mixed = mixed.transpose(1, 2).reshape(hidden.shape)  # (B, N, H)
        hidden = self.attention_norm(hidden + self.drop(self.from_heads(mixed)))
        changed = self.narrow(self.drop(F.relu(self.widen(hidden))))
        return self.feedforward_norm(hidden + self.drop(changed))

    def attention(self, hidden: Tensor) -> Tensor:
        """Attention weights (B, heads, N, N) for the same input; a row sums to 1."""
        queries, keys, _ = self.split(hidden)
        return (queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])).softmax(-1)


class TxE(nn.Module):
    """Contextualizes event features (B, N, D) -> (B, N, H), and fills in events that are hidden.

    Section 3.3 of the paper: input Linear D -> H, positions, post-norm encoder; a masked event is replaced
    by a learned vector behind the input Linear, so that nothing of it enters; `reconstruct` maps back to D.
    ReLU in the feed-forward part as in VidSitu's encoder (the paper does not say).

    Args:
        input_width: D, width of an event feature.
        hidden: H.
        layers: number of encoder layers.
        heads: number of attention heads; divides H.
        feedforward: width of the feed-forward part.
        dropout: after the positions, in attention, and in the feed-forward part.
        max_events: longest window it can be run on.
        positions: `learned` (the paper: better) or `sinusoidal`.
        normalize: statistics applied to its input, see `FeatureNormalizer`.
    """

    position: Tensor

    def __init__(
        self,
        input_width: int,
        hidden: int = 1024,
        layers: int = 3,
        heads: int = 16,
        feedforward: int = 2048,
        dropout: float = 0.1,
        max_events: int = 5,
        positions: Positions = "learned",
        normalize: Normalization = "none",
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise KuleshovError(f"hidden={hidden} is not a multiple of heads={heads}: change one of them")
        self.arguments: dict[str, Any] = {
            "input_width": input_width,
            "hidden": hidden,
            "layers": layers,
            "heads": heads,
            "feedforward": feedforward,
            "dropout": dropout,
            "max_events": max_events,
            "positions": positions,
            "normalize": normalize,
        }
        self.input_width, self.out_width, self.max_events = input_width, hidden, max_events
        self.normalizer = FeatureNormalizer(input_width, normalize)
        self.project = nn.Linear(input_width, hidden)
        self.mask_vector = nn.Parameter(torch.zeros(hidden))
        if positions == "learned":
            self.position = nn.Parameter(torch.zeros(max_events, hidden))
            nn.init.trunc_normal_(self.position, std=0.02)
        elif positions == "sinusoidal":
            self.register_buffer("position", sinusoids(max_events, hidden))
        else:
            raise KuleshovError(f"positions is learned or sinusoidal, not {positions!r}")
        nn.init.trunc_normal_(self.mask_vector, std=0.02)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(hidden, heads, feedforward, dropout) for _ in range(layers))
        self.output = nn.Linear(hidden, input_width)

    def embed(self, events: Tensor) -> Tensor:
        """Normalize and project event features (..., D) -> (..., H), before mask and positions."""
        if events.shape[-1] != self.input_width:
            raise KuleshovError(
                f"TxE was built for features of width {self.input_width}, got {events.shape[-1]}: "
                "use the store that it was trained on, or retrain it"
            )
        return self.project(self.normalizer(events))

    def begin(self, embedded: Tensor, masked: Tensor | None = None) -> Tensor:
        """Put the mask vector where `masked` (B, N) is true, and add positions: (B, N, H) -> (B, N, H)."""
        events = embedded.shape[1]
        if events > self.max_events:
            raise KuleshovError(
                f"a window of {events} events is longer than max_events={self.max_events}: "
                "slide over it with Contextualizer.contextualize_long"
            )
        if masked is not None:
            embedded = torch.where(masked.unsqueeze(-1), self.mask_vector.to(embedded.dtype), embedded)
        return self.drop(embedded + self.position[:events])

    def encode(self, embedded: Tensor, masked: Tensor | None = None) -> Tensor:
        """The encoder on embedded events (B, N, H) -> (B, N, H)."""
        hidden = self.begin(embedded, masked)
        for block in self.blocks:
            hidden = block(hidden)
        return hidden

    def forward(self, events: Tensor, masked: Tensor | None = None) -> Tensor:
        """Contextualize event features (B, N, D) -> (B, N, H); `masked` (B, N) hides events."""
        return self.encode(self.embed(events), masked)

    def reconstruct(self, hidden: Tensor) -> Tensor:
        """Map contextualized features (..., H) back to L2-normalized event features (..., D)."""
        return F.normalize(self.output(hidden), dim=-1)

    def targets(self, events: Tensor) -> Tensor:
        """What `reconstruct` should give: normalized, L2-normalized features (..., D), without gradient."""
        return F.normalize(self.normalizer(events), dim=-1).detach()

    @torch.no_grad()
    def attention_maps(self, events: Tensor, masked: Tensor | None = None) -> Tensor:
        """Attention weights of all layers for (B, N, D): (layers, B, heads, N, N)."""
        hidden = self.begin(self.embed(events), masked)
        maps = []
        for block in self.blocks:
            maps.append(block.attention(hidden))
            hidden = block(hidden)
        return torch.stack(maps)


def sinusoids(length: int, width: int) -> Tensor:
    """Fixed positions (length, width): sines in the even, cosines in the odd columns (Vaswani et al.)."""
    place = torch.arange(length, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(10000.0) / width))
    table = torch.zeros(length, width)
    table[:, 0::2] = torch.sin(place * rate)
    table[:, 1::2] = torch.cos(place * rate)[:, : width // 2]
    return table


def save(path: str | Path, txe: TxE, manifest: dict[str, Any]) -> dict[str, Any]:
    """Write a TxE and how to build it again; returns the manifest as written."""
    return save_weights(path, txe.state_dict(), {**describe(txe), **manifest})


def describe(txe: TxE) -> dict[str, Any]:
    """The part of a manifest that tells how to build this TxE."""
    return {"architecture": "txe", "arguments": dict(txe.arguments)}


def load(path: str | Path, dropout: float | None = None) -> TxE:
    """Build the TxE that was written at `path`, with its weights, in evaluation mode.

    Args:
        path: a `.safetensors` file written by masked-event pretraining.
        dropout: replaces the dropout it was trained with.

    Raises:
        WeightsError: the file holds something else.
    """
    tensors, manifest = load_weights(path)
    if manifest.get("architecture") != "txe":
        raise WeightsError(
            f"{path} holds {manifest.get('architecture', 'unnamed')} weights, not a TxE: "
            "name the file that pretrain-txe has written"
        )
    arguments = dict(manifest["arguments"])
    if dropout is not None:
        arguments["dropout"] = dropout
    txe = TxE(**arguments)
    load_into(txe, tensors, str(path))
    return txe.eval()
