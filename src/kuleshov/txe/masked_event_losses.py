"""Losses of masked-event pretraining, a value a hidden event, and its recall: is the true event the nearest?"""

import torch
from torch import Tensor
from torchmetrics import Metric

OTHERS = 1000  # events that the true one is to be nearest among


def masked_event_infonce(
    predictions: Tensor,
    targets: Tensor,
    distractors: Tensor,
    temperature: float = 0.1,
    ignored: Tensor | None = None,
    neighbors: Tensor | None = None,
    parts: int = 1,
) -> Tensor:
    """Equation 1 of the paper for each hidden event: (M, D) -> (M,).

    -log( exp(p t / tau) / (exp(p t / tau) + sum_i exp(p d_i / tau)) ).

    Args:
        predictions: L2-normalized reconstructions p (M, D).
        targets: L2-normalized true features t (M, D).
        distractors: L2-normalized d (K, D); K may be 0.
        temperature: tau.
        ignored: int64 (2, P), pairs (prediction, distractor) of which the distractor does not count.
        neighbors: L2-normalized (M, R, D), distractors of each prediction alone.
        parts: that many vectors of one length stand side by side in each of the above, and each looks for its own:
            the mean over their losses.
    """
    if parts > 1:
        several = zip(
            *(vectors.chunk(parts, -1) for vectors in (predictions, targets, distractors)),
            [None] * parts if neighbors is None else neighbors.chunk(parts, -1),
            strict=True,
        )
        # each part has length 1 / sqrt(parts), so that its products are 1 / parts of a cosine
        losses = [masked_event_infonce(*one[:3], temperature / parts, ignored, one[3]) for one in several]
        return torch.stack(losses).mean(0)
    scaled = predictions / temperature
    positive = (scaled * targets).sum(-1)  # (M,)
    wrong = positive.new_full(positive.shape, -torch.inf)
    if neighbors is not None:
        wrong = (neighbors.to(scaled.dtype) @ scaled.unsqueeze(-1)).squeeze(-1).logsumexp(-1)
    if distractors.shape[0] == 0:
        return torch.logaddexp(positive, wrong) - positive
    negative = scaled @ distractors.to(scaled.dtype).T  # (M, K)
    if ignored is not None and ignored.shape[1]:
        # in place: a copy of (M, K) costs as much as everything else outside the product
        negative.index_put_((ignored[0], ignored[1]), negative.new_tensor(-torch.inf))
    wrong = negative.logsumexp(-1) if neighbors is None else torch.logaddexp(wrong, negative.logsumexp(-1))
    return torch.logaddexp(positive, wrong) - positive


@torch.no_grad()
def nearest_is_true(predictions: Tensor, targets: Tensor, distractors: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Whether a prediction is nearer (cosine) to its true event than to every distractor: bool (M,).

    A tie counts as a miss, so that collapsed predictions score nothing.

    Args:
        predictions: L2-normalized (M, D).
        targets: L2-normalized (M, D).
        distractors: L2-normalized (R, D).
        ignored: bool (M, R), true for distractors that do not count for a prediction.
    """
    if distractors.shape[0] == 0:
        return torch.ones(predictions.shape[0], dtype=torch.bool, device=predictions.device)
    others = predictions @ distractors.to(predictions.dtype).T
    if ignored is not None:
        others = others.masked_fill(ignored, -torch.inf)
    return (predictions * targets).sum(-1) > others.amax(-1)


def nearest_shown(masked: Tensor) -> Tensor:
    """For each event the place of the nearest event that is not hidden (the earlier of two): int64 (B, N)."""
    place = torch.arange(masked.shape[1], device=masked.device)
    gap = place.unsqueeze(0) - place.unsqueeze(1)  # (N, N)
    # a later event counts as a little further off than the earlier one at the same distance
    distance = 2 * gap.abs() + (gap > 0)
    far = distance.unsqueeze(0) + masked.unsqueeze(1) * 2 * masked.shape[1]  # (B, N, N)
    return far.argmin(-1)


class MaskedEventRecall(Metric):
    """Share of hidden events whose prediction is nearest to the true one, by size and place of the mask.

    Chance is one in 1,001. `recall_copy` is that of the simplest guess, the feature of the nearest event that is not
    hidden: what exceeds it is more than seeing that neighbors look alike.

    Args:
        events: N, events of a window.
    """

    full_state_update = False
    hits: Tensor  # by (size, place, off screen: unknown, no, yes)
    tokens: Tensor
    copied: Tensor
    others: Tensor

    def __init__(self, events: int) -> None:
        super().__init__()
        for name in ("hits", "tokens"):
            self.add_state(name, torch.zeros(events + 1, events, 3), dist_reduce_fx="sum")
        self.add_state("copied", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("others", torch.tensor(float(OTHERS)), dist_reduce_fx="min")

    @torch.no_grad()
    def update(
        self,
        predictions: Tensor,
        targets: Tensor,
        others: Tensor,
        masked: Tensor,
        size: Tensor,
        batch: dict[str, Tensor],
    ) -> None:
        """Count one batch.

        Args:
            predictions: L2-normalized (M, D) for the hidden events, in the order of `masked`.
            targets: L2-normalized features (B, N, D) of all events.
            others: L2-normalized (R, D).
            masked: bool (B, N).
            size: int64 (B,), size of each window's mask.
            batch: `movie` (B,), `others_movie` (R,) and `offscreen` (B, N) of `EventWindows`.
        """
        window, place = masked.nonzero(as_tuple=True)  # (M,) each
        if not len(window):
            return
        same = batch["movie"][window].unsqueeze(1) == batch["others_movie"]  # (M, R)
        ignored = same | ((~same).cumsum(1) > OTHERS)
        self.others = torch.minimum(self.others, (~ignored).sum(1).min().to(self.others))
        truth = targets[masked]
        hit = nearest_is_true(predictions, truth, others, ignored).float()
        index = (size[window], place, batch["offscreen"][masked].long() + 1)
        self.hits.index_put_(index, hit, accumulate=True)
        self.tokens.index_put_(index, torch.ones_like(hit), accumulate=True)
        copy = targets[window, nearest_shown(masked)[masked]]
        self.copied += nearest_is_true(copy, truth, others, ignored).sum()

    def compute(self) -> dict[str, Tensor]:
        """The recalls by name; combinations that never came are left out."""
        total = self.tokens.sum()
        if not total:
            return {}
        values = {"recall": self.hits.sum() / total, "recall_copy": self.copied / total, "others": self.others}
        cells = torch.stack([self.hits, self.tokens])  # (2, N + 1, N, 3)
        shares = {f"size_{size}": pair for size, pair in enumerate(cells.sum((2, 3)).T)}
        shares |= {f"place_{place}": pair for place, pair in enumerate(cells.sum((1, 3)).T, 1)}
        shares |= dict(zip(("onscreen", "offscreen"), cells.sum((1, 2)).T[1:], strict=True))
        return values | {f"recall_{name}": hit / count for name, (hit, count) in shares.items() if count}
