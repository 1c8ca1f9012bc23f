"""A first-in-first-out queue of features that serve as negatives."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kuleshov.core.distributed import gather_rows
from kuleshov.core.errors import KuleshovError


class FeatureQueue(nn.Module):
    """The last K rows that were enqueued, on every rank alike, saved in checkpoints.

    Rows are written at the head, round and round; only rows that were filled are offered. A batch of any
    size may be enqueued: where it exceeds the queue, its last K rows stay (He et al., MoCo, CVPR 2020).
    The state is no buffer: DDP would send it, equal on all ranks, from rank 0 at every step.

    Args:
        size: K, number of rows.
        width: D, width of a row.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        if size < 1 or width < 1:
            raise KuleshovError(f"a queue needs a size and a width of at least 1, got {size} and {width}")
        zero = torch.zeros((), dtype=torch.long)
        self._state = {
            "rows": torch.zeros(size, width),  # (K, D)
            "birth": torch.zeros(size, dtype=torch.long),  # (K,) step of each row's arrival
            "head": zero,
            "fill": zero.clone(),
            "enqueued": zero.clone(),  # calls so far
        }

    def __getattr__(self, name: str):
        state = self.__dict__.get("_state", {})
        return state[name] if name in state else super().__getattr__(name)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FeatureQueue":
        self._state = {name: fn(value) for name, value in self._state.items()}
        return super()._apply(fn, recurse)

    def get_extra_state(self) -> dict[str, Tensor]:
        """What checkpoints keep."""
        return dict(self._state)

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take what a checkpoint kept, onto the device and into the dtype that the queue has."""
        self._state = {name: state[name].to(value, copy=True) for name, value in self._state.items()}

    @property
    def size(self) -> int:
        """K, number of rows."""
        return self.rows.shape[0]

    def filled(self) -> Tensor:
        """The rows that hold features, (n, D) with n <= K, in no particular order."""
        return self.rows[: int(self.fill)]

    def mean_age(self) -> float:
        """Mean number of enqueue calls since the filled rows arrived; 0 when the queue is empty."""
        count = int(self.fill)
        return float((self.enqueued - self.birth[:count]).float().mean()) if count else 0.0

    @torch.no_grad()
    def enqueue(self, rows: Tensor) -> None:
        """Add rows (n, D) of all ranks in rank order; n may be 0 and may differ between ranks."""
        if rows.ndim != 2 or rows.shape[1] != self.rows.shape[1]:
            raise KuleshovError(f"the queue takes rows (n, {self.rows.shape[1]}), got {tuple(rows.shape)}")
        rows = gather_rows(rows).to(self.rows.dtype)
        self.enqueued.add_(1)
        total = rows.shape[0]
        kept = rows[-self.size :] if total else rows
        # skipped rows still move the head, so that the place of a row depends only on its number
        first = self.head + (total - kept.shape[0])
        place = (first + torch.arange(kept.shape[0], device=rows.device)) % self.size
        self.rows[place] = kept
        self.birth[place] = self.enqueued
        self.head.copy_((self.head + total) % self.size)
        self.fill.copy_((self.fill + total).clamp(max=self.size))
