"""Pictures of what TxE does, for TensorBoard: attention, discrepancy along a movie, and what it retrieves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from kuleshov.core.errors import VideoError
from kuleshov.datasets.folder import find_videos
from kuleshov.datasets.vidsitu_format import parse_segment
from kuleshov.txe.encoder import TxE
from kuleshov.txe.event_masking import block_discrepancies, block_mask
from kuleshov.txe.window_data import EventWindows, Windows
from kuleshov.video.reader import VideoReader

FramesOf = Callable[[str, float], np.ndarray | None]


class TxEVisualization(pl.Callback):
    """Adds pictures to TensorBoard after validation: attention maps, discrepancy, retrieval.

    Args:
        every_n_epochs: how often.
        queries: hidden events in the retrieval panel.
    """

    def __init__(self, every_n_epochs: int = 10, queries: int = 4) -> None:
        self.every_n_epochs, self.queries = every_n_epochs, queries

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw and add the pictures on rank 0."""
        writer = getattr(trainer.logger, "experiment", None)
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if not (trainer.is_global_zero and due and hasattr(writer, "add_figure")) or trainer.sanity_checking:
            return
        data: EventWindows = trainer.datamodule
        txe: TxE = pl_module.txe
        step, windows = trainer.global_step, shown_windows(data)
        rows = windows.rows(windows.draw(0)[0]).to(pl_module.device)
        writer.add_figure("txe/attention", attention_figure(txe, data.table.take(rows[:64])), step)
        writer.add_figure("txe/discrepancy", discrepancy_figure(txe, data, rows.device), step)
        found = retrieve(txe, data, rows[: self.queries])
        frames_of = frames_in(data.video_root) if data.video_root else lambda movie, second: None
        writer.add_figure("txe/retrieval", retrieval_figure(found, data, frames_of), step)


def frames_in(video_root: str, short_side: int = 64) -> FramesOf:
    """A function that gives a movie's frame at a second, None where there is no such movie.

    A VidSitu segment that is no file of its own is looked up in its source.
    """
    paths = {video.id: Path(video.path) for video in find_videos(video_root)}
    reader = VideoReader()

    def frame_of(movie: str, second: float) -> np.ndarray | None:
        path = paths.get(movie)
        try:
            if path is None:
                segment = parse_segment(movie)
                path, second = paths[segment.source], second + segment.start
            return reader.read(path, [second], short_side=short_side)[0]
        except (ValueError, KeyError, VideoError):
            return None

    return frame_of


def shown_windows(data: EventWindows) -> Windows:
    """The windows that are drawn: the validation's, the training's where nothing is held out."""
    return data.train_windows if data.val_windows is None else data.val_windows


def attention_figure(txe: TxE, windows: Tensor) -> Figure:
    """Mean attention of every layer and head over windows (B, N, D): a query event a row, a key event a column."""
    maps = txe.attention_maps(windows).mean(1).cpu()  # (layers, heads, N, N)
    layers, heads = maps.shape[:2]
    places, names = range(maps.shape[2]), [f"{number + 1}" for number in range(maps.shape[2])]
    figure = Figure(figsize=(heads + 0.3, layers + 0.6))
    axes = figure.subplots(layers, heads, squeeze=False)
    for layer, line in enumerate(axes):
        for head, axis in enumerate(line):
            axis.imshow(maps[layer, head], vmin=0, vmax=1)
            axis.set(xticks=places, yticks=places, xticklabels=names, yticklabels=names)
            axis.tick_params(labelsize=5, length=0, pad=1)
            axis.label_outer()
            if layer == 0:
                axis.set_title(f"head {head + 1}", fontsize=7)
        line[0].set_ylabel(f"layer {layer + 1}", fontsize=7)
    figure.supxlabel("key event", fontsize=7)
    figure.supylabel("query event", fontsize=7)
    figure.tight_layout()
    return figure


def discrepancy_figure(txe: TxE, data: EventWindows, device: torch.device) -> Figure:
    """Discrepancy of a held-out movie's events, each in the middle of a window, by their seconds.

    The movie is the longest one, the first by id of several; the events at its ends are in the middle of none.
    """
    windows = shown_windows(data)
    movies, middle = windows.movies, windows.events // 2
    number = min(range(len(movies.ids)), key=lambda i: (-movies.count[i], movies.ids[i]))
    begin = np.arange(movies.count[number] - (windows.events - 1) * windows.step)
    rows = windows.rows(movies.first[number] + begin).to(device)
    alone = torch.ones(len(rows), dtype=torch.long, device=device)
    scores = block_discrepancies(txe, data.table.take(rows), alone)[:, middle]
    figure = Figure(figsize=(8, 2.5))
    axis = figure.subplots()
    seconds = (begin + middle * windows.step) * data.table.stores[0].stride
    axis.plot(seconds, scores.cpu().numpy(), marker=".", linewidth=0.8)
    axis.set(xlabel="seconds", ylabel="discrepancy", title=movies.ids[number])
    figure.tight_layout()
    return figure


def retrieve(txe: TxE, data: EventWindows, rows: Tensor, nearest: int = 5) -> list[tuple[int, list[int]]]:
    """For windows (Q, N) with their middle event hidden: its row, and the rows nearest to what TxE fills in.

    Candidates are the hidden events themselves and the validation's others.
    """
    count, events = rows.shape
    middle = torch.full((count,), events // 2, device=rows.device)
    masked = block_mask(torch.ones_like(middle), middle, events)
    truth = rows[:, events // 2]
    candidates = torch.unique(torch.cat([truth, data.others.to(rows.device)]))
    filled = txe.reconstruct(txe(data.table.take(rows), masked)[masked])  # (Q, D)
    cosines = filled @ txe.targets(data.table.take(candidates)).T
    best = cosines.topk(min(nearest, len(candidates)), dim=1).indices
    return [(int(row), candidates[index].tolist()) for row, index in zip(truth, best, strict=True)]


def retrieval_figure(found: list[tuple[int, list[int]]], data: EventWindows, frames_of: FramesOf) -> Figure:
    """A row a hidden event: its frame first, then those nearest to what TxE filled in; a star marks itself."""
    columns = 1 + max(len(rows) for _, rows in found)
    figure = Figure(figsize=(1.6 * columns, 1.7 * len(found)))
    axes = figure.subplots(len(found), columns, squeeze=False)
    for line, (truth, nearest) in zip(axes, found, strict=True):
        for axis in line:
            axis.axis("off")
        for axis, row in zip(line, [truth, *nearest], strict=False):
            movie, second = data.table.locate(row)
            frame = frames_of(movie, second + data.table.stores[0].window / 2)
            if frame is not None:
                axis.imshow(frame)
            mark = "hidden: " if axis is line[0] else "* " if row == truth else ""
            axis.set_title(f"{mark}{movie[-12:]} {second:.0f} s", fontsize=6)
    figure.tight_layout()
    return figure
