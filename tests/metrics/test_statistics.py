"""Means over seeds, bootstrap intervals, paired differences."""

import itertools
import math

import numpy as np
import pytest

from kuleshov.core.errors import KuleshovError
from kuleshov.metrics.statistics import bootstrap_interval, mean_and_error, paired_difference


def test_mean_and_standard_error():
    found = mean_and_error([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5 and found.n == 4
    assert found.standard_error == pytest.approx(math.sqrt(5 / 3) / 2)
    assert str(found) == "2.50 ± 0.65" and str(mean_and_error([7])) == "7.00"
    assert math.isnan(mean_and_error([7]).standard_error)
    with pytest.raises(KuleshovError, match="no value to average"):
        mean_and_error([])


def test_bootstrap_covers_the_normal_interval_and_repeats():
    samples = np.random.default_rng(0).normal(5, 2, size=400)
    low, high = bootstrap_interval(samples)
    half = 1.96 * samples.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((samples.mean() - half, samples.mean() + half), abs=0.05)
    assert (low, high) == bootstrap_interval(samples)
    assert bootstrap_interval(samples, seed=1) != (low, high)
    assert bootstrap_interval(np.ones(5)) == bootstrap_interval([1.0]) == (1.0, 1.0)
    with pytest.raises(KuleshovError, match="a bootstrap needs samples and 0 < level < 1, got 0 and 0.95"):
        bootstrap_interval(np.zeros(0))


def test_paired_difference_against_every_sign():
    a, b = {0: 3.0, 1: 5.0, 2: 4.0, 9: 1.0}, {0: 2.0, 1: 2.0, 2: 4.5, 8: 0.0}
    found = paired_difference(a, b)
    differences = np.array([1.0, 3.0, -0.5])
    signs = list(itertools.product((-1, 1), repeat=3))
    expected = np.mean([abs(np.dot(s, differences)) >= differences.sum() - 1e-9 for s in signs])
    assert (found.mean, found.n, found.wins, found.p) == pytest.approx((3.5 / 3, 3, 2, expected))


def test_paired_difference_of_many_and_of_none():
    many = paired_difference({i: i % 7 + 1.0 for i in range(40)}, {i: float(i % 7) for i in range(40)})
    assert many.mean == 1.0 and many.wins == 40 and many.p < 0.01
    assert paired_difference({0: 1.0}, {0: 1.0}).p == 1.0
    with pytest.raises(KuleshovError, match=r"the two rows share no seed: \[0\] and \[1\]"):
        paired_difference({0: 1.0}, {1: 1.0})
