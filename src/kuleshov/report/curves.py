"""Learning curves: scalars from TensorBoard's event files, drawn as inline SVG.

The drawings take their colors from the page's style sheet, so that they follow its light and dark scheme.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kuleshov.report.lineage import Run

SKIPPED = ("epoch", "hp_metric", "step")
# colors that matplotlib writes, and what the page puts in their place
_INK, _FAINT = "#010203", "#010204"
_ROW_COLOURS = {
    "backbone": "#010205",
    "scratch": "#010206",
    "pretrained": "#010207",
    "language": "#010208",
    "": "#010209",
}
_VARIABLES = {
    _INK: "currentColor",
    _FAINT: "var(--line)",
    **{color: f"var(--row-{row or 'other'})" for row, color in _ROW_COLOURS.items()},
}


@dataclass(frozen=True)
class Curve:
    """One training's scalar over steps.

    Attributes:
        row: the table's row; empty where a stage has none.
        steps: (n,) optimizer steps.
        values: (n,) the scalar; not finite where it was not.
    """

    row: str
    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Drawing:
    """A small figure: its title, the last value of each row, and the SVG."""

    title: str
    last: dict[str, float]
    svg: str


def read_scalars(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """All scalars of a folder's event files: tag -> (steps, values), {} where there is none.

    A training that was interrupted and went on has several files; where steps overlap, the later file counts.
    """
    if not any(folder.rglob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, dict[int, float]] = {}
    for place in sorted({path.parent for path in folder.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(place), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, {}).update((event.step, event.value) for event in events.Scalars(tag))
    return {
        tag: (np.array(sorted(points)), np.array([points[step] for step in sorted(points)]))
        for tag, points in found.items()
    }


def curves_of(run: Run) -> dict[str, list[Curve]]:
    """tag -> a curve for each of the run's jobs, tags in alphabetical order."""
    found: dict[str, list[Curve]] = {}
    for folder in run.job_folders:
        row = row_of(folder.name)
        for tag, (steps, values) in read_scalars(folder / "tensorboard").items():
            if tag not in SKIPPED and not tag.startswith("lr-"):
                found.setdefault(group_of(folder.name, row) + tag, []).append(Curve(row, steps, values))
    return dict(sorted(found.items()))


def row_of(job: str) -> str:
    """The row in a job folder's name, `<task>-<row>-seed<k>`; empty where there is none."""
    parts = job.split("-")
    return next((row for row in _ROW_COLOURS if row and row in parts), "") if parts[-1].startswith("seed") else ""


def group_of(job: str, row: str) -> str:
    """The task in a job folder's name, with a blank behind it; empty where there is none."""
    parts = job.split("-")
    before = parts[: parts.index(row)] if row else []
    return f"{'-'.join(before)} " if before else ""


def draw(title: str, curves: Sequence[Curve], width: float = 2.6, height: float = 1.5) -> Drawing:
    """Draw curves of one scalar: a thin line a seed, colored by row.

    Args:
        title: shown above by the page, not in the drawing.
        curves: at least one; points that are not finite are left out.
        width: inches.
        height: inches.
    """
    import matplotlib
    from matplotlib.figure import Figure

    settings = {"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 7}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        for curve in curves:
            good = np.isfinite(curve.values)
            style = {"color": _ROW_COLOURS.get(curve.row, _ROW_COLOURS[""]), "linewidth": 1.1}
            marker = "o" if good.sum() == 1 else None
            axes.plot(curve.steps[good], curve.values[good], marker=marker, markersize=3, **style)
        _plain(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    last = {curve.row: float(curve.values[-1]) for curve in curves if len(curve.values)}
    return Drawing(title, last, themed(buffer.getvalue()))


def _plain(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, length=2, color=_FAINT)
    axes.locator_params(axis="x", nbins=4)
    axes.locator_params(axis="y", nbins=4)
    axes.grid(axis="y", color=_FAINT, linewidth=0.5)


def themed(svg: str) -> str:
    """Cut the SVG element out and let colors and fonts follow the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", svg)
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"|height="[\d.]+pt" |width="[\d.]+pt" ', "", svg)


def is_health(tag: str) -> bool:
    """Whether a scalar tells of the representation's health rather than of the loss."""
    return "ssl/" in tag or "knn" in tag


def worth_drawing(tags: Iterable[str]) -> list[str]:
    """Losses, validation scores and health; not what concerns speed and loading."""
    return [tag for tag in tags if not tag.rsplit(" ", 1)[-1].startswith(("data/", "perf/", "train/lr"))]


def drawings(curves: Mapping[str, Sequence[Curve]]) -> list[Drawing]:
    """A drawing for each scalar worth one."""
    return [draw(tag, curves[tag]) for tag in worth_drawing(curves)]
