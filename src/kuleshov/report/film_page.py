"""A film's description as one self-contained page: frames, time axis, arrows, and the curve of what is surprising."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from kuleshov.core.errors import VideoError
from kuleshov.report.curves import ROW_INKS, page_svg
from kuleshov.report.describe import OUTSIDE, FilmDescription, clock
from kuleshov.report.filmstrips import SHORT_SIDE, data_uri
from kuleshov.report.page import render
from kuleshov.video.reader import VideoReader

LOOKS = 8  # frames an event that are compared, four a second
STRIP = (1, 4, 6)  # those that are shown
MANY = 300  # films with more events than this, ten minutes, are shown with one frame an event
# a cut changes this share of the colors, and so many times what changes around it
_CHANGE, _TIMES, _AROUND = 0.3, 3.0, 8


@dataclass
class Seen:
    """Frames of a film's events as data URIs, by the event's number, and the seconds at which scenes change."""

    frames: dict[int, list[str]] = field(default_factory=dict)
    cuts: list[float] = field(default_factory=list)


def film_page(film: FilmDescription) -> str:
    """The page's HTML; where frames cannot be read, it goes without."""
    seen = look(film)
    named = {event.start: number for number, event in enumerate(film.events)}
    counts = {"events": len(film.events), OUTSIDE: sum(event.outside for event in film.events)}
    counts["lost"] = sum(bool(event.lost) for event in film.events)
    return render(
        "film.html",
        title=film.video.name,
        film=film,
        counts=counts,
        seen=seen,
        named=named,
        cuts=[[cut for cut in seen.cuts if event.start <= cut < event.end] for event in film.events],
        curves=surprise_curves(film, seen.cuts),
        clock=clock,
        outside=OUTSIDE,
    )


def look(film: FilmDescription) -> Seen:
    """Look at a film once, four frames a second, past what is damaged."""
    seen, reader = Seen(), VideoReader()
    chosen = STRIP if len(film.events) <= MANY else STRIP[1:2]
    changes: list[tuple[float, float]] = []
    before, number = None, 0
    whole = [(number, event) for number, event in enumerate(film.events) if not event.lost]
    while whole[number:]:
        windows = [np.linspace(e.start, e.end, LOOKS, endpoint=False) + 1 / LOOKS for _, e in whole[number:]]
        try:
            for _, frames in reader.stream(film.video, windows, SHORT_SIDE):
                place, event = whole[number]
                seen.frames[place] = [data_uri(frames[i]) for i in chosen]
                for i, colors in enumerate(map(_colors, frames)):
                    if before is not None:
                        time = event.start + (event.end - event.start) * i / LOOKS
                        changes.append((time, float(np.abs(colors - before).sum() / 2)))
                    before = colors
                number += 1
        except VideoError:
            before, number = None, number + 1
    seen.cuts = scene_changes(changes)
    return seen


def _colors(frame: np.ndarray) -> np.ndarray:
    """Shares of a frame's colors: hue, saturation and value in 12 x 4 x 4 bins."""
    image = cv2.cvtColor(frame, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([image], [0, 1, 2], None, [12, 4, 4], [0, 180, 0, 256, 0, 256])
    return counts / counts.sum()


def scene_changes(changes: list[tuple[float, float]]) -> list[float]:
    """The seconds of cuts, of (second, share of the colors that changed): much, and more than what changes around."""
    sizes = np.array([size for _, size in changes])
    usual = [np.median(sizes[max(0, i - _AROUND) : i + _AROUND + 1]) for i in range(len(sizes))]
    return [time for (time, size), around in zip(changes, usual, strict=True) if size > max(_CHANGE, _TIMES * around)]


def surprise_curves(film: FilmDescription, cuts: list[float]) -> list[str]:
    """SVGs of the events' surprise, ten minutes each, scene changes as dotted lines; none where none is known."""
    values = np.array([np.nan if event.surprise is None else event.surprise for event in film.events])
    if np.isnan(values).all():
        return []
    low, high = np.nanmin(values), np.nanmax(values)
    room = 0.05 * (high - low) or 0.05
    return [_curve(film, first, values, cuts, (low - room, high + room)) for first in range(0, len(values), MANY)]


def _curve(film: FilmDescription, first: int, values: np.ndarray, cuts: list[float], limits: tuple) -> str:
    """The part of at most `MANY` events from number `first` on."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    events = film.events[first : first + MANY]
    middles = [(event.start + event.end) / 2 for event in events]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"{film.id} {first}", "font.size": 7}):
        figure = Figure(figsize=(8, 1.6), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(middles, values[first : first + MANY], marker="o", markersize=2, linewidth=1, color=ROW_INKS[2])
        for cut in cuts:
            if events[0].start <= cut < events[-1].end:
                axes.axvline(cut, color=ROW_INKS[1], linestyle="dotted", linewidth=0.8)
        axes.set(xlim=(events[0].start, events[-1].end), ylim=limits, ylabel="surprise")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
        return page_svg(figure, axes)
