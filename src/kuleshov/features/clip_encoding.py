"""Clips to features."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from kuleshov.backbones.protocol import check_clips
from kuleshov.features.movie_clips import EventPlan, Grid, MovieClip, decode_movies
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.reader import Backend, VideoReader
from kuleshov.video.video_file import Video


def ready_for_clips(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a backbone to a device, in evaluation mode, its 3D convolutions channels last.

    Raises:
        KuleshovError: it does not take its own clips, or gives features of another width than its own.
    """
    network = network.to(device).eval()
    check_clips(network, network.clip)
    for parameter in network.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.to(memory_format=torch.channels_last_3d)
    return network


def pixels_to_clips(frames: Tensor, clip: ClipFormat, device: torch.device) -> Tensor:
    """Frames uint8 (B, T, H, W, 3) as a backbone takes them: float32 (B, 3, T, H, W) on the device."""
    clips = frames.to(device, non_blocking=True).permute(0, 4, 1, 2, 3)
    return clip.normalize(clips).contiguous(memory_format=torch.channels_last_3d)


def extract_movies(
    network: nn.Module,
    grid: Grid,
    batch_size: int,
    threads: int,
    backend: Backend,
    videos: Iterable[Video],
    device: torch.device,
) -> Iterator[tuple[Video, Tensor | str, str]]:
    """Decode movies and encode their events: what `encode` yields, and in what a movie's file falls short."""
    network = ready_for_clips(network, device)
    items = decode_movies(videos, grid, network.clip, threads, ahead=2 * batch_size, backend=backend)
    reader = VideoReader(backend)
    for video, outcome in encode(items, network, network.clip, batch_size, device):
        yield video, outcome, "" if isinstance(outcome, str) else EventPlan.of(video, grid, reader).remark


@torch.inference_mode()
def encode(
    items: Iterable[MovieClip | tuple[Video, str]],
    network: nn.Module,
    clip: ClipFormat,
    batch_size: int,
    device: torch.device,
) -> Iterator[tuple[Video, Tensor | str]]:
    """Run clips through the backbone in batches that reach across movies.

    Every batch has the same size, the last one padded, so that a movie's features do not depend, to the bit,
    on which movies were done before it.

    Yields:
        (video, float32 (n, D) on the CPU) as soon as a movie is whole, or (video, reason) for one that failed.
    """
    shape = (batch_size, clip.num_frames, clip.crop_size, clip.crop_size, 3)
    batch = torch.zeros(shape, dtype=torch.uint8)
    owners: list[MovieClip] = []
    rows: dict[str, dict[int, Tensor]] = {}
    failed: set[str] = set()

    def run() -> Iterator[tuple[Video, Tensor]]:
        features = network(pixels_to_clips(batch, clip, device)).float().cpu()  # (B, D)
        for owner, feature in zip(owners, features, strict=False):
            if owner.video.id in failed:
                continue
            movie = rows.setdefault(owner.video.id, {})
            movie[owner.event] = feature
            if len(movie) == owner.events:
                del rows[owner.video.id]
                yield owner.video, torch.stack([movie[event] for event in range(owner.events)])
        owners.clear()

    for item in items:
        if isinstance(item, tuple):
            # its clips that still wait in the batch are computed and thrown away
            failed.add(item[0].id)
            rows.pop(item[0].id, None)
            yield item
            continue
        batch[len(owners)] = torch.from_numpy(np.ascontiguousarray(item.frames))
        owners.append(item)
        if len(owners) == batch_size:
            yield from run()
    if owners:
        yield from run()
