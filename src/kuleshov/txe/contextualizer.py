"""What the tasks over event features share: segments on one time grid, and the three kinds of context."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError, StoreError
from kuleshov.features.event_store import EventStore
from kuleshov.txe.encoder import Positions, TxE, load
from kuleshov.txe.feature_normalizer import FeatureNormalizer, Normalization

ContextKind = Literal["none", "scratch", "pretrained"]
PAPER_SIZES = {"hidden": 1024, "layers": 3, "heads": 16, "feedforward": 2048}


class SegmentFeatures:
    """The event features of named segments, all on one time grid and all in memory.

    Attributes:
        ids: the segments that the store has, in the order asked for.
        tensor: float32 (S, N, D).
        missing: the ids that the store does not have.

    Args:
        store: an event store, or its folder.
        segment_ids: names of movies in the store.
        n: N, events of a segment.
        stride_s: seconds between the beginnings of two events.
        allow_missing: leave out what the store does not have and list it in `missing`; otherwise an error.

    Raises:
        StoreError: segments are missing (how many, and the first), or the store's grid does not fit.
    """

    def __init__(
        self,
        store: EventStore | str | Path,
        segment_ids: Sequence[str],
        n: int = 5,
        stride_s: float = 2.0,
        allow_missing: bool = False,
    ) -> None:
        self.store = store if isinstance(store, EventStore) else EventStore(store)
        self.missing = [name for name in segment_ids if name not in self.store]
        self.ids = [name for name in segment_ids if name in self.store]
        if self.missing and (not allow_missing or not self.ids):
            raise StoreError(
                f"{len(self.missing)} of {len(segment_ids)} segments are not in {self.store.folder} "
                f"(first {self.missing[0]}): extract their features first"
            )
        rows = [self.store.segment_rows(name, n, stride_s) for name in self.ids]
        index = torch.tensor(rows, dtype=torch.long).reshape(-1, n)
        self.tensor = self.store.take(index).float()  # (S, N, D)

    @property
    def width(self) -> int:
        """D, width of an event feature."""
        return self.store.width

    def __len__(self) -> int:
        return len(self.ids)


class Contextualizer(nn.Module):
    """Event features (B, N, D) -> (B, N, out_width): as they are, or through a TxE.

    The three kinds are the rows of the paper's tables and differ in nothing else: `none` passes the features
    on (out_width = D), `scratch` runs a freshly initialized TxE, `pretrained` one that was pretrained by
    masked events, which brings its own sizes and feature statistics along.

    Args:
        kind: `none`, `scratch` or `pretrained`.
        input_width: D.
        txe_weights: the pretrained TxE's `.safetensors`; only with `pretrained`.
        hidden: H of a TxE from scratch; default 1024. With `pretrained` the weights decide, and a value given
            here must agree with them.
        layers: likewise; default 3.
        heads: likewise; default 16.
        feedforward: likewise; default 2048.
        dropout: dropout while training the task.
        max_events: longest window, and the length of the sliding window over longer input.
        positions: of a TxE from scratch.
        normalize: feature statistics for `none` and `scratch`, taken by `fit_statistics`.
        frozen: keep the contextualizer as it is; only what follows it learns.
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
        normalize: Normalization = "none",
        frozen: bool = False,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        if (kind == "pretrained") != (txe_weights is not None):
            need = "needs" if kind == "pretrained" else "takes no"
            raise KuleshovError(f"context={kind} {need} txe_weights: got {txe_weights}")
        sizes = {"hidden": hidden, "layers": layers, "heads": heads, "feedforward": feedforward}
        given = {name: value for name, value in sizes.items() if value is not None}
        self.kind, self.frozen, self.input_width = kind, frozen, input_width
        self.txe: TxE | None = None
        if kind == "none":
            self.normalizer = FeatureNormalizer(input_width, normalize)
            self.norm = nn.LayerNorm(input_width) if layer_norm else nn.Identity()
            self.out_width = input_width
        elif kind == "scratch":
            built = {**PAPER_SIZES, **given, "dropout": dropout, "max_events": max_events}
            self.txe = TxE(input_width, positions=positions, normalize=normalize, **built)
        elif kind == "pretrained":
            self.txe = load_matching(str(txe_weights), input_width, given, dropout)
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

    def fit_statistics(self, features: Tensor) -> None:
        """Take the normalization's statistics from features (..., D); a pretrained TxE keeps its own."""
        if self.kind == "pretrained":
            return
        normalizer = self.normalizer if self.txe is None else self.txe.normalizer
        normalizer.fit(features)

    def train(self, mode: bool = True) -> "Contextualizer":
        """Set training mode; a frozen contextualizer stays in evaluation mode, without dropout."""
        return super().train(mode and not self.frozen)

    def forward(self, events: Tensor) -> Tensor:
        """Contextualize windows of at most `max_events` events: (B, N, D) -> (B, N, out_width)."""
        if self.txe is None:
            return self.norm(self.normalizer(events))
        return self.txe(events)

    def contextualize_long(
        self, events: Tensor, step: int = 1, merge: Literal["center", "average"] = "center"
    ) -> Tensor:
        """Contextualize a sequence of any length by a sliding window: (B, L, D) -> (B, L, out_width).

        Also (L, D) -> (L, out_width). Every event is embedded once; a window is encoded once. A sequence
        shorter than the window is encoded whole.

        Args:
            events: features on the store's grid.
            step: grid points between two tokens of a window: the token stride that TxE was trained with over
                the store's stride.
            merge: `center` takes each event from the window in which it is most central, `average` the mean
                over all windows that hold it.
        """
        if events.ndim == 2:
            return self.contextualize_long(events.unsqueeze(0), step, merge).squeeze(0)
        if self.txe is None:
            return self(events)
        embedded = self.txe.embed(events)  # (B, L, H)
        out = torch.empty_like(embedded)
        for phase in range(min(step, embedded.shape[1])):
            out[:, phase::step] = slide(self.txe, embedded[:, phase::step], merge)
        return out


def slide(txe: TxE, embedded: Tensor, merge: str) -> Tensor:
    """Encode all windows of `txe.max_events` neighbors of (B, L, H) and merge them: (B, L, H)."""
    batch, length, hidden = embedded.shape
    size = txe.max_events
    if length <= size:
        return txe.encode(embedded)
    count = length - size + 1
    windows = embedded.unfold(1, size, 1).transpose(2, 3)  # (B, W, N, H)
    encoded = txe.encode(windows.reshape(batch * count, size, hidden)).view(batch, count, size, hidden)
    place = torch.arange(length, device=embedded.device)
    if merge == "center":
        window = (place - size // 2).clamp(0, count - 1)
        return encoded[:, window, place - window]
    if merge != "average":
        raise KuleshovError(f"merge is center or average, not {merge!r}")
    total = torch.zeros_like(embedded)
    for offset in range(size):
        total[:, offset : offset + count] += encoded[:, :, offset]
    held = torch.minimum(torch.minimum(place + 1, length - place), torch.full_like(place, min(size, count)))
    return total / held.view(1, -1, 1)


def load_matching(path: str, input_width: int, given: dict[str, int], dropout: float) -> TxE:
    """Load a pretrained TxE and check it against the feature width and the sizes in the configuration."""
    txe = load(path, dropout=dropout)
    for name, value in {"input_width": input_width, **given}.items():
        if txe.arguments[name] != value:
            raise KuleshovError(
                f"{path} was trained with {name}={txe.arguments[name]}, the configuration has {value}: make them agree"
            )
    return txe
