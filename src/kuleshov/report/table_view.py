"""How the one table is shown: as fields that the page and the terminal share, and as text for the terminal."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kuleshov.report.columns import REFERENCES, ResultColumn, row_title
from kuleshov.report.results_table import ResultCell, ResultsTable, RowDifference

CAPTION = "mean ± standard error over seeds; in brackets: the nearest row that the paper prints"
PLAIN_WIDTH = 200


@dataclass(frozen=True)
class ShownField:
    """A figure, a smaller line below it, what hovering over each of them tells, and a style of the page."""

    text: str
    below: str = ""
    style: str = ""
    title: str = ""
    below_title: str = ""


@dataclass(frozen=True)
class ShownColumn:
    """A column as it is shown: the lines of its head, and its fields by row."""

    task: str
    metric: str
    samples: str
    fields: dict[str, ShownField] = field(default_factory=dict)


@dataclass(frozen=True)
class ShownRow:
    """A row as it is shown: its key in the columns, its name for people, and a style of the page."""

    key: str
    title: str
    style: str


def shown_rows(table: ResultsTable) -> list[ShownRow]:
    """The table's rows, then its differences."""
    rows = [ShownRow(row, row_title(row), "reference" if row in REFERENCES else "learned") for row in table.rows]
    return rows + [ShownRow(name, name, "difference") for name in table.differences()]


def shown_columns(table: ResultsTable) -> list[ShownColumn]:
    """The table's columns, then the ranks over LVU's tasks."""
    columns = []
    for column in table.columns:
        samples = table.samples[column]
        n = f"n {samples.n}" if samples.n == samples.of else f"n {samples.n} of {samples.of}"
        fields = {row: _cell(cells[column], column) for row, cells in table.rows.items() if column in cells}
        differences = table.differences().items()
        fields |= {row: _difference(found[column]) for row, found in differences if column in found}
        columns.append(ShownColumn(column.task_title, column.metric_title, f"{column.split}, {n}", fields))
    if table.ranks:
        top = {row: ShownField(str(one.top1)) for row, one in table.ranks.items()}
        mean = {row: ShownField(f"{one.mean_rank:.2f}") for row, one in table.ranks.items()}
        columns += [ShownColumn("LVU", "#top-1", "", top), ShownColumn("LVU", "mean rank", "", mean)]
    return columns


def _cell(cell: ResultCell, column: ResultColumn) -> ShownField:
    weak = ("weak", "not clearly better than the trivial row") if cell.beats_trivial is False else ("", "")
    text, paper = column.number(cell.value, cell.error) + cell.mark, cell.paper
    if paper is None:
        return ShownField(text, "", *weak)
    below = f"({column.number(paper.value, paper.error)})"
    return ShownField(text, below, *weak, f"the paper's Table {paper.table}: {paper.row}")


def _difference(one: RowDifference) -> ShownField:
    sign = "+" if one.difference >= 0 else "-"
    text = sign + one.column.number(abs(one.difference), one.error) + ("*" if one.clear else "")
    return ShownField(text, "", ("gain" if one.gain else "loss") if one.clear else "")


def as_text(table: ResultsTable) -> str:
    """The table and its notes; where the terminal is too narrow, several tables below each other."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    rows = shown_rows(table)
    with console.capture() as capture:
        for columns in _blocks(rows, shown_columns(table), console):
            console.print(_block(rows, columns))
        for note in table.notes:
            console.print(escape(note))
    return capture.get().rstrip("\n")


def _blocks(rows: list[ShownRow], columns: list[ShownColumn], console: Console) -> Iterator[list[ShownColumn]]:
    """Columns that fit side by side; those of one task stay together."""
    block: list[ShownColumn] = []
    for task in dict.fromkeys(column.task for column in columns):
        own = [column for column in columns if column.task == task]
        if block and console.measure(_block(rows, block + own)).maximum > console.width:
            yield block
            block = []
        block = block + own
    if block:
        yield block


def _block(rows: list[ShownRow], columns: list[ShownColumn]) -> Table:
    shown = Table(caption=CAPTION, caption_justify="left")
    shown.add_column("row", no_wrap=True)
    for column in columns:
        shown.add_column(escape(f"{column.task}\n{column.metric}\n{column.samples}"), justify="right", no_wrap=True)
    for kinds in (("reference", "learned"), ("difference",)):
        for row in rows:
            if row.style in kinds and any(row.key in column.fields for column in columns):
                shown.add_row(escape(row.title), *(_markup(column.fields.get(row.key)) for column in columns))
        shown.add_section()
    return shown


def _markup(one: ShownField | None) -> str:
    if one is None:
        return ""
    return escape(one.text) + (f"\n[dim]{escape(one.below)}[/]" if one.below else "")
