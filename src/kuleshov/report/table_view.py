"""How the one table is shown: as fields that the page and the terminal share, and as text for the terminal."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kuleshov.metrics.statistics import Standing, mean_and_error, paired_difference
from kuleshov.report.columns import REFERENCES, ResultColumn, row_title
from kuleshov.report.results_table import ResultCell, ResultsTable, RowDifference

CAPTION = "mean ± standard error over {over}; in brackets: what the paper has in the same row"
PLAIN_WIDTH = 200


@dataclass(frozen=True)
class ShownField:
    """A figure, a smaller line below it and its source, and the style that the page gives it."""

    text: str
    below: str = ""
    source: str = ""
    style: str = ""


@dataclass(frozen=True)
class ShownColumn:
    """The three lines of a column's head, and its fields by row."""

    task: str
    metric: str
    samples: str
    fields: dict[str, ShownField]


def shown_rows(table: ResultsTable) -> list[tuple[str, str, str]]:
    """(key in the columns, name for people, the page's style) of the table's rows, then of its differences."""
    rows = [(row, row_title(row), "reference" if row in REFERENCES else "learned") for row in table.rows]
    return rows + [(name, name, "difference") for name in table.differences()]


def shown_columns(table: ResultsTable) -> list[ShownColumn]:
    """The table's columns, then the ranks over LVU's tasks."""
    columns = []
    for column in table.columns:
        samples = table.samples[column]
        n = f"n {samples.n}" if samples.n == samples.of else f"n {samples.n} of {samples.of}"
        fields = {row: _cell(cell, column) for row, cell in table.column(column).items()}
        fields |= {row: _difference(found[column]) for row, found in table.differences().items() if column in found}
        columns.append(ShownColumn(*column.titles, f"{column.split}, {n}", fields))
    if table.ranks:
        top = {row: ShownField(str(one.top1)) for row, one in table.ranks.items()}
        mean = {row: ShownField(_rank(one)) for row, one in table.ranks.items()}
        mean |= _rank_differences(table)
        columns += [ShownColumn("LVU", "#top-1", "", top), ShownColumn("LVU", "mean rank", "", mean)]
    return columns


def _rank(one: Standing) -> str:
    """The rank of the means, with the standard error of the seeds' own."""
    if len(one.by_seed) < 2:
        return f"{one.mean_rank:.2f}"
    return f"{one.mean_rank:.2f} ± {mean_and_error(list(one.by_seed.values())).standard_error:.2f}"


def _rank_differences(table: ResultsTable) -> dict[str, ShownField]:
    """`pretrained - scratch` -> the difference of their mean ranks, paired over the seeds."""
    found = {}
    for one in table.comparisons:
        better, base = table.ranks.get(one.better), table.ranks.get(one.base)
        if better and base and better.by_seed and base.by_seed:
            gap = paired_difference(better.by_seed, base.by_seed)
            clear = gap.n > 1 and abs(gap.mean) > 2 * gap.standard_error
            style, sign = ("gain" if gap.mean < 0 else "loss") if clear else "", "+" * (gap.mean >= 0)
            found[f"{one.better} - {one.base}"] = ShownField(sign + str(gap) + "*" * clear, style=style)
    return found


def _cell(cell: ResultCell, column: ResultColumn) -> ShownField:
    text, style = column.number(cell.value, cell.error) + cell.mark, "weak" if cell.beats_trivial is False else ""
    if cell.paper is None:
        return ShownField(text, style=style)
    below = f"({column.number(cell.paper.value, cell.paper.error)})"
    return ShownField(text, below, f"the paper's Table {cell.paper.table}: {cell.paper.row}", style)


def _difference(one: RowDifference) -> ShownField:
    text = ("+" if one.difference >= 0 else "-") + one.column.number(abs(one.difference), one.error)
    return ShownField(text + "*", style="gain" if one.gain else "loss") if one.clear else ShownField(text)


def as_text(table: ResultsTable) -> str:
    """The table and its notes; where the terminal is too narrow, several tables below each other."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    with console.capture() as capture:
        for block in _blocks(table, console):
            console.print(block)
        for note in [CAPTION.format(over=table.over), *table.notes]:
            console.print(escape(note))
    return capture.get().rstrip("\n")


def _blocks(table: ResultsTable, console: Console) -> Iterator[Table]:
    """Tables of the columns that fit side by side; those of one task stay together."""
    rows, columns, chosen = shown_rows(table), shown_columns(table), []
    # within its own width, a console would measure what it crops
    unlimited = console.options.update(max_width=10_000)
    for task in dict.fromkeys(column.task for column in columns):
        own = [column for column in columns if column.task == task]
        if chosen and console.measure(_block(rows, chosen + own), options=unlimited).maximum > console.width:
            yield _block(rows, chosen)
            chosen = []
        chosen = chosen + own
    if chosen:
        yield _block(rows, chosen)


def _block(rows: list[tuple[str, str, str]], columns: list[ShownColumn]) -> Table:
    shown = Table()
    shown.add_column("row", no_wrap=True)
    for column in columns:
        shown.add_column(escape(f"{column.task}\n{column.metric}\n{column.samples}"), justify="right", no_wrap=True)
    for differences in (False, True):
        for key, title, style in rows:
            if (style == "difference") == differences and any(key in column.fields for column in columns):
                shown.add_row(escape(title), *(_markup(column.fields.get(key)) for column in columns))
        shown.add_section()
    return shown


def _markup(one: ShownField | None) -> str:
    if one is None:
        return ""
    return escape(one.text) + (f"\n[dim]{escape(one.below)}[/]" if one.below else "")
