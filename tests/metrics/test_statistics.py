"""Means over seeds, bootstrap intervals, paired differences, ranks."""

import math

import numpy as np
import pytest

from kuleshov.core.errors import KuleshovError
from kuleshov.metrics.statistics import bootstrap_interval, mean_and_error, paired_difference, standings

TASKS = ("Rel", "Speak", "Scene", "Dir", "Writer", "Year", "Genre", "Like", "Views")
UP = {task: task not in ("Like", "Views") for task in TASKS}
# values, #top-1 and mean rank as printed in the paper's Table 5
PRINTED = {
    "OT": ((50.00, 34.57, 32.56, 37.38, 26.55, 25.73, 49.55, 0.396, 4.559), 1, 3.22),
    "CVRL": ((50.95, 32.86, 32.56, 37.76, 27.26, 25.31, 48.17, 0.444, 4.600), 0, 3.89),
    "MoDist": ((49.52, 33.57, 30.70, 40.56, 23.10, 26.57, 49.26, 0.458, 4.506), 0, 3.89),
    "Sup": ((52.38, 34.37, 26.51, 23.18, 5.36, 18.88, 47.37, 0.595, 4.061), 2, 4.44),
    "Ours": ((52.38, 33.07, 36.98, 42.43, 23.93, 35.24, 48.11, 0.375, 4.653), 3, 2.89),
    "OT + Ours": ((50.95, 34.07, 44.19, 40.19, 31.43, 29.65, 51.15, 0.353, 4.886), 4, 2.33),
}


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


def test_paired_difference_is_over_what_both_have():
    found = paired_difference({0: 3.0, 1: 5.0, 2: 4.0, 9: 1.0}, {0: 2.0, 1: 2.0, 2: 4.5, 8: 0.0})
    assert (found.mean, found.n) == (pytest.approx(3.5 / 3), 3)
    assert found.standard_error == pytest.approx(np.std([1.0, 3.0, -0.5], ddof=1) / math.sqrt(3))
    with pytest.raises(KuleshovError, match=r"the two rows share no seed: \[0\] and \[1\]"):
        paired_difference({0: 1.0}, {1: 1.0})


def printed_table():
    return {row: dict(zip(TASKS, values, strict=True)) for row, (values, _, _) in PRINTED.items()}


def test_the_printed_columns_come_out_of_the_printed_values():
    placed = standings(printed_table(), UP)
    for row, (_, top1, mean) in PRINTED.items():
        assert placed[row].top1 == top1, row
        assert round(placed[row].mean_rank, 2) == mean, row


def test_ties_share_the_best_rank():
    placed = standings({"a": {"x": 1.0}, "b": {"x": 1.0}, "c": {"x": 0.0}}, {"x": True})
    assert [placed[row].ranks["x"] for row in "abc"] == [1, 1, 3]
    assert [placed[row].top1 for row in "abc"] == [1, 1, 0]


def test_direction():
    placed = standings({"a": {"x": 1.0}, "b": {"x": 2.0}}, {"x": False})
    assert placed["a"].mean_rank == 1 and placed["b"].mean_rank == 2


@pytest.mark.parametrize("values", [{"x": 1.0}, {"x": 1.0, "y": float("nan")}])
def test_a_row_with_a_gap_is_refused(values):
    with pytest.raises(KuleshovError, match="row 'b' has no value for y"):
        standings({"a": {"x": 1.0, "y": 1.0}, "b": values}, {"x": True, "y": True})
