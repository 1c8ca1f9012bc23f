"""A table as text for the terminal, and as JSON."""

import math
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from kuleshov.report.columns import ColumnKey, decimals, metric_title, row_title, task_title
from kuleshov.report.tables import Cell, Comparison, Table, differences

PLAIN_WIDTH = 200


def difference(one: Comparison | None) -> str:
    """A difference with its sign and standard error, and a star where it is beyond two of them."""
    if one is None:
        return ""
    sign = "+" if one.difference >= 0 else "-"
    return sign + number(abs(one.difference), one.error, one.column) + ("*" if one.clear else "")


def number(value: float, error: float | None, column: ColumnKey) -> str:
    """A value with its standard error."""
    places = decimals(column)
    return f"{value:.{places}f}" + (f" ± {error:.{places}f}" if error is not None else "")


def print_table(table: Table, console: Console, title: str = "") -> None:
    """Print a table and its notes; where it is too wide, a table for each task; of no columns, the notes."""
    whole = rich_table(table, table.columns, title)
    if table.columns and console.measure(whole).maximum <= console.width:
        console.print(whole)
    else:
        for task in dict.fromkeys(column.task for column in table.columns):
            columns = [column for column in table.columns if column.task == task]
            console.print(rich_table(table, columns, task_title(task)))
    for note in table.notes:
        console.print(escape(note))


def rich_table(table: Table, columns: list[ColumnKey], title: str = "") -> RichTable:
    """Some of a table's columns as a rich table; the paper's number stands below ours."""
    shown = RichTable(title=escape(title), title_justify="left", caption=CAPTION, caption_justify="left")
    shown.add_column("row", no_wrap=True)
    for column in columns:
        shown.add_column(escape(heading(table, column)), justify="right", no_wrap=True)
    for row, cells in table.rows.items():
        if any(column in cells for column in columns):
            shown.add_row(escape(row_title(row)), *(_cell_text(cells.get(column), column) for column in columns))
    shown.add_section()
    for row, found in differences(table).items():
        if any(column in found for column in columns):
            shown.add_row(escape(row), *(difference(found.get(column)) for column in columns))
    return shown


CAPTION = "mean ± standard error over seeds; in brackets: the nearest row that the paper prints"


def heading(table: Table, column: ColumnKey) -> str:
    """Task, metric, and number of samples."""
    samples = table.samples[column]
    n = f"n {samples.n}" if samples.n == samples.of else f"n {samples.n} of {samples.of}"
    return f"{task_title(column.task)}\n{metric_title(column.metric)}\n{column.split}, {n}"


def _cell_text(cell: Cell | None, column: ColumnKey) -> str:
    if cell is None:
        return ""
    text = number(cell.value, cell.error, column) + cell.mark
    if cell.paper is None:
        return text
    return f"{text}\n[dim]({number(cell.paper.value, cell.paper.error, column)})[/]"


def terminal() -> Console:
    """The console on stdout; wide where stdout is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def as_json(table: Table) -> dict[str, Any]:
    """The table as plain values: columns, rows of cells by `task/metric/split`, comparisons, notes."""
    return {
        "columns": [
            {**asdict(column), "key": name(column), "samples": asdict(table.samples[column])}
            for column in table.columns
        ],
        "rows": {
            row: {name(column): _cell_json(cells[column]) for column in table.columns if column in cells}
            for row, cells in table.rows.items()
        },
        "comparisons": [_comparison_json(one) for one in table.comparisons],
        "notes": list(table.notes),
    }


def _comparison_json(one: Comparison) -> dict[str, Any]:
    numbers = {"difference": finite(one.difference), "error": finite(one.error)}
    return {**asdict(one), **numbers, "column": name(one.column)}


def name(column: ColumnKey) -> str:
    """A column's name in JSON."""
    return f"{column.task}/{column.metric}/{column.split}"


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {
        "value": finite(cell.value),
        "error": finite(cell.error),
        "seeds": {str(seed): finite(value) for seed, value in cell.by_seed.items() if seed is not None},
        "samples": asdict(cell.samples),
        "mark": cell.mark,
        "selection": cell.selection,
        "beats_trivial": cell.beats_trivial,
        "paper": asdict(cell.paper) if cell.paper is not None else None,
    }


def finite(value: float | None) -> float | None:
    """The value; None where it is not finite, which JSON cannot say."""
    return value if value is not None and math.isfinite(value) else None
