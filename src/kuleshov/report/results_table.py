"""From lines of results to the one table: rows x (task, metric), mean ± standard error over seeds.

Nothing here reads or writes a file, so that a table can be made of any results.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kuleshov.core.files import sha256_json
from kuleshov.core.results import TRIVIAL, Result
from kuleshov.datasets.lvu import LVU_TASKS
from kuleshov.metrics.paper_values import PaperValue, paper_value
from kuleshov.metrics.statistics import Standing, mean_and_error, paired_difference, standings
from kuleshov.report.columns import REFERENCES, ResultColumn, headline, row_order
from kuleshov.report.lineage import ResultSource

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


@dataclass
class ResultCell:
    """One number of the table: the mean over seeds, its standard error (None for a single seed), and the samples.

    Attributes:
        mark: empty where the samples are the column's own, else one of `MARKS`.
        selection: the rule by which the epoch was chosen.
        beats_trivial: whether it is better than the trivial row by more than two standard errors; None for
            rows that learn nothing, and without a trivial row over the same samples.
        paper: the paper's number beside it.
    """

    value: float
    error: float | None
    seeds: dict[int | None, float]
    samples: SampleSet
    mark: str = ""
    selection: str = ""
    beats_trivial: bool | None = None
    paper: PaperValue | None = None


@dataclass(frozen=True)
class RowDifference:
    """The difference `better - base` between two rows in one column, paired over a number of seeds.

    It is `clear` beyond two standard errors, and a `gain` where it goes into the metric's direction.
    """

    column: ResultColumn
    better: str
    base: str
    difference: float
    error: float | None
    seeds: int
    clear: bool
    gain: bool


@dataclass
class ResultsTable:
    """Rows of cells over columns, in the order shown, with notes on them.

    Attributes:
        samples: column -> the samples that most of its rows were measured on.
        comparisons: differences between rows with pretrained context and those without.
        ranks: row -> its standing among the rows that have all nine of LVU's tasks, where two have.
        over: what the mean and its error are over: seeds, or generated worlds.
    """

    columns: list[ResultColumn] = field(default_factory=list)
    samples: dict[ResultColumn, SampleSet] = field(default_factory=dict)
    rows: dict[str, dict[ResultColumn, ResultCell]] = field(default_factory=dict)
    comparisons: list[RowDifference] = field(default_factory=list)
    ranks: dict[str, Standing] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    over: str = "seeds"

    def column(self, column: ResultColumn) -> dict[str, ResultCell]:
        """A column's cells by row."""
        return {row: cells[column] for row, cells in self.rows.items() if column in cells}

    def differences(self) -> dict[str, dict[ResultColumn, RowDifference]]:
        """The comparisons as rows: `pretrained - scratch` -> column -> comparison."""
        rows: dict[str, dict[ResultColumn, RowDifference]] = {}
        for one in self.comparisons:
            rows.setdefault(f"{one.better} - {one.base}", {})[one.column] = one
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The table as plain values: columns, rows of cells by `task/metric/split`, comparisons, ranks, notes."""
        plain = {
            "columns": [asdict(one) | {"key": one.key, "samples": asdict(self.samples[one])} for one in self.columns],
            "rows": {
                row: {column.key: asdict(cells[column]) for column in self.columns if column in cells}
                for row, cells in self.rows.items()
            },
            "comparisons": [asdict(one) | {"column": one.column.key} for one in self.comparisons],
            "ranks": {row: asdict(one) for row, one in self.ranks.items()},
            "notes": self.notes,
        }
        return _finite(plain)

    def __str__(self) -> str:
        from kuleshov.report.table_view import as_text

        return as_text(self)


def _finite(value: Any) -> Any:
    """Plain values for JSON: no number that is not finite, no key that is no text."""
    if isinstance(value, dict):
        return {str(key): _finite(one) for key, one in value.items() if key is not None}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def build_table(
    measured: Iterable[tuple[ResultSource, Result]], all_metrics: bool = False, over: str = "seeds"
) -> ResultsTable:
    """Make the table of some results, given in the order in which they were written.

    Args:
        measured: results with the runs they come from.
        all_metrics: every metric; otherwise those that a task is judged by.
        over: what the results' seeds are, `worlds` for those of `by_world`.
    """
    table, groups = ResultsTable(over=over), _group(list(measured))
    columns = sorted({column for _, column in groups}, key=lambda column: column.order)
    table.columns = columns if all_metrics else headline(columns)
    for (row, column), lines in groups.items():
        if column in table.columns:
            table.rows.setdefault(row, {})[column] = _cell(row, column, lines, table.notes)
    table.rows = {name: table.rows[name] for name in sorted(table.rows, key=row_order)}
    for column in table.columns:
        _mark(table, column)
        _judge(table, column)
        table.comparisons += _compare(table, column)
    table.ranks = _ranks(table)
    table.notes += _remarks(table)
    return table


def by_world(measured: Iterable[tuple[ResultSource, Result]]) -> Lines:
    """A line for each world in place of those of its seeds: their mean, with the world's number as the seed.

    The samples are those of all the worlds together; a row that a world lacks stands over other samples.
    """
    groups: dict[tuple[str, ...], dict[int | None, dict[int | None, Result]]] = {}
    for source, one in measured:
        # runs of the same stage on other worlds have other fingerprints
        key = (source.name.rpartition("-")[0], source.variant, one.task, one.metric, one.split, one.row)
        groups.setdefault(key, {}).setdefault(source.world, {})[one.seed] = one
    lines = []
    for (name, variant, *_), worlds in groups.items():
        first = {world: next(iter(seeds.values())) for world, seeds in worlds.items()}
        whole = {key: sum(getattr(one, key) for one in first.values()) for key in ("n", "of")}
        digest = sha256_json(sorted(one.sample_ids_sha256 for one in first.values()))
        for world, seeds in worlds.items():
            mean = mean_and_error([one.value for one in seeds.values()]).mean
            line = replace(first[world], value=mean, seed=world, sample_ids_sha256=digest, **whole)
            lines.append((ResultSource(name, variant, world), line))
    return lines


def _group(measured: Lines) -> dict[tuple[str, ResultColumn], Lines]:
    """Lines by row and column; rows that several runs filled are named with the run."""
    filled: dict[tuple[str, str, str], set[str]] = {}
    for source, result in measured:
        filled.setdefault((result.task, result.row, source.variant), set()).add(source.name)
    groups: dict[tuple[str, ResultColumn], Lines] = {}
    for source, result in measured:
        row = result.row or source.name
        if row not in REFERENCES:
            several = result.row and len(filled[result.task, result.row, source.variant]) > 1
            row += f" · {source.variant}" if source.variant else ""
            row += f" [{source.name}]" if several else ""
        column = ResultColumn(result.task, result.metric, result.split)
        groups.setdefault((row, column), []).append((source, result))
    return groups


def _cell(row: str, column: ResultColumn, lines: Lines, notes: list[str]) -> ResultCell:
    measured_on = [SampleSet(result.n, result.of, result.sample_ids_sha256) for _, result in lines]
    samples = Counter(measured_on).most_common(1)[0][0]
    chosen = [line for line, own in zip(lines, measured_on, strict=True) if own == samples]
    title = f"{row}, {column.title}"
    if len(chosen) < len(lines):
        notes.append(f"{title}: {len(lines) - len(chosen)} results over other samples are left out of the mean")
    seeds: dict[int | None, float] = {}
    replaced = set()
    for _, result in chosen:
        if seeds.get(result.seed, result.value) != result.value:
            replaced.add(str(result.seed))
        seeds[result.seed] = result.value
    if replaced:
        notes.append(f"{title}: seed {', '.join(sorted(replaced))} has several values, the last one counts")
    source, last = chosen[-1]
    paper = paper_value(column.task, column.metric, last.row, last.origin)
    found = mean_and_error(list(seeds.values()))
    error = found.standard_error if found.n > 1 else None
    return ResultCell(found.mean, error, seeds, samples, selection=last.selection, paper=paper)


def _mark(table: ResultsTable, column: ResultColumn) -> None:
    """Find the column's own samples, and mark the cells over others."""
    counts = Counter(cell.samples for cell in table.column(column).values())
    common = table.samples[column] = counts.most_common(1)[0][0]
    others = [samples for samples in counts if samples != common]
    marks = {samples: MARKS[i % len(MARKS)] for i, samples in enumerate(others)}
    for cell in table.column(column).values():
        cell.mark = marks.get(cell.samples, "")
    for samples, mark in marks.items():
        table.notes.append(f"{mark} {column.title}: over {samples}, not comparable with the column's {common}")


def _judge(table: ResultsTable, column: ResultColumn) -> None:
    """Find out of every cell whether it beats the trivial row over the same samples."""
    cells = table.column(column)
    trivial = cells.get(TRIVIAL)
    for row, cell in cells.items():
        if trivial is not None and row not in REFERENCES and cell.samples == trivial.samples:
            gain = (cell.value - trivial.value) * (1 if column.higher_is_better else -1)
            cell.beats_trivial = gain > 2 * (cell.error or 0.0)


def _compare(table: ResultsTable, column: ResultColumn) -> list[RowDifference]:
    """Every row with pretrained context against its partner of the same variant, over the same samples and seeds."""
    found, cells = [], table.column(column)
    for better, cell in cells.items():
        base = next((base for base in _partners(better) if base in cells), None)
        if base is None or cell.samples != cells[base].samples or not cell.seeds.keys() & cells[base].seeds.keys():
            continue
        one = paired_difference(cell.seeds, cells[base].seeds)
        error = one.standard_error if one.n > 1 else None
        clear = error is not None and abs(one.mean) > 2 * error
        gain = one.mean > 0 if column.higher_is_better else one.mean < 0
        found.append(RowDifference(column, better, base, one.mean, error, one.n, clear, gain))
    return found


def _partners(row: str) -> tuple[str, ...]:
    """Rows that a row is to be compared with, the first that is there: its setting from scratch, else the plain one."""
    name, space, variant = row.partition(" ")
    other = {"scene-pretrained": "scene-backbone", "ot++-pretrained": "instances"}.get(name)
    partners = [other or name.replace("pretrained", "scratch")] if "pretrained" in name else []
    partners += ["scratch"] if name.startswith("pretrained-") else []
    return tuple(f"{partner}{space}{variant}" for partner in partners)


def _ranks(table: ResultsTable) -> dict[str, Standing]:
    """Ranks as in the paper's Table 5; rows that lack a task, or have it over other samples, have none."""
    columns = [one for one in table.columns if one.task in LVU_TASKS and one.metric == LVU_TASKS[one.task].metric]
    if sorted(column.task for column in columns) != sorted(LVU_TASKS):
        return {}
    rows = {
        row: {column.task: cells[column] for column in columns}
        for row, cells in table.rows.items()
        if row not in REFERENCES
        and all(c in cells and not cells[c].mark and math.isfinite(cells[c].value) for c in columns)
    }
    if len(rows) < 2:
        return {}
    higher = {column.task: column.higher_is_better for column in columns}

    def standing(number: Callable[[ResultCell], float]) -> dict[str, Standing]:
        values = {row: {task: number(cell) for task, cell in cells.items()} for row, cells in rows.items()}
        return standings(values, higher)

    seeds = set.intersection(*(set(cell.seeds) for cells in rows.values() for cell in cells.values()))
    alone = {seed: standing(lambda cell, seed=seed: cell.seeds[seed]) for seed in sorted(seeds, key=str)}
    return {
        row: replace(one, by_seed={seed: placed[row].mean_rank for seed, placed in alone.items()})
        for row, one in standing(lambda cell: cell.value).items()
    }


def _remarks(table: ResultsTable) -> list[str]:
    """What the numbers do not say by themselves."""
    remarks = []
    clear = [one for one in table.comparisons if one.clear]
    if clear:
        ways = sorted({f"paired over {one.seeds} {table.over}" for one in clear})
        remarks.append(f"* a difference beyond two standard errors ({', '.join(ways)})")
    remarks += [f"{one.column.title}: {one.better} is worse than {one.base}" for one in clear if not one.gain]
    for column in table.columns:
        weak = [row for row, cell in table.column(column).items() if cell.beats_trivial is False]
        if weak:
            remarks.append(f"{column.title}: not clearly better than the trivial row: {', '.join(weak)}")
    return remarks


def incomplete(measured: Iterable[tuple[ResultSource, Result]]) -> list[str]:
    """A sentence for each run and task that was scored on fewer samples than its split has."""
    found = [
        f"{source.name}: {result.task} {result.split} is scored on {result.n} of {result.of} samples, "
        f"{result.of - result.n} are missing"
        for source, result in measured
        if result.n < result.of and not result.metric.startswith("acc1_")
    ]
    return list(dict.fromkeys(found))
