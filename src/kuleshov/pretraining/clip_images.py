"""Clips as pictures: frames side by side."""

import torch
import torch.nn.functional as F
from torch import Tensor


def filmstrip(clips: Tensor, max_frames: int = 8) -> Tensor:
    """Lay clips out as one picture: a row a clip, its frames from left to right.

    Args:
        clips: (N, 3, T, H, W) in [0, 1]; values outside are cut.
        max_frames: frames shown of each clip, evenly chosen.

    Returns:
        (3, N * H, frames * W) float in [0, 1].
    """
    count = min(max_frames, clips.shape[2])
    chosen = torch.linspace(0, clips.shape[2] - 1, count).round().long()
    frames = clips.detach().float().cpu()[:, :, chosen].clamp(0, 1)  # (N, 3, F, H, W)
    return frames.permute(1, 0, 3, 2, 4).reshape(3, clips.shape[0] * clips.shape[3], -1)


def paired_rows(first: Tensor, second: Tensor, samples: int = 4) -> Tensor:
    """Interleave the first few clips of two batches, so that pairs stand one above the other.

    Args:
        first: (B, 3, T, H, W).
        second: (B, 3, T', H', W'), brought to the first's frames and pixels where these differ.
        samples: clips taken of each.

    Returns:
        (2 * samples, 3, T, H, W).
    """
    first, second = first[:samples].float(), second[:samples].float()
    if first.shape != second.shape:
        second = F.interpolate(second, size=first.shape[2:])
    return torch.stack([first, second], dim=1).flatten(0, 1)
