"""The paper's Table 5 of our results: a task a line, since nine tasks side by side fit no terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from kuleshov.core.results import Result
from kuleshov.datasets.lvu import TASKS
from kuleshov.metrics.statistics import Difference, paired_difference
from kuleshov.report.columns import metric_title
from kuleshov.report.paper_values import LVU_COLUMNS, TABLE_5
from kuleshov.report.render import finite
from kuleshov.report.tables import Source
from kuleshov.tasks.lvu.table_five import TRIVIAL, Cell, TableFive, table_five

ROWS = {
    TRIVIAL: "trivial",
    "instances": "instances",
    "scene-backbone": "scene, backbone only",
    "scene-scratch": "scene, TxE from scratch",
    "scene-pretrained": "scene, TxE pretrained",
    "ot++-backbone": "OT++, backbone only",
    "ot++-scratch": "OT++, TxE from scratch",
    "ot++-pretrained": "OT++",
}
CONTEXT, NO_CONTEXT = "scene-pretrained", "scene-backbone"
CAPTION = (
    "mean ± standard error over seeds [95 % bootstrap interval over test movies]; in brackets: the paper's row; "
    "faint: no better than the trivial row; *: beyond two standard errors, paired over seeds"
)


@dataclass
class LvuTable:
    """Table 5 of one variant of runs.

    Attributes:
        variant: the user's name for it; empty for the only one.
        method: how the backbone was pretrained.
        table: the figures.
        context: task -> what pretrained context adds to scene tokens, paired over seeds, more being better.
    """

    variant: str
    method: str
    table: TableFive
    context: dict[str, Difference] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        """Rows that have figures, in the order shown."""
        return [row for row in ROWS if row in self.table.cells]

    @property
    def tasks(self) -> list[str]:
        """Tasks that have figures."""
        return [task for task in TASKS if any(task in cells for cells in self.table.cells.values())]


def is_table_five(result: Result) -> bool:
    """Whether a line belongs to a row of the Object Transformer."""
    return result.task in TASKS and result.row in ROWS and result.row != TRIVIAL


def split_off(
    measured: Iterable[tuple[Source, Result]],
) -> tuple[list[tuple[Source, Result]], list[tuple[Source, Result]]]:
    """Results of other runs, and those of the runs that have rows of the Object Transformer."""
    measured = list(measured)
    owners = {(source.variant, source.name) for source, result in measured if is_table_five(result)}
    parts: tuple[list, list] = ([], [])
    for source, result in measured:
        parts[(source.variant, source.name) in owners].append((source, result))
    return parts


def lvu_tables(measured: Iterable[tuple[Source, Result]]) -> list[LvuTable]:
    """Table 5 of each variant that has rows of the Object Transformer."""
    variants: dict[str, list[tuple[Source, Result]]] = {}
    for source, result in split_off(measured)[1]:
        if result.row in ROWS:
            variants.setdefault(source.variant, []).append((source, result))
    tables = []
    for variant, lines_of in variants.items():
        made = table_five(result for _, result in lines_of)
        tables.append(LvuTable(variant, lines_of[0][0].method, made, _context(made)))
    return tables


def _context(table: TableFive) -> dict[str, Difference]:
    with_it, without = table.cells.get(CONTEXT, {}), table.cells.get(NO_CONTEXT, {})
    found = {}
    for task in TASKS:
        if task in with_it and task in without:
            sign = 1 if TASKS[task].higher_is_better else -1
            a, b = ({seed: sign * v for seed, v in rows[task].by_seed.items()} for rows in (with_it, without))
            found[task] = paired_difference(a, b) if a.keys() & b.keys() else None
    return {task: one for task, one in found.items() if one is not None}


def paper_row(row: str, method: str) -> str | None:
    """The paper's row nearest to one of ours; None where it prints none."""
    instances = {"cvrl": "CVRL, no scene", "modist": "MoDist, no scene", "supervised": "OT, no scene"}
    named = {
        "instances": instances.get(method),
        "scene-backbone": "no instances, Sup",
        "scene-pretrained": "no instances, Ours",
        "ot++-pretrained": "OT, Ours",
    }
    return named.get(row)


@dataclass(frozen=True)
class Shown:
    """What stands in a field: a figure, a smaller line below it, and whether a constant does as well."""

    text: str
    below: str = ""
    weak: bool = False


def print_lvu_table(lvu: LvuTable, console: Console) -> None:
    """Print Table 5, then its warnings."""
    title = "LVU, as Table 5" + (f" · {lvu.variant}" if lvu.variant else "")
    shown = RichTable(title=escape(title), title_justify="left", caption=CAPTION, caption_justify="left")
    for number, name in enumerate(heads(lvu)):
        shown.add_column(escape(name), justify="right" if number else "left")
    for line in lines(lvu):
        shown.add_row(*map(_styled, line))
    console.print(shown)
    for said in lvu.table.warnings:
        console.print(escape(said))


def _styled(one: Shown) -> str:
    text = f"[dim]{escape(one.text)}[/]" if one.weak else escape(one.text)
    return f"{text}\n[dim]{escape(one.below)}[/]" if one.below else text


def heads(lvu: LvuTable) -> list[str]:
    """The columns' names."""
    return ["", *(ROWS[row] for row in lvu.rows), *(["context adds"] if lvu.context else [])]


def lines(lvu: LvuTable) -> list[list[Shown]]:
    """A line a task: its name and n, a field a row, what context adds; then the rows' standings."""
    found = []
    for task in lvu.tasks:
        cells = [lvu.table.cells[row].get(task) for row in lvu.rows]
        samples = next(cell for cell in cells if cell is not None)
        n = f"n {samples.n}" if samples.n == samples.of else f"n {samples.n} of {samples.of}"
        head = Shown(TASKS[task].title, f"{metric_title(TASKS[task].metric)}, {n}")
        line = [_shown(cell, row, task, lvu.method) for cell, row in zip(cells, lvu.rows, strict=True)]
        found.append([head, *line, *([_gain(lvu.context.get(task), task)] if lvu.context else [])])
    return found + _standing_lines(lvu)


def _standing_lines(lvu: LvuTable) -> list[list[Shown]]:
    """'#top-1', 'mean rank' and the number of seeds; rows that lack a task have no rank, nor has one alone."""
    ranked = lvu.table.standings if len(lvu.table.standings) > 1 else {}
    standing = [ranked.get(row) for row in lvu.rows]
    cells = [lvu.table.cells[row].values() for row in lvu.rows]
    seeds = ["" if row == TRIVIAL else str(min(c.seeds for c in own)) for row, own in zip(lvu.rows, cells, strict=True)]
    made = [
        ["#top-1", *("" if one is None else str(one.top1) for one in standing)],
        ["mean rank", *("" if one is None else f"{one.mean_rank:.2f}" for one in standing)],
        ["seeds", *seeds],
    ]
    return [[Shown(text) for text in (*line, *([""] if lvu.context else []))] for line in made]


def _places(task: str) -> int:
    return 2 if TASKS[task].higher_is_better else 3


def _shown(cell: Cell | None, row: str, task: str, method: str) -> Shown:
    if cell is None:
        return Shown("")
    places = _places(task)
    text = f"{cell.mean:.{places}f}"
    if row == TRIVIAL:
        return Shown(text)
    text += f" ± {cell.standard_error:.{places}f}" if cell.seeds > 1 else ""
    whole = finite(cell.low) is not None and finite(cell.high) is not None
    interval = f"[{cell.low:.{places - 1}f}, {cell.high:.{places - 1}f}]" if whole else ""
    name = paper_row(row, method)
    paper = f"({TABLE_5[name][LVU_COLUMNS.index(task)]:.{places}f})" if name else ""
    return Shown(text, " ".join(part for part in (interval, paper) if part), not cell.beats_trivial)


def _gain(one: Difference | None, task: str) -> Shown:
    if one is None:
        return Shown("")
    places, error = _places(task), finite(one.standard_error)
    if error is None:
        return Shown(f"{one.mean:+.{places}f}")
    star = "*" if abs(one.mean) > 2 * error else ""
    return Shown(f"{one.mean:+.{places}f} ± {error:.{places}f}{star}")


def as_json(tables: Sequence[LvuTable]) -> list[dict[str, Any]]:
    """Table 5 as plain values."""
    return [
        {
            "variant": lvu.variant,
            "method": lvu.method,
            "rows": {row: {task: _plain(cell) for task, cell in lvu.table.cells[row].items()} for row in lvu.rows},
            "standings": {row: asdict(one) for row, one in lvu.table.standings.items()},
            "context": {
                task: {key: finite(value) for key, value in asdict(one).items()} for task, one in lvu.context.items()
            },
            "warnings": lvu.table.warnings,
        }
        for lvu in tables
    ]


def _plain(cell: Cell) -> dict[str, Any]:
    numbers = {name: finite(getattr(cell, name)) for name in ("mean", "standard_error", "low", "high")}
    seeds = {str(seed): finite(value) for seed, value in cell.by_seed.items() if seed is not None}
    return {**numbers, "n": cell.n, "of": cell.of, "seeds": seeds, "beats_trivial": cell.beats_trivial}
