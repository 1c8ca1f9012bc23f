"""Event features of padded movies through the contextualizer, each event encoded once."""

from typing import Literal

import torch
from torch import Tensor

from kuleshov.txe.contextualizer import Contextualizer


def contextualize_padded(
    contextualizer: Contextualizer,
    events: Tensor,
    length: Tensor,
    windows: Literal["sliding", "blocks"] = "sliding",
    step: int = 1,
) -> Tensor:
    """Contextualize padded sequences: (B, L, D) -> (B, L, W); what lies behind a sequence's length is 0.

    Args:
        contextualizer: none, scratch or pretrained.
        events: event features.
        length: (B,) events of each sequence.
        windows: `sliding` takes each event from the window in which it is most central; `blocks` cuts the
            sequence into windows that do not overlap, at a fifth of the cost.
        step: grid points between two tokens of a window.
    """
    out = events.new_zeros(*events.shape[:2], contextualizer.out_width)
    for size in torch.unique(length).tolist():
        chosen = length == size
        part = events[chosen, :size]
        if windows == "sliding" or contextualizer.txe is None:
            done = contextualizer.contextualize_long(part, step)
        else:
            done = in_blocks(contextualizer, part, step)
        out[chosen, :size] = done.to(out.dtype)
    return out


def in_blocks(contextualizer: Contextualizer, events: Tensor, step: int) -> Tensor:
    """Contextualize (B, L, D) in blocks of `max_events`; the last block is moved back to end with the movie."""
    batch, length, width = events.shape
    size = contextualizer.txe.max_events
    out = events.new_zeros(batch, length, contextualizer.out_width)
    for phase in range(min(step, length)):
        places = torch.arange(phase, length, step, device=events.device)
        if len(places) <= size:
            out[:, places] = contextualizer(events[:, places]).to(out.dtype)
            continue
        starts = torch.arange(0, len(places) - size + 1, size, device=events.device)
        if starts[-1] + size < len(places):
            starts = torch.cat([starts, starts.new_tensor([len(places) - size])])
        index = places[starts[:, None] + torch.arange(size, device=events.device)]  # (K, N)
        blocks = events[:, index].reshape(-1, size, width)  # (B * K, N, D)
        done = contextualizer(blocks).view(batch, *index.shape, -1)
        for number in range(index.shape[0]):
            out[:, index[number]] = done[:, number].to(out.dtype)
    return out
