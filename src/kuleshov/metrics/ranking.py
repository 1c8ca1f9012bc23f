"""Table 5's last two columns: on how many tasks a row is best, and its mean rank.

Rank = 1 + the number of rows that are strictly better: ties share the best rank. `#top-1` counts every row
that shares a task's best value. Of all direction and tie rules this is the only one that gives the paper's
printed means from its printed values.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from kuleshov.core.errors import KuleshovError


@dataclass(frozen=True)
class Standing:
    """A row's standing: number of tasks on which no row is strictly better, mean rank, and task -> rank."""

    top1: int
    mean_rank: float
    ranks: dict[str, int]


def standings(table: Mapping[str, Mapping[str, float]], higher_is_better: Mapping[str, bool]) -> dict[str, Standing]:
    """Rank the rows of a table, row -> task -> value, on every task of `higher_is_better`.

    Raises:
        KuleshovError: a row lacks a task or its value is not a number: ranks over different sets of tasks
            are not comparable.
    """
    placed = {}
    for row, values in table.items():
        lacking = [task for task in higher_is_better if not math.isfinite(values.get(task, math.nan))]
        if lacking:
            raise KuleshovError(
                f"row {row!r} has no value for {', '.join(lacking)}: run these tasks or rank without the row"
            )
        ranks = {
            task: 1 + sum(o[task] > values[task] if up else o[task] < values[task] for o in table.values() if task in o)
            for task, up in higher_is_better.items()
        }
        best = sum(rank == 1 for rank in ranks.values())
        placed[row] = Standing(best, sum(ranks.values()) / max(1, len(ranks)), ranks)
    return placed
