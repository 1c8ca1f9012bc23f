"""TxE, the contextualizer: a transformer encoder over the features of a few neighboring events."""

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.weights import load_into, load_weights, save_weights
from kuleshov.txe.feature_normalizer import FeatureNormalizer, Normalization
from kuleshov.txe.transformer import TransformerLayer, sinusoidal_positions

Positions = Literal["learned", "sinusoidal"]
Target = Literal["feature", "token", "momentum"]


class TxE(nn.Module):
    """Contextualizes event features (B, N, D) -> (B, N, H), and fills in events that are hidden.

    Section 3.3 of the paper: input Linear D -> H, positions, post-norm layers; a masked event is replaced by a
    learned vector behind the input Linear, so that nothing of it enters; `reconstruct` maps back to D. ReLU in the
    feed-forward part as in VidSitu's encoder (the paper does not say).

    Args:
        input_width: D, width of an event feature.
        hidden: H.
        layers: number of layers.
        heads: number of attention heads; divides H.
        feedforward: width of the feed-forward part.
        dropout: after the positions, in attention, and in the feed-forward part.
        max_events: longest window it can be run on.
        positions: `learned` (the paper: better) or `sinusoidal`.
        feature_normalization: statistics applied to its input, see `FeatureNormalizer`.
        target: what a hidden event is compared with: the `feature`, through a linear map of the output back to D; the
            `token` that the input Linear makes of it; or that of a `momentum` copy of the input Linear.
        target_normalization: statistics applied to the `feature` that is looked for; by default those of the input.
            Of several the feature is looked for in each, with a part of the output of its own.

    Raises:
        KuleshovError: heads that do not divide H, an unknown kind of positions or target, a normalization of a target
            that is no feature.
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
        feature_normalization: Normalization = "none",
        target: Target = "feature",
        target_normalization: Normalization | list[Normalization] | None = None,
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        self.arguments: dict[str, Any] = arguments
        self.input_width, self.out_width, self.max_events = input_width, hidden, max_events
        self.normalizer = FeatureNormalizer(input_width, feature_normalization)
        self.project = nn.Linear(input_width, hidden)
        self.mask_vector = nn.Parameter(torch.zeros(hidden))
        if positions == "learned":
            self.position = nn.Parameter(torch.zeros(max_events, hidden))
            nn.init.trunc_normal_(self.position, std=0.02)
        elif positions == "sinusoidal":
            self.register_buffer("position", sinusoidal_positions(max_events, hidden))
        else:
            raise KuleshovError(f"positions is learned or sinusoidal, not {positions!r}")
        nn.init.trunc_normal_(self.mask_vector, std=0.02)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(TransformerLayer(hidden, heads, feedforward, dropout) for _ in range(layers))
        if target not in get_args(Target):
            raise KuleshovError(f"target is feature, token or momentum, not {target!r}")
        if target != "feature" and target_normalization is not None:
            raise KuleshovError(
                f"target_normalization is of features that are looked for: leave it out of target={target}"
            )
        several = [target_normalization] if isinstance(target_normalization, str) else target_normalization or []
        self.target_parts = max(1, len(several))
        self.target_normalizers = nn.ModuleList(FeatureNormalizer(input_width, mode) for mode in several)
        self.output = nn.Linear(hidden, self.target_parts * input_width)
        # what is looked for is another part of the network only where it is asked for
        self.target = target
        if target == "momentum":
            self.followed = copy.deepcopy(self.project).requires_grad_(False)
        if target != "feature":
            self.output.requires_grad_(False)

    @property
    def target_width(self) -> int:
        """Width of what `reconstruct` and `targets` give."""
        return self.output.out_features if self.target == "feature" else self.out_width

    def fit_statistics(self, features: Tensor) -> None:
        """Take the statistics of input and target from features (M, D)."""
        for normalizer in (self.normalizer, *self.target_normalizers):
            normalizer.fit(features)

    def embed(self, events: Tensor) -> Tensor:
        """Normalize and project event features (..., D) -> (..., H), before mask and positions."""
        return self.project(self.normalizer(events))

    def begin(self, embedded: Tensor, masked: Tensor | None = None) -> Tensor:
        """Put the mask vector where `masked` (B, N) is true, and add positions: (B, N, H) -> (B, N, H)."""
        if embedded.ndim != 3:
            raise KuleshovError(
                f"TxE takes windows (B, N, {self.input_width}), got {tuple(embedded.shape[:-1])} events: "
                "a single window has B = 1"
            )
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
        """What contextualized features (..., H) say of the events, L2-normalized: (..., target_width)."""
        return unit_parts(self.output(hidden).chunk(self.target_parts, -1) if self.target == "feature" else [hidden])

    def targets(self, events: Tensor) -> Tensor:
        """What `reconstruct` should give of event features (..., D), L2-normalized, without gradient."""
        if self.target == "feature":
            normalizers = self.target_normalizers or [self.normalizer]
            return unit_parts([normalizer(events) for normalizer in normalizers]).detach()
        project = self.followed if self.target == "momentum" else self.project
        return F.normalize(project(self.normalizer(events)), dim=-1).detach()

    @torch.no_grad()
    def attention_maps(self, events: Tensor, masked: Tensor | None = None) -> Tensor:
        """Attention weights of all layers for (B, N, D): (layers, B, heads, N, N)."""
        hidden = self.begin(self.embed(events), masked)
        maps = []
        for block in self.blocks:
            maps.append(block.attention(hidden))
            hidden = block(hidden)
        return torch.stack(maps)


def unit_parts(parts: Sequence[Tensor]) -> Tensor:
    """Vectors (..., D), each L2-normalized, side by side as one of length 1: products are mean cosines."""
    return torch.cat([F.normalize(part, dim=-1) for part in parts], -1) / math.sqrt(len(parts))


def save(path: str | Path, txe: TxE, manifest: dict[str, Any]) -> dict[str, Any]:
    """Write a TxE with the arguments to build it again; returns the manifest as written."""
    return save_weights(path, txe.state_dict(), {**describe(txe), **manifest})


def describe(txe: TxE) -> dict[str, Any]:
    """The part of a manifest from which this TxE can be built."""
    return {"architecture": "txe", "arguments": dict(txe.arguments)}


def load(path: str | Path, dropout: float | None = None, expected: Mapping[str, Any] | None = None) -> TxE:
    """Build the TxE that was written at `path`, with its weights, in evaluation mode.

    Args:
        path: a `.safetensors` file written by masked-event pretraining.
        dropout: replaces the dropout it was trained with.
        expected: arguments that it must have been built with.

    Raises:
        WeightsError: the file holds something else, or a TxE of another version.
        KuleshovError: other arguments than those expected.
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
    try:
        txe = TxE(**arguments)
    except TypeError as error:
        raise WeightsError(f"{path} was written by another version of TxE ({error}): train it again") from error
    for name, value in (expected or {}).items():
        if txe.arguments[name] != value:
            raise KuleshovError(
                f"{path} was trained with {name}={txe.arguments[name]}, the configuration has {value}: make them agree"
            )
    load_into(txe, tensors, str(path))
    return txe.eval()


def refuse_other_backbone(path: str | Path, sha256: str | None, how: str) -> None:
    """Refuse features of another backbone than those that a TxE was trained on.

    Args:
        path: TxE's weights.
        sha256: digest of the features' backbone, None where it is not known.
        how: how the user can allow it.

    Raises:
        KuleshovError: they are of another one.
    """
    trained = load_weights(path)[1].get("data", {}).get("backbone_sha256")
    if trained != sha256:
        first, second = (one[:8] if one else "unknown" for one in (trained, sha256))
        raise KuleshovError(
            f"{path} was pretrained on features of backbone {first}, these are of backbone "
            f"{second}: extract both with one backbone, or {how}"
        )
