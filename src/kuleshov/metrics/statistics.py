"""Mean and standard error over seeds, bootstrap intervals over samples, paired differences between two rows."""

import itertools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kuleshov.core.errors import KuleshovError
from kuleshov.core.random import numpy_generator

EXACT_PAIRS, DRAWS = 16, 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error (nan for a single value) and the number of values."""

    mean: float
    standard_error: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.n < 2 else f"{self.mean:.2f} ± {self.standard_error:.2f}"


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences a - b.

    Attributes:
        mean: mean difference.
        standard_error: its standard error; nan for a single pair.
        n: number of pairs.
        wins: pairs in which a is greater.
        p: two-sided probability of a mean at least as far from 0 if each difference's sign were a coin's.
    """

    mean: float
    standard_error: float
    n: int
    wins: int
    p: float


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
    samples: np.ndarray,
    statistic: Callable[[np.ndarray], float] = np.mean,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic over samples (n, ...) drawn again with replacement; the same each time.

    Args:
        samples: one row a sample.
        statistic: samples -> a number.
        level: probability that the interval covers.
        resamples: how many times samples are drawn.
        seed: of the draws.

    Raises:
        KuleshovError: no sample, or a level outside (0, 1).
    """
    samples = np.asarray(samples)
    if len(samples) == 0 or not 0 < level < 1:
        raise KuleshovError(f"a bootstrap needs samples and 0 < level < 1, got {len(samples)} and {level}")
    generator = numpy_generator(seed, 0, 0)
    draws = (samples[generator.integers(len(samples), size=len(samples))] for _ in range(resamples))
    values = np.array([statistic(draw) for draw in draws])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(a: Mapping[Hashable, float], b: Mapping[Hashable, float]) -> Difference:
    """Compare two rows over the seeds (or samples) that both have.

    The sign-flip test is exact up to 16 pairs, with 10,000 fixed draws beyond.

    Args:
        a: seed -> value.
        b: seed -> value.

    Raises:
        KuleshovError: no common seed.
    """
    common = sorted(set(a) & set(b), key=str)
    if not common:
        raise KuleshovError(f"the two rows share no seed: {sorted(a, key=str)} and {sorted(b, key=str)}")
    differences = np.array([a[key] - b[key] for key in common], float)
    estimate = mean_and_error(differences)
    if estimate.n <= EXACT_PAIRS:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=estimate.n)))
    else:
        signs = numpy_generator(0, 0, 0).choice([-1.0, 1.0], size=(DRAWS, estimate.n))
    far = np.abs(signs @ differences) >= abs(differences.sum()) * (1 - 1e-12)
    wins = int((differences > 0).sum())
    return Difference(estimate.mean, estimate.standard_error, estimate.n, wins, float(far.mean()))
