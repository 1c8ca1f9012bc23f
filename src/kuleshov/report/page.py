"""One self-contained HTML page about some runs: no script, no network, everything escaped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kuleshov.core.files import code_version, write_atomic
from kuleshov.core.results import Result
from kuleshov.report.columns import row_title
from kuleshov.report.confusions import confusions
from kuleshov.report.curves import row_colors, stage_curves
from kuleshov.report.fill_ins import fill_ins
from kuleshov.report.filmstrips import filmstrips
from kuleshov.report.job_answers import read_answers
from kuleshov.report.lineage import ResultSource, RunRecord, left_out
from kuleshov.report.results_table import ResultsTable, build_table
from kuleshov.report.table_view import shown_columns, shown_rows


def write_page(
    path: str | Path,
    runs: Sequence[RunRecord],
    measured: Sequence[tuple[ResultSource, Result]],
    table: ResultsTable,
    strips: int = 3,
) -> None:
    """Write the page of some runs, needs first, and their results, by an atomic rename.

    The table is shown first, then `strips` windows that TxE fills in and `strips` segments of VidSitu (0: neither).
    """
    answers, unread = read_answers(runs)
    shown, strip_notes = filmstrips(answers, strips) if strips and answers else ({}, [])
    filled, fill_in_notes = fill_ins(runs, strips) if strips else ({}, [])
    colors = row_colors(job.row for run in runs for job in run.job_records())
    text = render(
        "page.html",
        title="Kuleshov: report",
        table=table,
        whole=build_table(measured, all_metrics=True),
        stages=[stage for run in runs if (stage := stage_curves(run, colors)) is not None],
        fill_ins=filled,
        fill_in_notes=fill_in_notes,
        strips=shown,
        strip_notes=unread + strip_notes,
        confusions=confusions(answers) if answers else [],
        colors=colors,
        left_out=left_out(runs),
        runs=runs,
    )
    write_atomic(path, text)


def render(template: str, **values: Any) -> str:
    """A template's HTML, with the style sheet and this version in it, and everything else escaped."""
    environment = Environment(
        loader=PackageLoader("kuleshov.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"shown_rows": shown_rows, "shown_columns": shown_columns, "row_title": row_title}
    style = Markup(environment.loader.get_source(environment, "style.css")[0])
    return environment.get_template(template).render(style=style, markup=Markup, code_version=code_version(), **values)
