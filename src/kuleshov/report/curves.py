"""Learning curves: scalars from TensorBoard's event files, drawn as inline SVG.

The drawings take their colors from the page's style sheet, so that they follow its light and dark scheme.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kuleshov.report.columns import row_order
from kuleshov.report.lineage import RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EVENT_FILES = "events.out.tfevents*"
# not worth a drawing: counters, rates, speed and loading, what the HPARAMS tab shows
SKIPPED = ("epoch", "step", "hp", "lr-", "train/lr", "data/", "perf/", "test/", "final/")
COLORS = 8
# colors that matplotlib writes, and what the page puts in their place
_INK, _FAINT = "#010203", "#010204"
_VARIABLES = {_INK: "currentColor", _FAINT: "var(--line)"}
ROW_INKS = [f"#01030{number}" for number in range(COLORS)]
_VARIABLES |= {ink: f"var(--row-{number})" for number, ink in enumerate(ROW_INKS)}


@dataclass(frozen=True)
class LearningCurve:
    """One training's scalar: the table's row (empty for none), steps (n,) and values (n,), perhaps not finite."""

    row: str
    steps: np.ndarray
    values: np.ndarray

    @property
    def flat(self) -> bool:
        """Whether it says one value, or none that is finite."""
        return len(np.unique(self.values[np.isfinite(self.values)])) < 2


@dataclass(frozen=True)
class StageCurves:
    """A run, its rows, drawings (title, SVG) of losses and scores and of the representation's health, flat titles."""

    run: RunRecord
    rows: list[str]
    scores: list[tuple[str, str]]
    health: list[tuple[str, str]]
    flat: list[str]


def row_colors(rows: Iterable[str]) -> dict[str, int]:
    """Row -> number of its color in the style sheet, in the order of the table's rows."""
    return {row: number % COLORS for number, row in enumerate(sorted(dict.fromkeys(rows), key=row_order))}


def read_scalars(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """All scalars of the event files in a job's folder: tag -> (steps, values), {} where there is none.

    A training that was interrupted and went on has several files; where steps overlap, the later file counts.
    """
    if not any(folder.glob(EVENT_FILES)):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    found = {}
    for tag in events.Tags()["scalars"]:
        points = dict(sorted({event.step: event.value for event in events.Scalars(tag)}.items()))
        found[tag] = np.array(list(points)), np.array(list(points.values()))
    return found


def curves_of(run: RunRecord) -> dict[str, list[LearningCurve]]:
    """Task and tag -> a curve for each of the run's jobs, in alphabetical order; not what concerns speed or rates."""
    found: dict[str, list[LearningCurve]] = {}
    for job in run.job_records():
        for tag, (steps, values) in read_scalars(job.folder).items():
            if not tag.startswith(SKIPPED):
                found.setdefault(f"{job.task} {tag}".strip(), []).append(LearningCurve(job.row, steps, values))
    return dict(sorted(found.items()))


def stage_curves(run: RunRecord, colors: Mapping[str, int]) -> StageCurves | None:
    """The drawings of a run, None where it logged nothing."""
    curves = curves_of(run)
    if not curves:
        return None
    rows = {curve.row for many in curves.values() for curve in many if curve.row}
    flat = [title for title, many in curves.items() if all(curve.flat for curve in many)]
    drawn = {title: draw(title, many, colors) for title, many in curves.items() if title not in flat}
    health = [(title, svg) for title, svg in drawn.items() if "ssl/" in title or "knn" in title]
    scores = [one for one in drawn.items() if one not in health]
    return StageCurves(run, sorted(rows, key=row_order), scores, health, flat)


def draw(title: str, curves: Sequence[LearningCurve], colors: Mapping[str, int]) -> str:
    """An SVG of curves of one scalar: a thin line a seed, colored by row; points that are not finite are left out."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title, "font.size": 7}):
        figure = Figure(figsize=(2.6, 1.5), layout="constrained")
        axes = figure.add_subplot()
        for curve in curves:
            good = np.isfinite(curve.values)
            style = {"color": ROW_INKS[colors.get(curve.row, 0)], "linewidth": 1.1, "markersize": 3}
            axes.plot(curve.steps[good], curve.values[good], marker="o" if good.sum() == 1 else None, **style)
        axes.locator_params(nbins=4)
        return page_svg(figure, axes)


def page_svg(figure: "Figure", axes: "Axes") -> str:
    """A figure's SVG element alone, its colors and fonts those of the page."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, length=2, color=_FAINT)
    axes.yaxis.label.set_color(_INK)
    axes.grid(axis="y", color=_FAINT, linewidth=0.5)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = re.sub(r"^.*?(?=<svg)|<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, variable)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", svg)
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"|height="[\d.]+pt" |width="[\d.]+pt" ', "", svg)
