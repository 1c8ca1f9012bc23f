"""Clips as pictures: frames side by side."""

import torch
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
    """Interleave the first few clips of two batches (B, 3, T, H, W), so that pairs stand one above the other."""
    pairs = torch.stack([first[:samples], second[:samples]], dim=1)  # (n, 2, 3, T, H, W)
    return pairs.flatten(0, 1)
