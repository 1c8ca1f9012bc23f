"""Masked-event recall: how often the true event is the nearest to what TxE fills in."""

import torch
from torch import Tensor

from kuleshov.core.distributed import gather_rows
from kuleshov.txe.masked_event_losses import nearest_is_true

OTHERS = 1000


class RecallCounts:
    """Counts hits by size of the mask and place in the window, and by whether the event was off screen.

    Chance is one in 1,001. `copy` is the recall of the simplest guess, the feature of the nearest event that
    is not hidden: what exceeds it is more than seeing that neighbors look alike.

    Args:
        events: N.
        device: where to count.
    """

    def __init__(self, events: int, device: torch.device | str = "cpu") -> None:
        self.events = events
        self.hits = torch.zeros(events + 1, events, device=device)  # by (size, place)
        self.tokens = torch.zeros(events + 1, events, device=device)
        self.copied = torch.zeros((), device=device)
        self.by_screen = torch.zeros(2, 2, device=device)  # (on, off screen) x (hits, tokens)
        self.others = 0

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
        same = batch["movie"][window].unsqueeze(1) == batch["others_movie"]  # (M, R)
        ignored = same | ((~same).cumsum(1) > OTHERS)
        self.others = min(OTHERS, int((~same).sum(1).min())) if len(window) else self.others
        truth = targets[masked]
        hit = nearest_is_true(predictions, truth, others, ignored).float()
        self.hits.index_put_((size[window], place), hit, accumulate=True)
        self.tokens.index_put_((size[window], place), torch.ones_like(hit), accumulate=True)
        copy = targets[window, nearest_shown(masked)[masked]]
        self.copied += nearest_is_true(copy, truth, others, ignored).sum()
        screen = batch["offscreen"][masked].long()
        for value in (0, 1):
            chosen = screen == value
            self.by_screen[value, 0] += hit[chosen].sum()
            self.by_screen[value, 1] += chosen.sum()

    def compute(self) -> dict[str, float]:
        """The recalls over all ranks; combinations that never came are left out."""
        hits, tokens = (gather_rows(counts.unsqueeze(0)).sum(0) for counts in (self.hits, self.tokens))
        copied = gather_rows(self.copied.reshape(1)).sum()
        screens = gather_rows(self.by_screen.unsqueeze(0)).sum(0)
        total = tokens.sum()
        if not total:
            return {}
        values = {
            "val/recall": hits.sum() / total,
            "val/recall_copy": copied / total,
            "val/others": torch.tensor(float(self.others)),
        }
        for size in tokens.sum(1).nonzero().flatten().tolist():
            values[f"val/recall_size_{size}"] = hits[size].sum() / tokens[size].sum()
        for place in tokens.sum(0).nonzero().flatten().tolist():
            values[f"val/recall_place_{place + 1}"] = hits[:, place].sum() / tokens[:, place].sum()
        for name, (hit, count) in zip(("onscreen", "offscreen"), screens, strict=True):
            if count:
                values[f"val/recall_{name}"] = hit / count
        return {name: float(value) for name, value in values.items()}


def nearest_shown(masked: Tensor) -> Tensor:
    """For each event the place of the nearest event that is not hidden (the earlier of two): int64 (B, N)."""
    place = torch.arange(masked.shape[1], device=masked.device)
    gap = place.unsqueeze(0) - place.unsqueeze(1)  # (N, N)
    # a later event counts as a little further off than the earlier one at the same distance
    distance = 2 * gap.abs() + (gap > 0)
    far = distance.unsqueeze(0) + masked.unsqueeze(1) * 2 * masked.shape[1]  # (B, N, N)
    return far.argmin(-1)
