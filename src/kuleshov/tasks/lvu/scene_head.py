"""The plain head: a span's contextualized events pooled to one vector, and a linear answer.

The row `scene` of Table 5 without the Object Transformer; `object_transformer` has the paper's.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError
from kuleshov.tasks.lvu.lvu_task import MovieTask

Pooling = Literal["mean", "attention"]


class SpanPool(nn.Module):
    """Pools the events of spans that share a movie: (B, L, W) and spans -> (S, W).

    Each event is read once however many spans overlap on it: a span is a row of weights over its movie.

    Args:
        width: W.
        pooling: `mean`, or `attention` with one learned query.
    """

    def __init__(self, width: int, pooling: Pooling = "mean") -> None:
        super().__init__()
        if pooling not in ("mean", "attention"):
            raise KuleshovError(f"pooling is mean or attention, not {pooling!r}")
        self.score = nn.Linear(width, 1, bias=False) if pooling == "attention" else None

    def forward(self, events: Tensor, movie: Tensor, turn: Tensor, first: Tensor, count: Tensor) -> Tensor:
        """Pool spans (movie, first, count), each (S,); `turn` (S,) numbers the spans of each movie."""
        batch, length, _ = events.shape
        spans = int(turn.max()) + 1
        place = torch.arange(length, device=events.device)
        inside = (place >= first[:, None]) & (place < (first + count)[:, None])  # (S, L)
        score = events.new_zeros(batch, length) if self.score is None else self.score(events).squeeze(-1)
        # a finite floor: a span without events is pooled to 0, not to nan
        floor = torch.finfo(score.dtype).min
        weight = score[movie].masked_fill(~inside, floor).softmax(1) * inside  # (S, L)
        laid = events.new_zeros(batch, spans, length).index_put((movie, turn), weight.to(events.dtype))
        return (laid @ events)[movie, turn]  # (B, spans, L) @ (B, L, W) -> (S, W)


class SceneHead(MovieTask):
    """Pools the (contextualized) events of 60 seconds and answers by one linear layer.

    Args:
        pooling: `mean` or `attention` over the events of a span.
        dropout: on the pooled vector.
    """

    def __init__(self, pooling: Pooling = "mean", dropout: float = 0.1, **shared) -> None:
        super().__init__(**shared)
        self.pooling, self.dropout = pooling, dropout

    def build(self, scene_width: int | None, instance_width: int | None, outputs: int) -> None:
        """Make the pool and the head."""
        if scene_width is None:
            raise KuleshovError("SceneHead needs event features: set --data.init_args.events")
        self.pool = SpanPool(scene_width, self.pooling)
        self.head = nn.Sequential(nn.LayerNorm(scene_width), nn.Dropout(self.dropout), nn.Linear(scene_width, outputs))

    def span_logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Outputs of every span, (S, outputs)."""
        events = self.scene(batch)
        pooled = self.pool(events, batch["movie"], batch["turn"], batch["event_first"], batch["event_count"])
        return self.head(pooled)
