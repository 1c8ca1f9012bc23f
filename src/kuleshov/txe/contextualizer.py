"""What the tasks on event features share: segments on one time grid, the three kinds of context, sliding windows."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError, StoreError
from kuleshov.features.feature_store import EventStore
from kuleshov.txe.encoder import Positions, Target, TxE, load
from kuleshov.txe.feature_normalizer import FeatureNormalizer, Normalization

ContextKind = Literal["none", "scratch", "pretrained"]
LongWindows = Literal["sliding", "blocks"]


def segment_features(
    store: EventStore, segment_ids: Sequence[str], n: int = 5, stride_s: float = 2.0, allow_missing: bool = False
) -> tuple[list[str], Tensor]:
    """The ids of those of some segments that a store has, and their events on one time grid: float32 (S, N, D).

    Args:
        store: an event store.
        segment_ids: names of movies in the store.
        n: N, events of a segment.
        stride_s: seconds between the beginnings of two events.
        allow_missing: leave out what the store does not have; otherwise an error.

    Raises:
        StoreError: segments are missing (how many, and the first), or the store's grid does not fit.
    """
    ids = [name for name in segment_ids if name in store]
    if len(ids) < len(segment_ids) and (not allow_missing or not ids):
        first = next(name for name in segment_ids if name not in store)
        raise StoreError(
            f"{len(segment_ids) - len(ids)} of {len(segment_ids)} segments are not in {store.folder} (first {first}): "
            "extract their features first"
        )
    rows = [store.segment_rows(name, n, stride_s) for name in ids]
    return ids, store.take(torch.tensor(rows, dtype=torch.long).reshape(-1, n)).float()


class Contextualizer(nn.Module):
    """Event features (B, N, D) -> (B, N, out_width): as they are, or through a TxE.

    The three kinds are the rows of the paper's tables and differ in nothing else: `none` passes the features
    on (out_width = D), `scratch` runs a freshly initialized TxE, `pretrained` one that was pretrained by
    masked events, with its own sizes and feature statistics.

    Args:
        kind: `none`, `scratch` or `pretrained`.
        input_width: D.
        txe_weights: the pretrained TxE's `.safetensors`; only with `pretrained`.
        hidden, layers, heads, feedforward: sizes of a TxE from scratch, by default the paper's. With `pretrained` the
            weights decide, and a value given here must agree with them.
        dropout: dropout while training the task.
        max_events: longest window, and the length of the sliding window over longer input.
        positions, target, target_normalization: of a TxE from scratch; the last two matter only to its pretraining.
        feature_normalization: feature statistics, taken by `fit_statistics`, by default none. With `pretrained` the
            weights bring theirs, and a value given here must agree: rows of a table read the same input.
        frozen: keep the contextualizer as it is; only what follows it learns.
        residual: add TxE's embedded input to its output, so that an event stays itself.
        layer_norm: for `none`: normalize every event feature over its width, as TxE's output is.

    Raises:
        KuleshovError: weights without `pretrained`, `pretrained` without weights, or sizes that disagree.
    """

    def __init__(
        self,
        kind: ContextKind,
        input_width: int,
        txe_weights: str | None = None,
        hidden: int | None = None,
        layers: int | None = None,
        heads: int | None = None,
        feedforward: int | None = None,
        dropout: float = 0.1,
        max_events: int = 5,
        positions: Positions = "learned",
        target: Target = "feature",
        target_normalization: Normalization | list[Normalization] | None = None,
        feature_normalization: Normalization | None = None,
        frozen: bool = False,
        residual: bool = False,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        if (kind == "pretrained") != (txe_weights is not None):
            need = "needs" if kind == "pretrained" else "takes no"
            raise KuleshovError(f"context={kind} {need} txe_weights: got {txe_weights}")
        sizes: dict[str, Any] = {"hidden": hidden, "layers": layers, "heads": heads, "feedforward": feedforward}
        sizes["feature_normalization"] = feature_normalization
        given = {name: value for name, value in sizes.items() if value is not None}
        self.kind, self.frozen, self.residual, self.input_width = kind, frozen, residual, input_width
        self.txe: TxE | None = None
        if kind == "none":
            self.normalizer = FeatureNormalizer(input_width, feature_normalization or "none")
            self.norm = nn.LayerNorm(input_width) if layer_norm else nn.Identity()
            self.out_width = input_width
        elif kind == "scratch":
            given |= {"dropout": dropout, "max_events": max_events, "positions": positions}
            given |= {"target": target, "target_normalization": target_normalization}
            self.txe = TxE(input_width, **given)
        elif kind == "pretrained":
            self.txe = load(str(txe_weights), dropout, {"input_width": input_width, **given})
        else:
            raise KuleshovError(f"context is none, scratch or pretrained, not {kind!r}")
        if self.txe is not None:
            self.out_width = self.txe.out_width
            # only pretraining uses these; parameters without gradient would stop DDP
            self.txe.mask_vector.requires_grad_(False)
            self.txe.output.requires_grad_(False)
        if frozen:
            self.requires_grad_(False)
        self.train()

    @property
    def input(self) -> Normalization:
        """How the features are normalized that go in."""
        return (self if self.txe is None else self.txe).normalizer.mode

    def fit_statistics(self, features: Tensor) -> None:
        """Take the normalization's statistics from features (..., D); a pretrained TxE keeps its own."""
        if self.kind != "pretrained":
            (self.normalizer.fit if self.txe is None else self.txe.fit_statistics)(features)

    def train(self, mode: bool = True) -> "Contextualizer":
        """Set training mode; a frozen contextualizer stays in evaluation mode, without dropout."""
        return super().train(mode and not self.frozen)

    def forward(self, events: Tensor) -> Tensor:
        """Contextualize windows of at most `max_events` events: (B, N, D) -> (B, N, out_width)."""
        if self.txe is None:
            return self.norm(self.normalizer(events))
        return self._with_input(self.txe(events), events)

    def _with_input(self, encoded: Tensor, events: Tensor) -> Tensor:
        return encoded + self.txe.embed(events) if self.residual else encoded

    def contextualize_long(self, events: Tensor, step: int = 1, windows: LongWindows = "sliding") -> Tensor:
        """Contextualize sequences of any length: (B, L, D) -> (B, L, out_width), or (L, D) -> (L, out_width).

        Args:
            events: features on the store's grid.
            step: grid points between two tokens of a window: the token stride that TxE was trained with over
                the store's stride.
            windows: `sliding` takes each event from the window in which it is most central; `blocks` cuts the
                sequence into windows that do not overlap, at a fifth of the cost.
        """
        if events.ndim == 2:
            return self.contextualize_long(events.unsqueeze(0), step, windows).squeeze(0)
        if self.txe is None:
            return self(events)
        return self._with_input(encode_long(self.txe, events, step, windows), events)

    def contextualize_padded(
        self, events: Tensor, length: Tensor, windows: LongWindows = "sliding", step: int = 1
    ) -> Tensor:
        """Contextualize padded sequences (B, L, D) of `length` (B,) events each: (B, L, out_width), 0 behind the end.

        `windows` and `step` as in `contextualize_long`.
        """
        out = events.new_zeros(*events.shape[:2], self.out_width)
        for size in torch.unique(length).tolist():
            chosen = length == size
            out[chosen, :size] = self.contextualize_long(events[chosen, :size], step, windows).to(out.dtype)
        return out


def encode_long(txe: TxE, events: Tensor, step: int = 1, windows: LongWindows = "sliding") -> Tensor:
    """Encode (B, L, D) of any length L by windows of `txe.max_events`, `step` events apart: (B, L, H).

    `windows` as in `Contextualizer.contextualize_long`. A sequence shorter than the window is encoded whole; the last
    of the blocks is moved back to end with the sequence.
    """
    if windows not in get_args(LongWindows):
        raise KuleshovError(f"windows is sliding or blocks, not {windows!r}")
    sliding, length = windows == "sliding", events.shape[1]
    # windows that slide share events: each is embedded once
    inputs, run = (txe.embed(events), txe.encode) if sliding else (events, txe)
    out = inputs.new_empty(len(events), length, txe.out_width)
    for phase in range(min(step, length)):
        part = inputs[:, phase::step]
        place = torch.arange(part.shape[1], device=part.device)
        size = min(txe.max_events, len(place))
        if sliding:
            starts = place[: len(place) - size + 1]
            window = (place - size // 2).clamp(0, len(starts) - 1)
        else:
            starts = place[::size].clamp(max=len(place) - size)
            window = torch.bucketize(place, starts, right=True) - 1
        tokens = part[:, starts[:, None] + place[:size]]  # (B, W, N, D or H)
        encoded = run(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
        out[:, phase::step] = encoded[:, window, place - starts[window]].to(out.dtype)
    return out
