"""The plain head: a span's contextualized events pooled to one vector, and a linear answer.

The row `scene` of Table 5 without the Object Transformer; `object_transformer` has the paper's.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError
from kuleshov.tasks.lvu.lvu_task import LvuTask

Pooling = Literal["mean", "attention"]


class SpanPool(nn.Module):
    """Pools the events of spans that share a movie: (B, L, W) and spans -> (S, W).

    Each event is read once however many spans overlap on it: a span is a row of weights over its movie.
    `pooling` is `mean`, or `attention` with one learned query.
    """

    def __init__(self, width: int, pooling: Pooling = "mean") -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False) if pooling == "attention" else None

    def forward(self, events: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Pool the spans that `movie`, `turn`, `event_first` and `event_count` of the batch describe, each (S,)."""
        movie, turn, first = batch["movie"], batch["turn"], batch["event_first"][:, None]
        number, length, _ = events.shape
        spans = int(turn.max()) + 1
        place = torch.arange(length, device=events.device)
        inside = (place >= first) & (place < first + batch["event_count"][:, None])  # (S, L)
        score = events.new_zeros(number, length) if self.score is None else self.score(events).squeeze(-1)
        # a finite floor: a span without events is pooled to 0, not to nan
        floor = torch.finfo(score.dtype).min
        weight = score[movie].masked_fill(~inside, floor).softmax(1) * inside  # (S, L)
        laid = events.new_zeros(number, spans, length).index_put((movie, turn), weight.to(events.dtype))
        return (laid @ events)[movie, turn]  # (B, spans, L) @ (B, L, W) -> (S, W)


class SceneHead(LvuTask):
    """Pools the (contextualized) events of 60 seconds and answers by one linear layer.

    Args:
        pooling: `mean` or `attention` over the events of a span.
        dropout: on the pooled vector.
    """

    def __init__(self, pooling: Pooling = "mean", dropout: float = 0.1, **shared) -> None:
        super().__init__(**shared)

    def build(self, width: int | None) -> None:
        if width is None:
            raise KuleshovError("SceneHead needs event features: set --data.init_args.events")
        self.pool = SpanPool(width, self.hparams.pooling)
        dropout = nn.Dropout(self.hparams.dropout)
        self.head = nn.Sequential(nn.LayerNorm(width), dropout, nn.Linear(width, self.outputs))

    def span_logits(self, batch: dict[str, Tensor]) -> Tensor:
        return self.head(self.pool(self.scene(batch), batch))
