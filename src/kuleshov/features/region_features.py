"""Region features: RoI align on a backbone's last map, and the extraction of one video's boxes.

He et al., Mask R-CNN, ICCV 2017: a box is cut into cells, each cell is sampled at points of a regular grid by
bilinear interpolation, and averaged; nothing is rounded. Pixel centers lie at half-integers ("aligned").
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError, VideoError
from kuleshov.features.clip_encoding import pixels_to_clips, ready_for_clips
from kuleshov.features.feature_store import Instances, instances
from kuleshov.video.reader import Backend, VideoReader


def roi_align(maps: Tensor, boxes: Tensor, owner: Tensor, size: int = 7, samples: int = 2) -> Tensor:
    """Cut boxes out of maps: (M, C, H, W) and (R, 4) -> (R, C, size, size).

    Points more than one pixel outside of the map count as 0, others are moved to its edge.

    Args:
        maps: feature maps.
        boxes: x1, y1, x2, y2 in the map's pixels (a box over the whole map is 0, 0, W, H).
        owner: (R,) the map of each box.
        size: cells in each direction.
        samples: sampling points of a cell in each direction.

    Raises:
        KuleshovError: sizes below 1, or boxes that are not (R, 4).
    """
    if size < 1 or samples < 1:
        raise KuleshovError(f"roi_align needs size and samples of at least 1, got {size} and {samples}")
    if boxes.ndim != 2 or boxes.shape[1] != 4 or owner.shape != boxes.shape[:1]:
        raise KuleshovError(f"boxes (R, 4) and owner (R,) expected, got {tuple(boxes.shape)} and {tuple(owner.shape)}")
    x = _sampling_points(boxes[:, 0], boxes[:, 2], size, samples)  # (R, size * samples)
    y = _sampling_points(boxes[:, 1], boxes[:, 3], size, samples)
    sampled = _bilinear(maps, owner, x, y)  # (R, C, size * samples, size * samples)
    return sampled.view(len(boxes), maps.shape[1], size, samples, size, samples).mean(dim=(3, 5))


def _sampling_points(low: Tensor, high: Tensor, size: int, samples: int) -> Tensor:
    """Coordinates of all sampling points along one side of boxes, (R,) and (R,) -> (R, size * samples)."""
    step = torch.arange(size * samples, device=low.device, dtype=low.dtype) + 0.5
    # half a pixel is taken off: coordinate 0 is then the first pixel's center
    return (low[:, None] - 0.5) + (high - low)[:, None] * step / (size * samples)


def _bilinear(maps: Tensor, owner: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Sample maps (M, C, H, W) at the grid of x (R, U) and y (R, V): (R, C, V, U)."""
    height, width = maps.shape[-2:]
    left, right, along_x = _neighbors(x, width)
    top, bottom, along_y = _neighbors(y, height)

    def take(rows: Tensor, columns: Tensor) -> Tensor:
        # (R, V, U, C), indices broadcast to (R, V, U)
        return maps[owner[:, None, None], :, rows[:, :, None], columns[:, None, :]]

    along_x, along_y = along_x[:, None, :, None], along_y[:, :, None, None]
    upper = take(top, left) * (1 - along_x) + take(top, right) * along_x
    lower = take(bottom, left) * (1 - along_x) + take(bottom, right) * along_x
    sampled = upper * (1 - along_y) + lower * along_y
    inside = (((y >= -1) & (y <= height))[:, :, None] & ((x >= -1) & (x <= width))[:, None, :]).unsqueeze(-1)
    return (sampled * inside).permute(0, 3, 1, 2)


def _neighbors(place: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels around each coordinate, moved inside the map, and the share of the second."""
    clamped = place.clamp(0, length - 1)
    first = clamped.floor().long()
    return first, (first + 1).clamp(max=length - 1), clamped - first


def region_features(maps: Tensor, boxes: Tensor, owner: Tensor, size: int = 7, pool: str = "max") -> Tensor:
    """One vector for each box: (M, D, T, H, W) and boxes in 0..1 of the frame -> (R, D).

    The map is averaged over time, cut by `roi_align`, and pooled over its cells, as in SlowFast's detection
    head (average over time, maximum over space).

    Args:
        maps: a backbone's `forward_map`.
        boxes: (R, 4) x1, y1, x2, y2 as shares of the frame.
        owner: (R,) the map of each box.
        size: cells in each direction.
        pool: max or mean over the cells.
    """
    if pool not in ("max", "mean"):
        raise KuleshovError(f"regions are pooled by max or mean, not {pool!r}")
    flat = maps.mean(2)  # (M, D, H, W)
    scale = boxes.new_tensor([flat.shape[3], flat.shape[2]] * 2)
    cells = roi_align(flat, boxes * scale, owner, size)
    return cells.amax((2, 3)) if pool == "max" else cells.mean((2, 3))


def require_maps(network: nn.Module) -> None:
    """Refuse a backbone without `forward_map`.

    Raises:
        KuleshovError: its class is named.
    """
    if not callable(getattr(network, "forward_map", None)):
        raise KuleshovError(
            f"backbone {type(network).__name__} has no forward_map, which region features need: name another one"
        )


class RegionExtractor:
    """Region features of one video's boxes from a backbone's last map.

    Args:
        network: a backbone with `forward_map`; its `clip` says how clips are sampled.
        pool: max or mean over the cells of a region.
        batch_size: clips in a forward pass.
        device: where the backbone runs.
        backend: decoder: auto, decord or pyav.

    Raises:
        KuleshovError: the backbone has no `forward_map`.
    """

    def __init__(
        self,
        network: nn.Module,
        pool: str = "max",
        batch_size: int = 8,
        device: torch.device | str = "cpu",
        backend: Backend = "auto",
    ) -> None:
        require_maps(network)
        self.device = torch.device(device)
        self.network = ready_for_clips(network, self.device)
        self.pool, self.batch_size, self.reader = pool, batch_size, VideoReader(backend)

    def times(self, second: int) -> NDArray:
        """Times (T,) of the clip centered in a second, not before the movie's beginning."""
        clip = self.network.clip
        times = second + 0.5 - clip.span_seconds / 2 + np.arange(clip.num_frames) * clip.frame_seconds
        return np.maximum(times, 0.0)

    @torch.inference_mode()
    def __call__(self, path: Path, found: Mapping[str, NDArray]) -> Instances:
        """The instances of a video; boxes are cut at the frame's edge, those outside of it are left out.

        Raises:
            VideoError: the video cannot be read.
        """
        info = self.reader.probe(path)
        frame = np.array([info.width, info.height] * 2, dtype=np.float64)
        boxes = np.clip(found["boxes"] / frame, 0, 1)
        kept = (boxes[:, 2] - boxes[:, 0] > 1e-4) & (boxes[:, 3] - boxes[:, 1] > 1e-4)
        if not kept.any():
            raise VideoError(path, f"none of its {len(kept)} boxes lies in the frame of {info.width}x{info.height}")
        found, boxes = {name: column[kept] for name, column in found.items()}, boxes[kept]
        seconds = np.unique(found["seconds"])
        features = torch.zeros(len(boxes), self.network.feature_width)
        clips: list[NDArray] = []
        windows = (self.times(int(second)) for second in seconds)
        for window, frames in self.reader.stream(path, windows, self.network.clip.short_side):
            clips.append(frames)
            if len(clips) == self.batch_size or window == len(seconds) - 1:
                batch = seconds[window + 1 - len(clips) : window + 1]
                rows = np.flatnonzero(np.isin(found["seconds"], batch))
                owner = torch.from_numpy(np.searchsorted(batch, found["seconds"][rows])).to(self.device)
                cut = torch.from_numpy(boxes[rows]).float().to(self.device)
                pixels = pixels_to_clips(torch.from_numpy(np.stack(clips)), self.network.clip, self.device)
                maps = self.network.forward_map(pixels)
                features[torch.from_numpy(rows)] = region_features(maps, cut, owner, pool=self.pool).float().cpu()
                clips = []
        further = {"scores": found["scores"], "shots": found.get("shots")}
        return instances(features.numpy(), boxes, found["seconds"], found["tracks"], **further)
