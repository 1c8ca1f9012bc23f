"""A contact sheet of a world's VidSitu segments, for the human eye."""

from pathlib import Path

import numpy as np

from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.core.files import write_through
from kuleshov.synthetic.annotations import LVU_CLASSES
from kuleshov.synthetic.grammar import VERBS
from kuleshov.synthetic.motions import EVENT_FRAMES, FPS, SIDE
from kuleshov.synthetic.story import SEGMENT_EVENTS
from kuleshov.synthetic.truth import TrueSegment, read_segments
from kuleshov.video.reader import VideoReader

PER_EVENT = 4
_GAP = 6


def gallery(root: Path, output: Path, rows: int = 8, split: str = "valid") -> Path:
    """Write a contact sheet of the generated movies' stories: frames of each event, with its true verb.

    Args:
        root: a generated world
        output: PNG to write
        rows: number of stories, spread over the split
        split: train, valid, testvb, testsrl or testevrel
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    segments = read_segments(Path(root), split)
    if rows < 1 or not segments:
        raise KuleshovError(f"nothing to draw: {rows} rows of {len(segments)} segments of {split}")
    chosen = [segments[i] for i in np.unique(np.linspace(0, len(segments) - 1, rows).astype(int))]
    width = SEGMENT_EVENTS * (PER_EVENT * SIDE + _GAP)
    figure = Figure(figsize=(width / 76, len(chosen) * (SIDE + 40) / 76), dpi=110)
    canvas = FigureCanvasAgg(figure)
    for row, segment in enumerate(chosen):
        axes = figure.add_axes((0, 1 - (row + 0.8) / len(chosen), 1, 0.66 / len(chosen)))
        axes.imshow(_strip(Path(root), segment), aspect="auto", interpolation="nearest")
        axes.set_axis_off()
        _caption(axes, segment)
    write_through(output, lambda path: canvas.print_png(str(path)))
    return output


def _caption(axes, segment: TrueSegment) -> None:
    for event, (verb, off) in enumerate(zip(segment.verbs, segment.off_screen, strict=True)):
        center = (event + 0.5) * (PER_EVENT * SIDE + _GAP) - _GAP / 2
        text = f"({VERBS[verb]}, off screen)" if off else VERBS[verb]
        axes.text(center, SIDE + 1, text, ha="center", va="top", size=9, color="crimson" if off else "black")
    style = ", ".join(LVU_CLASSES[name][segment.style[name]][1] for name in ("genre", "relationship"))
    axes.text(0, -3, f"{segment.id}   {style}", ha="left", va="bottom", size=6, color="gray")


def _strip(root: Path, segment: TrueSegment) -> np.ndarray:
    """Frames of a segment side by side, (H, W, 3) uint8, events apart by a white gap."""
    path = root / "vidsitu" / "videos" / f"{segment.video}.mp4"
    if not path.is_file():
        raise MissingDataError("the world's video", path, "finish the world: run `kuleshov world` again")
    picks = np.linspace(1, EVENT_FRAMES - 1, PER_EVENT).astype(int)
    events = segment.number * SEGMENT_EVENTS + np.arange(SEGMENT_EVENTS)
    frames = VideoReader().read(path, (events[:, None] * EVENT_FRAMES + picks).ravel() / FPS)
    gap = np.full((SIDE, _GAP, 3), 255, np.uint8)
    parts = [np.concatenate([*frames[k : k + PER_EVENT], gap], axis=1) for k in range(0, len(frames), PER_EVENT)]
    return np.concatenate(parts, axis=1)
