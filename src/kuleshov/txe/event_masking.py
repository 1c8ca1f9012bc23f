"""Which events to hide: one contiguous block a window, drawn uniformly or chosen by discrepancy."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError
from kuleshov.txe.encoder import TxE


def allowed_sizes(events: int, ratio: float = 0.6, sizes: Sequence[int] | None = None) -> tuple[int, ...]:
    """The block sizes that may be drawn, each with the same probability.

    Args:
        events: N, events of a window.
        ratio: alpha: sizes 1 .. floor(alpha N), the paper's law; unused where `sizes` is given.
        sizes: an explicit set, such as {1, 2} of the paper's Table 2.

    Raises:
        KuleshovError: no size is left, or one hides the whole window.
    """
    # 0.7 * 10 is a little more than 7 and 0.29 * 100 a little less than 29 in floating point
    chosen = tuple(sorted(set(sizes))) if sizes is not None else tuple(range(1, math.floor(ratio * events + 1e-9) + 1))
    if not chosen or chosen[0] < 1 or chosen[-1] >= events:
        raise KuleshovError(
            f"mask sizes {list(chosen)} do not fit windows of {events} events: use sizes from 1 to {events - 1}"
        )
    return chosen


def draw_blocks(uniforms: Tensor, sizes: Sequence[int], events: int) -> tuple[Tensor, Tensor]:
    """Turn uniform numbers (B, 2) in [0, 1) into block sizes and starts, int64 (B,) each.

    The size is uniform over `sizes`, the start uniform over the events - size + 1 places (section 3.3).
    """
    choices = torch.tensor(sizes, device=uniforms.device)
    size = choices[(uniforms[:, 0] * len(sizes)).long()]
    start = (uniforms[:, 1] * (events - size + 1)).long()
    return size, start


def block_mask(size: Tensor, start: Tensor, events: int) -> Tensor:
    """Blocks as a mask, bool (B, N), true where an event is hidden."""
    place = torch.arange(events, device=size.device)
    return (place >= start.unsqueeze(1)) & (place < (start + size).unsqueeze(1))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, the mode before it afterwards."""
    before = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(before)


@torch.no_grad()
def block_discrepancies(txe: TxE, events: Tensor, size: Tensor) -> Tensor:
    """Discrepancy of every place at which a block of `size` (B,) can start, float (B, N); -inf elsewhere.

    A token's discrepancy is the distance between its L2-normalized output computed with and without its own
    mask (section 4.1); a block's is the mean over its tokens. All candidates of all windows (B, N, D) go through
    the encoder in one batch, without dropout; events are embedded once.
    """
    batch, count = events.shape[:2]
    places = count - size + 1
    owner = torch.repeat_interleave(torch.arange(batch, device=events.device), places)  # (C,)
    first = places.cumsum(0) - places
    start = torch.arange(owner.numel(), device=events.device) - first[owner]
    masked = block_mask(size[owner], start, count)  # (C, N)
    with evaluating(txe):
        embedded = txe.embed(events)
        plain = txe.reconstruct(txe.encode(embedded))  # (B, N, D)
        changed = txe.reconstruct(txe.encode(embedded[owner], masked)[masked])  # (tokens, D)
    candidate, place = masked.nonzero(as_tuple=True)
    distance = (changed - plain[owner[candidate], place]).norm(dim=-1)  # (tokens,)
    total = distance.new_zeros(owner.numel()).index_add_(0, candidate, distance)
    scores = distance.new_full((batch, count), -torch.inf)
    scores[owner, start] = total / size[owner]
    return scores
