"""Mean and standard error over seeds, bootstrap intervals over samples, paired differences and ranks of rows."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kuleshov.core.errors import KuleshovError
from kuleshov.core.random import numpy_generator


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error (nan for a single value) and the number of values."""

    mean: float
    standard_error: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.n < 2 else f"{self.mean:.2f} ± {self.standard_error:.2f}"


def mean_and_error(values: Sequence[float]) -> Estimate:
    """Mean and standard error (sample standard deviation over the root of n) of values, one a seed.

    Raises:
        KuleshovError: no value.
    """
    array = np.asarray(values, float)
    if array.size == 0:
        raise KuleshovError("no value to average")
    error = float(array.std(ddof=1) / math.sqrt(array.size)) if array.size > 1 else math.nan
    return Estimate(float(array.mean()), error, array.size)


def bootstrap_interval(
    samples: Sequence[float], level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of samples (n,) drawn again `resamples` times; the same for the same seed.

    Raises:
        KuleshovError: no sample, or a level outside (0, 1).
    """
    from scipy import stats  # slow to import

    samples = np.asarray(samples, float)
    if len(samples) == 0 or not 0 < level < 1:
        raise KuleshovError(f"a bootstrap needs samples and 0 < level < 1, got {len(samples)} and {level}")
    if len(samples) == 1:
        return float(samples[0]), float(samples[0])
    options = {"n_resamples": resamples, "batch": 100, "confidence_level": level, "method": "percentile"}
    found = stats.bootstrap((samples,), np.mean, rng=numpy_generator(seed, 0, 0), **options)
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def paired_difference(a: Mapping[Hashable, float], b: Mapping[Hashable, float]) -> Estimate:
    """Mean difference a - b of two rows, seed (or sample) -> value, over what both have.

    Raises:
        KuleshovError: no common seed.
    """
    common = sorted(set(a) & set(b), key=str)
    if not common:
        raise KuleshovError(f"the two rows share no seed: {sorted(a, key=str)} and {sorted(b, key=str)}")
    return mean_and_error([a[key] - b[key] for key in common])


@dataclass(frozen=True)
class Standing:
    """A row's standing: number of tasks on which no row is strictly better, mean rank, and task -> rank.

    Attributes:
        by_seed: seed -> the mean rank among the rows' values of that seed alone, where it was asked for.
    """

    top1: int
    mean_rank: float
    ranks: dict[str, int]
    by_seed: dict[Any, float] = field(default_factory=dict)


def standings(table: Mapping[str, Mapping[str, float]], higher_is_better: Mapping[str, bool]) -> dict[str, Standing]:
    """Rank the rows of a table, row -> task -> value, on every task of `higher_is_better`: Table 5's last two columns.

    Rank = 1 + the number of rows that are strictly better: ties share the best rank. `#top-1` counts every row
    that shares a task's best value. Of all direction and tie rules this is the only one that gives the paper's
    printed means from its printed values.

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
