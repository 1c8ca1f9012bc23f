import math
import time

import numpy as np
import pytest

from kuleshov.core.errors import KuleshovError
from kuleshov.metrics import lvu_metrics as lvu


def slow_movie_class(windows):
    """Arg-max of summed softmaxes, number by number; the first of equal sums."""
    sums = [0.0] * len(windows[0])
    for window in windows:
        total = sum(math.exp(value) for value in window)
        for index, value in enumerate(window):
            sums[index] += math.exp(value) / total
    return sums.index(max(sums)), sums


def test_summed_probabilities_against_a_plain_loop():
    rng = np.random.default_rng(0)
    logits, movie = rng.normal(size=(40, 5)), rng.integers(0, 6, size=40)
    sums = lvu.sum_probabilities(logits, movie, 7)
    for index in range(6):
        predicted, expected = slow_movie_class(logits[movie == index].tolist())
        np.testing.assert_allclose(sums[index], expected, atol=1e-12)
        assert sums[index].argmax() == predicted
    assert not sums[6].any()


def test_one_sure_window_outvotes_two_unsure_ones():
    logits = np.array([[9.0, 0.0], [0.0, 0.2], [0.0, 0.2]])
    assert lvu.sum_probabilities(logits, np.zeros(3, dtype=int), 1).argmax() == 0


def test_ties_go_to_the_lowest_class():
    assert lvu.sum_probabilities(np.array([[0.0, 3.0], [3.0, 0.0]]), np.zeros(2, dtype=int), 1).argmax() == 0


def test_large_logits_do_not_overflow():
    np.testing.assert_allclose(lvu.sum_probabilities(np.array([[1000.0, 0.0]]), np.zeros(1, dtype=int), 1), [[1, 0]])


def test_means_are_taken_before_the_square():
    values = lvu.mean_values(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 1]), 3)
    assert values[:2].tolist() == [2.0, 5.0] and math.isnan(values[2])
    assert lvu.mean_squared_error(values[:2], np.array([2.0, 4.0])) == 0.5


def test_accuracies():
    predicted, labels = np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1])
    assert lvu.top1(predicted, labels) == 75.0
    assert lvu.balanced_top1(predicted, labels) == 50.0
    assert lvu.movie_scores(predicted, labels, True).tolist() == [100, 100, 100, 0]
    assert lvu.movie_scores(np.array([1.0]), np.array([3.0]), False).tolist() == [4.0]


def test_the_balanced_accuracy_is_a_mean_over_classes_however_many():
    rng = np.random.default_rng(0)
    for classes, movies in ((3, 50), (40, 200), (40_000, 100_000)):
        labels = rng.integers(0, classes, movies) * 7 - 5
        predicted = np.where(rng.random(movies) < 0.6, labels, 2)
        started = time.process_time()
        found = lvu.balanced_top1(predicted, labels)
        # a look at all movies for each class takes a minute
        assert time.process_time() - started < 5
        if classes < 1000:
            assert found == 100 * np.mean([np.mean(predicted[labels == one] == one) for one in np.unique(labels)])


def test_beating_the_trivial_row_is_strict_and_knows_the_direction():
    assert lvu.beats(52.4, 52.38, True) and not lvu.beats(52.38, 52.38, True)
    assert lvu.beats(4.0, 4.09, False) and not lvu.beats(4.1, 4.09, False)
    assert not lvu.beats(float("nan"), 1.0, True)


def test_unequal_lengths_are_refused():
    with pytest.raises(KuleshovError, match=r"predictions \(2,\) and labels \(3,\)"):
        lvu.top1(np.zeros(2), np.zeros(3))
    with pytest.raises(KuleshovError, match="not empty"):
        lvu.top1(np.zeros(0), np.zeros(0))
