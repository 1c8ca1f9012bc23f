"""One self-contained HTML page about some runs: no script, no network, everything escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kuleshov.core.files import code_version, write_atomic
from kuleshov.core.results import Result
from kuleshov.report.columns import metric_title, row_title, task_title
from kuleshov.report.curves import Drawing, curves_of, drawings, is_health
from kuleshov.report.filmstrips import filmstrips
from kuleshov.report.lineage import Run
from kuleshov.report.render import difference, number
from kuleshov.report.skipped import skipped
from kuleshov.report.table_five import CAPTION, heads, lines, lvu_tables
from kuleshov.report.tables import Source, Table, build, differences

TITLE = "Kuleshov"


@dataclass(frozen=True)
class StageCurves:
    """The drawings of one run.

    Attributes:
        run: the run.
        curves: losses and validation scores.
        health: of the representation.
        rows: the table's rows that are drawn, for the legend.
    """

    run: Run
    curves: list[Drawing]
    health: list[Drawing]
    rows: list[str]


def write_page(
    path: str | Path, runs: Sequence[Run], measured: Sequence[tuple[Source, Result]], table: Table, strips: int = 3
) -> None:
    """Write the page by an atomic rename.

    Args:
        path: the HTML file.
        runs: all runs, needs first.
        measured: their results.
        table: the headline table.
        strips: VidSitu segments to show.
    """
    write_atomic(path, page(runs, measured, table, strips))


def page(runs: Sequence[Run], measured: Sequence[tuple[Source, Result]], table: Table, strips: int = 3) -> str:
    """The page's HTML."""
    shown, strip_notes = filmstrips(runs, strips) if strips else ([], [])
    environment = Environment(
        loader=PackageLoader("kuleshov.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"row_title": row_title, "task_title": task_title, "metric_title": metric_title}
    environment.globals |= {
        "number": number,
        "difference": difference,
        "differences": differences,
        "svg": lambda drawing: Markup(drawing.svg),
        "five_heads": heads,
        "five_lines": lines,
        "five_caption": CAPTION,
    }
    style = environment.loader.get_source(environment, "style.css")[0]
    return environment.get_template("page.html").render(
        title=TITLE,
        style=Markup(style),
        table=table,
        fives=lvu_tables(measured),
        whole=build(measured, headline=False),
        stages=[stage for run in runs if (stage := stage_curves(run)) is not None],
        strips=shown,
        strip_notes=strip_notes,
        skipped=skipped(runs),
        runs=runs,
        code_version=code_version(),
    )


def stage_curves(run: Run) -> StageCurves | None:
    """The drawings of a run, None where it logged nothing."""
    curves = curves_of(run)
    drawn = drawings(curves)
    if not drawn:
        return None
    rows = dict.fromkeys(curve.row for many in curves.values() for curve in many if curve.row)
    return StageCurves(
        run=run,
        curves=[one for one in drawn if not is_health(one.title)],
        health=[one for one in drawn if is_health(one.title)],
        rows=list(rows),
    )
