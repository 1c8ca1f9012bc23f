"""Table 5 from result lines: mean and error over seeds, interval over movies, the trivial row, ranks."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from kuleshov.core.results import Result
from kuleshov.datasets.lvu import TASKS
from kuleshov.metrics.lvu_metrics import beats
from kuleshov.metrics.ranking import Standing, standings
from kuleshov.metrics.statistics import mean_and_error

TRIVIAL = "trivial"


@dataclass(frozen=True)
class Cell:
    """A row's figure on a task.

    Attributes:
        mean: over seeds.
        standard_error: nan for one seed.
        seeds: number of them.
        n: movies scored.
        of: movies of the split.
        low: lower end of the 95 % bootstrap interval over movies, averaged over seeds; nan where unknown.
        high: its upper end.
        beats_trivial: whether the mean is strictly better than the trivial row's.
        by_seed: seed -> value.
    """

    mean: float
    standard_error: float
    seeds: int
    n: int
    of: int
    low: float
    high: float
    beats_trivial: bool
    by_seed: dict[int | None, float] = field(default_factory=dict)


@dataclass
class TableFive:
    """All of it.

    Attributes:
        cells: row -> task -> cell; the trivial row is one of the rows.
        standings: `#top-1` and mean rank of the rows that have every task that any row has, without the
            trivial row.
        warnings: what a reader must know: rows that a constant beats, columns over different movies.
    """

    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def table_five(results: Iterable[Result], split: str = "test") -> TableFive:
    """Collect the LVU lines of results files into the paper's Table 5."""
    groups: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for line in results:
        if line.task in TASKS and line.split == split:
            groups[line.row, line.task, line.metric].append(line)
    table = TableFive()
    for (row, task, metric), lines in groups.items():
        if metric == TASKS[task].metric:
            table.cells.setdefault(row, {})[task] = _cell(groups, row, task, lines)
    table.warnings = _warnings(table, groups)
    table.standings = _standings(table)
    return table


def _cell(groups: dict, row: str, task: str, lines: list[Result]) -> Cell:
    metric, up = TASKS[task].metric, TASKS[task].higher_is_better
    by_seed = {line.seed: line.value for line in lines}
    estimate = mean_and_error(list(by_seed.values()))
    ends = [groups.get((row, task, f"{metric}_{end}95"), []) for end in ("low", "high")]
    low, high = (mean_and_error([line.value for line in end]).mean if end else float("nan") for end in ends)
    trivial = groups.get((TRIVIAL, task, metric), [])
    better = bool(trivial) and beats(estimate.mean, trivial[0].value, up)
    first = lines[0]
    error, seeds = estimate.standard_error, estimate.n
    return Cell(estimate.mean, error, seeds, first.n, first.of, low, high, better, by_seed)


def _warnings(table: TableFive, groups: dict) -> list[str]:
    said = []
    for task in TASKS.values():
        key = (TRIVIAL, task.name, task.metric)
        hashes = {
            line.sample_ids_sha256
            for (_, name, metric), lines in groups.items()
            if name == task.name and metric == task.metric
            for line in lines
        }
        if len(hashes) > 1:
            said.append(f"{task.name}: the rows were scored on {len(hashes)} different sets of movies")
        for row, cells in table.cells.items():
            if row == TRIVIAL or task.name not in cells or key not in groups:
                continue
            if not cells[task.name].beats_trivial:
                said.append(
                    f"{task.name}: row {row} ({cells[task.name].mean:.4g}) does not beat the trivial row "
                    f"({groups[key][0].value:.4g})"
                )
    return said


def _standings(table: TableFive) -> dict[str, Standing]:
    rows = {row: cells for row, cells in table.cells.items() if row != TRIVIAL}
    tasks = [name for name in TASKS if any(name in cells for cells in rows.values())]
    whole = {
        row: {name: cells[name].mean for name in tasks}
        for row, cells in rows.items()
        if all(name in cells for name in tasks)
    }
    return standings(whole, {name: TASKS[name].higher_is_better for name in tasks}) if whole else {}
