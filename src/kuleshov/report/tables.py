"""From lines of results to a table: rows x (task, metric), mean ± standard error over seeds.

Nothing here reads or writes a file, so that a table can be made of any results.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from kuleshov.core.results import Result
from kuleshov.metrics.statistics import mean_and_error
from kuleshov.report.columns import HEADLINE, ColumnKey, column_order, column_title, higher_is_better, row_order
from kuleshov.report.paper_values import PaperValue, paper_value

MARKS = "†‡§¶‖"


@dataclass(frozen=True)
class Source:
    """The run that a result comes from.

    Attributes:
        name: the run folder's name.
        variant: the user's name for this branch of runs; empty for the only one.
        method: how the backbone was pretrained.
        context_data: what TxE was pretrained on.
    """

    name: str
    variant: str = ""
    method: str = "cvrl"
    context_data: str = "lvu"


@dataclass(frozen=True)
class Samples:
    """A set of samples: how many of how many, and the sha256 of their ids."""

    n: int
    of: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.n} of {self.of} samples (ids {self.sha256[:8]})"


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Attributes:
        value: mean over seeds.
        error: standard error of that mean; None for a single seed.
        by_seed: seed -> value.
        samples: what it was measured on.
        mark: empty where the samples are the column's own, else one of `MARKS`.
        selection: the rule by which the epoch was chosen.
        paper: the paper's number beside it.
        beats_trivial: whether it is better than the trivial row by more than two standard errors; None for
            rows that learn nothing, and without a trivial row over the same samples.
    """

    value: float
    error: float | None
    by_seed: dict[int | None, float]
    samples: Samples
    mark: str = ""
    selection: str = ""
    paper: PaperValue | None = None
    beats_trivial: bool | None = None


@dataclass(frozen=True)
class Comparison:
    """The difference between two rows in one column.

    Attributes:
        better: the row that is hoped to be better.
        base: the row it is compared with.
        difference: better minus base.
        error: its standard error, None where it cannot be estimated.
        seeds: number of pairs, or of the fewer seeds where they do not match.
        paired: whether it was taken seed by seed.
        clear: whether it is beyond two standard errors.
        gain: whether it goes into the metric's direction.
    """

    column: ColumnKey
    better: str
    base: str
    difference: float
    error: float | None
    seeds: int
    paired: bool
    clear: bool
    gain: bool


@dataclass
class Table:
    """Rows of cells over columns, and what must be said about them.

    Attributes:
        columns: (task, metric, split), in the order shown.
        samples: column -> the samples that most of its rows were measured on.
        rows: row's name -> column -> cell, in the order shown.
        comparisons: differences between the pretrained and the scratch rows.
        notes: sentences below the table.
    """

    columns: list[ColumnKey] = field(default_factory=list)
    samples: dict[ColumnKey, Samples] = field(default_factory=dict)
    rows: dict[str, dict[ColumnKey, Cell]] = field(default_factory=dict)
    comparisons: list[Comparison] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build(measured: Iterable[tuple[Source, Result]], headline: bool = True) -> Table:
    """Make the table of some results.

    Args:
        measured: results with the runs they come from, in the order in which they were written.
        headline: only the metrics that a task is judged by; otherwise all.
    """
    kept = [(s, r) for s, r in measured if not headline or (r.metric in HEADLINE.get(r.task, HEADLINE[""]))]
    table = Table()
    groups = _group(kept)
    for (row, column), lines in groups.items():
        table.rows.setdefault(row, {})[column] = _cell(row, column, lines, table.notes)
    table.columns = sorted({column for _, column in groups}, key=column_order)
    table.rows = {name: table.rows[name] for name in sorted(table.rows, key=row_order)}
    for column in table.columns:
        _mark(table, column)
    _judge(table)
    table.comparisons = [one for column in table.columns for one in _compare(table, column)]
    table.notes += _words(table)
    return table


_Lines = list[tuple[Source, Result]]


def _group(measured: _Lines) -> dict[tuple[str, ColumnKey], _Lines]:
    """Lines by row and column; rows that several runs filled are told apart by the run."""
    named: dict[tuple[str, str, str], dict[str, None]] = {}
    for source, result in measured:
        named.setdefault((result.task, result.row, source.variant), {})[source.name] = None
    groups: dict[tuple[str, ColumnKey], _Lines] = {}
    for source, result in measured:
        row = result.row or source.name
        if row not in ("trivial", "ceiling", "human"):
            row = f"{row} · {source.variant}" if source.variant else row
            if result.row and len(named[result.task, result.row, source.variant]) > 1:
                row = f"{row} [{source.name}]"
        column = ColumnKey(result.task, result.metric, result.split)
        groups.setdefault((row, column), []).append((source, result))
    return groups


def _cell(row: str, column: ColumnKey, lines: _Lines, notes: list[str]) -> Cell:
    counts = Counter(Samples(r.n, r.of, r.sample_ids_sha256) for _, r in lines)
    samples = counts.most_common(1)[0][0]
    chosen = [(s, r) for s, r in lines if Samples(r.n, r.of, r.sample_ids_sha256) == samples]
    title = f"{row}, {column_title(column)}"
    if len(chosen) < len(lines):
        notes.append(f"{title}: {len(lines) - len(chosen)} results over other samples are left out of the mean")
    by_seed: dict[int | None, float] = {}
    replaced = set()
    for _, result in chosen:
        if by_seed.get(result.seed, result.value) != result.value:
            replaced.add(result.seed)
        by_seed[result.seed] = result.value
    if replaced:
        seeds = ", ".join(map(str, sorted(replaced, key=str)))
        notes.append(f"{title}: seed {seeds} has several values, the last one counts")
    mean, error = estimate(list(by_seed.values()))
    source, last = chosen[-1]
    paper = paper_value(column.task, column.metric, last.row, source.method, source.context_data)
    return Cell(mean, error, by_seed, samples, selection=last.selection, paper=paper)


def _mark(table: Table, column: ColumnKey) -> None:
    """Find the column's own samples, and mark the cells over others."""
    cells = {row: cells[column] for row, cells in table.rows.items() if column in cells}
    counts = Counter(cell.samples for cell in cells.values())
    common = table.samples[column] = counts.most_common(1)[0][0]
    others = [samples for samples in counts if samples != common]
    for row, cell in cells.items():
        if cell.samples != common:
            mark = MARKS[others.index(cell.samples) % len(MARKS)]
            table.rows[row][column] = replace(cell, mark=mark)
    for number, samples in enumerate(others):
        mark = MARKS[number % len(MARKS)]
        table.notes.append(f"{mark} {column_title(column)}: over {samples}, not comparable with the column's {common}")


def _judge(table: Table) -> None:
    """Say of every cell whether it beats the trivial row over the same samples."""
    for column in table.columns:
        trivial = table.rows.get("trivial", {}).get(column)
        for row, cells in table.rows.items():
            cell = cells.get(column)
            learned = row not in ("trivial", "ceiling", "human")
            if trivial is None or cell is None or not learned or cell.samples != trivial.samples:
                continue
            gain = (cell.value - trivial.value) * (1 if higher_is_better(column) else -1)
            cells[column] = replace(cell, beats_trivial=gain > 2 * (cell.error or 0.0))


def _compare(table: Table, column: ColumnKey) -> list[Comparison]:
    """Every `pretrained` row against the `scratch` row of the same variant."""
    found = []
    for better, cells in table.rows.items():
        if not better.startswith("pretrained") or column not in cells:
            continue
        base = _partner(better, table, column)
        if base and table.rows[base][column].samples == cells[column].samples:
            found.append(compare(column, better, cells[column], base, table.rows[base][column]))
    return found


def _partner(better: str, table: Table, column: ColumnKey) -> str:
    """The row from scratch in the same setting, else the plain one of the same variant; empty for none."""
    setting, space, variant = better.removeprefix("pretrained").partition(" ")
    bases = (f"scratch{setting}{space}{variant}", f"scratch{space}{variant}")
    return next((base for base in bases if column in table.rows.get(base, {})), "")


def compare(column: ColumnKey, better: str, first: Cell, base: str, second: Cell) -> Comparison:
    """Difference of two cells: seed by seed where at least two seeds match, else of the two means."""
    shared = [seed for seed in first.by_seed if seed in second.by_seed and seed is not None]
    paired = len(shared) >= 2
    if paired:
        difference, error = estimate([first.by_seed[seed] - second.by_seed[seed] for seed in shared])
        seeds = len(shared)
    else:
        difference = first.value - second.value
        known = first.error is not None and second.error is not None
        error = math.hypot(first.error, second.error) if known else None
        seeds = min(len(first.by_seed), len(second.by_seed))
    clear = error is not None and abs(difference) > 2 * error
    gain = difference > 0 if higher_is_better(column) else difference < 0
    return Comparison(column, better, base, difference, error, seeds, paired, clear, gain)


def estimate(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and its standard error; None for a single value."""
    found = mean_and_error(values)
    return found.mean, found.standard_error if found.n > 1 else None


def differences(table: Table) -> dict[str, dict[ColumnKey, Comparison]]:
    """The comparisons as rows: `pretrained - scratch` -> column -> comparison."""
    rows: dict[str, dict[ColumnKey, Comparison]] = {}
    for one in table.comparisons:
        rows.setdefault(f"{one.better} - {one.base}", {})[one.column] = one
    return rows


def _words(table: Table) -> list[str]:
    """What the numbers do not say by themselves."""
    said = []
    clear = [one for one in table.comparisons if one.clear]
    if clear:
        ways = {f"paired over {one.seeds} seeds" if one.paired else "of unpaired means" for one in clear}
        said.append(f"* a difference beyond two standard errors ({', '.join(sorted(ways))})")
    for one in clear:
        if not one.gain:
            said.append(f"{column_title(one.column)}: {one.better} is worse than {one.base}")
    for column in table.columns:
        weak = [row for row, cells in table.rows.items() if column in cells and cells[column].beats_trivial is False]
        if weak:
            said.append(f"{column_title(column)}: not clearly better than the trivial row: {', '.join(weak)}")
    return said
