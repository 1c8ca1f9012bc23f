"""Clips to features, and the extraction of one process."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kuleshov import backbones
from kuleshov.core.errors import StoreError
from kuleshov.core.files import write_json
from kuleshov.features.event_store_writer import StoreWriter
from kuleshov.features.movie_clips import Grid, MovieClip, Unreadable, decode_movies
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.reader import Backend
from kuleshov.video.video_file import Video


def encode(
    items: Iterable[MovieClip | Unreadable], network: nn.Module, clip: ClipFormat, batch_size: int, device: torch.device
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
        clips = batch.to(device, non_blocking=True).permute(0, 4, 1, 2, 3)  # (B, 3, T, H, W)
        clips = clip.normalize(clips).contiguous(memory_format=torch.channels_last_3d)
        features = network(clips).float().cpu()  # (B, D)
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
        if isinstance(item, Unreadable):
            # its clips that still wait in the batch are computed and thrown away
            failed.add(item.video.id)
            rows.pop(item.video.id, None)
            yield item.video, item.reason
            continue
        batch[len(owners)] = torch.from_numpy(np.ascontiguousarray(item.frames))
        owners.append(item)
        if len(owners) == batch_size:
            yield from run()
    if owners:
        yield from run()


@torch.inference_mode()
def extract_share(
    rank: int,
    writer: StoreWriter,
    weights: str | Path,
    videos: Sequence[Video],
    grid: Grid,
    batch_size: int,
    device: str,
    threads: int,
    backend: Backend,
    advance: Callable[[], Any],
) -> None:
    """Extract the features of one process's movies, and note those that failed in `pending/rank-N.json`."""
    network = backbones.load(weights)
    clip = network.clip
    network = network.to(device, memory_format=torch.channels_last_3d)
    items = decode_movies(videos, grid, clip, threads, ahead=2 * batch_size, backend=backend)
    failures = []
    for video, outcome in encode(items, network, clip, batch_size, torch.device(device)):
        if isinstance(outcome, str):
            failures.append({"id": video.id, "reason": outcome})
        elif writer.finite(outcome):
            writer.add(video.id, outcome)
        else:
            reason = f"the backbone gives features that are not finite in {writer.dtype}"
            failures.append({"id": video.id, "reason": reason})
        advance()
    try:
        write_json(writer.pending / f"rank-{rank:05d}.json", failures)
    except OSError as error:
        raise StoreError(f"cannot write to {writer.folder} ({error.strerror}): make room and go on") from error
