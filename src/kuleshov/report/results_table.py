"""From lines of results to the one table: rows x (task, metric), mean ± standard error over seeds.

Nothing here reads or writes a file, so that a table can be made of any results.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kuleshov.core.results import TRIVIAL, Result
from kuleshov.datasets.lvu import TASKS as LVU_TASKS
from kuleshov.metrics.ranking import Standing, standings
from kuleshov.metrics.statistics import mean_and_error
from kuleshov.report.columns import REFERENCES, ResultColumn, headline, row_order
from kuleshov.report.lineage import ResultSource
from kuleshov.report.paper_values import PaperValue, paper_value

MARKS = "†‡§¶‖"
Lines = list[tuple[ResultSource, Result]]


@dataclass(frozen=True)
class SampleSet:
    """A set of samples: how many of how many, and the sha256 of their ids."""

    n: int
    of: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.n} of {self.of} samples (ids {self.sha256[:8]})"

    @classmethod
    def of_result(cls, result: Result) -> "SampleSet":
        """The samples behind a line of results."""
        return cls(result.n, result.of, result.sample_ids_sha256)


@dataclass(frozen=True)
class ResultCell:
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
    samples: SampleSet
    mark: str = ""
    selection: str = ""
    paper: PaperValue | None = None
    beats_trivial: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        seeds = {str(seed): finite(value) for seed, value in self.by_seed.items() if seed is not None}
        plain = {**asdict(self), "value": finite(self.value), "error": finite(self.error), "seeds": seeds}
        del plain["by_seed"]
        return plain


@dataclass(frozen=True)
class RowDifference:
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

    column: ResultColumn
    better: str
    base: str
    difference: float
    error: float | None
    seeds: int
    paired: bool
    clear: bool
    gain: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        numbers = {"difference": finite(self.difference), "error": finite(self.error)}
        return {**asdict(self), **numbers, "column": self.column.key}


@dataclass
class ResultsTable:
    """Rows of cells over columns, and what must be said about them.

    Attributes:
        columns: (task, metric, split), in the order shown.
        samples: column -> the samples that most of its rows were measured on.
        rows: row's name -> column -> cell, in the order shown.
        comparisons: differences between rows with pretrained context and those without.
        ranks: row -> its standing among the rows that have all nine of LVU's tasks, where two have.
        notes: sentences below the table.
    """

    columns: list[ResultColumn] = field(default_factory=list)
    samples: dict[ResultColumn, SampleSet] = field(default_factory=dict)
    rows: dict[str, dict[ResultColumn, ResultCell]] = field(default_factory=dict)
    comparisons: list[RowDifference] = field(default_factory=list)
    ranks: dict[str, Standing] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def differences(self) -> dict[str, dict[ResultColumn, RowDifference]]:
        """The comparisons as rows: `pretrained - scratch` -> column -> comparison."""
        rows: dict[str, dict[ResultColumn, RowDifference]] = {}
        for one in self.comparisons:
            rows.setdefault(f"{one.better} - {one.base}", {})[one.column] = one
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The table as plain values: columns, rows of cells by `task/metric/split`, comparisons, ranks, notes."""
        columns = [{**asdict(one), "key": one.key, "samples": asdict(self.samples[one])} for one in self.columns]
        rows = {
            row: {column.key: cells[column].to_dict() for column in self.columns if column in cells}
            for row, cells in self.rows.items()
        }
        comparisons = [one.to_dict() for one in self.comparisons]
        ranks = {row: asdict(one) for row, one in self.ranks.items()}
        return {"columns": columns, "rows": rows, "comparisons": comparisons, "ranks": ranks, "notes": self.notes}

    def __str__(self) -> str:
        from kuleshov.report.table_view import as_text

        return as_text(self)


def build_table(measured: Iterable[tuple[ResultSource, Result]], all_metrics: bool = False) -> ResultsTable:
    """Make the table of some results, given in the order in which they were written.

    Args:
        measured: results with the runs they come from.
        all_metrics: every metric; otherwise those that a task is judged by.
    """
    table, groups = ResultsTable(), _group(list(measured))
    columns = sorted({column for _, column in groups}, key=lambda column: column.order)
    table.columns = columns if all_metrics else headline(columns)
    for (row, column), lines in groups.items():
        if column in table.columns:
            table.rows.setdefault(row, {})[column] = _cell(row, column, lines, table.notes)
    table.rows = {name: table.rows[name] for name in sorted(table.rows, key=row_order)}
    for column in table.columns:
        _mark(table, column)
    _judge(table)
    table.comparisons = [one for column in table.columns for one in _compare_rows(table, column)]
    table.ranks = _ranks(table)
    table.notes += _remarks(table)
    return table


def _group(measured: Lines) -> dict[tuple[str, ResultColumn], Lines]:
    """Lines by row and column; rows that several runs filled are named with the run."""
    filled: dict[tuple[str, str, str], set[str]] = {}
    for source, result in measured:
        filled.setdefault((result.task, result.row, source.variant), set()).add(source.name)
    groups: dict[tuple[str, ResultColumn], Lines] = {}
    for source, result in measured:
        row = result.row or source.name
        if row not in REFERENCES:
            row = f"{row} · {source.variant}" if source.variant else row
            if result.row and len(filled[result.task, result.row, source.variant]) > 1:
                row = f"{row} [{source.name}]"
        column = ResultColumn(result.task, result.metric, result.split)
        groups.setdefault((row, column), []).append((source, result))
    return groups


def _cell(row: str, column: ResultColumn, lines: Lines, notes: list[str]) -> ResultCell:
    samples = Counter(SampleSet.of_result(result) for _, result in lines).most_common(1)[0][0]
    chosen = [(source, result) for source, result in lines if SampleSet.of_result(result) == samples]
    title = f"{row}, {column.title}"
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
    paper = paper_value(column.task, column.metric, last.row, source.method, source.txe_data)
    return ResultCell(mean, error, by_seed, samples, selection=last.selection, paper=paper)


def estimate(values: list[float]) -> tuple[float, float | None]:
    """Mean and its standard error; None for a single value."""
    found = mean_and_error(values)
    return found.mean, found.standard_error if found.n > 1 else None


def _mark(table: ResultsTable, column: ResultColumn) -> None:
    """Find the column's own samples, and mark the cells over others."""
    cells = {row: cells[column] for row, cells in table.rows.items() if column in cells}
    counts = Counter(cell.samples for cell in cells.values())
    common = table.samples[column] = counts.most_common(1)[0][0]
    marks = {samples: MARKS[i % len(MARKS)] for i, samples in enumerate(s for s in counts if s != common)}
    for row, cell in cells.items():
        table.rows[row][column] = replace(cell, mark=marks.get(cell.samples, ""))
    for samples, mark in marks.items():
        table.notes.append(f"{mark} {column.title}: over {samples}, not comparable with the column's {common}")


def _judge(table: ResultsTable) -> None:
    """Find out of every cell whether it beats the trivial row over the same samples."""
    for column, trivial in table.rows.get(TRIVIAL, {}).items():
        for row, cells in table.rows.items():
            cell = cells.get(column)
            if cell is not None and row not in REFERENCES and cell.samples == trivial.samples:
                gain = (cell.value - trivial.value) * (1 if column.higher_is_better else -1)
                cells[column] = replace(cell, beats_trivial=gain > 2 * (cell.error or 0.0))


def _compare_rows(table: ResultsTable, column: ResultColumn) -> list[RowDifference]:
    """Every row with pretrained context against its partner of the same variant, over the same samples."""
    found = []
    for better, cells in table.rows.items():
        base = next((base for base in partners(better) if column in table.rows.get(base, {})), "")
        if base and column in cells and table.rows[base][column].samples == cells[column].samples:
            found.append(compare(column, better, cells[column], base, table.rows[base][column]))
    return found


def partners(row: str) -> tuple[str, ...]:
    """Rows that a row is to be compared with, the first that is there: its setting from scratch, else the plain one."""
    name, space, variant = row.partition(" ")
    if name == "scene-pretrained":
        return (f"scene-backbone{space}{variant}",)
    if not name.startswith("pretrained"):
        return ()
    setting = name.removeprefix("pretrained")
    return f"scratch{setting}{space}{variant}", f"scratch{space}{variant}"


def compare(column: ResultColumn, better: str, first: ResultCell, base: str, second: ResultCell) -> RowDifference:
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
    gain = difference > 0 if column.higher_is_better else difference < 0
    return RowDifference(column, better, base, difference, error, seeds, paired, clear, gain)


def _ranks(table: ResultsTable) -> dict[str, Standing]:
    """Ranks as in the paper's Table 5; rows that lack a task, or have it over other samples, have none."""
    columns = [column for column in table.columns if column.ranked]
    if {column.task for column in columns} != LVU_TASKS.keys() or len(columns) > len(LVU_TASKS):
        return {}
    values = {
        row: {column.task: cells[column].value for column in columns}
        for row, cells in table.rows.items()
        if row not in REFERENCES
        and all(c in cells and not cells[c].mark and math.isfinite(cells[c].value) for c in columns)
    }
    return standings(values, {c.task: c.higher_is_better for c in columns}) if len(values) > 1 else {}


def _remarks(table: ResultsTable) -> list[str]:
    """What the numbers do not say by themselves."""
    remarks = []
    clear = [one for one in table.comparisons if one.clear]
    if clear:
        ways = {f"paired over {one.seeds} seeds" if one.paired else "of unpaired means" for one in clear}
        remarks.append(f"* a difference beyond two standard errors ({', '.join(sorted(ways))})")
    remarks += [f"{one.column.title}: {one.better} is worse than {one.base}" for one in clear if not one.gain]
    for column in table.columns:
        weak = [row for row, cells in table.rows.items() if column in cells and cells[column].beats_trivial is False]
        if weak:
            remarks.append(f"{column.title}: not clearly better than the trivial row: {', '.join(weak)}")
    return remarks


def incomplete(measured: Iterable[tuple[ResultSource, Result]]) -> list[str]:
    """A sentence for each run and task that was scored on fewer samples than its split has."""
    found: dict[str, None] = {}
    for source, result in measured:
        if result.n < result.of and not result.metric.startswith("acc1_"):
            scored = f"{result.task} {result.split} is scored on {result.n} of {result.of} samples"
            found[f"{source.name}: {scored}, {result.of - result.n} are missing"] = None
    return list(found)


def finite(value: float | None) -> float | None:
    """The value; None where it is not finite, which JSON cannot hold."""
    return value if value is not None and math.isfinite(value) else None
