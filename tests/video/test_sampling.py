"""The sampling laws: against their definitions and distributions."""

import numpy as np
import pytest
from scipy import stats

from kuleshov.core.errors import KuleshovError
from kuleshov.core.random import numpy_generator
from kuleshov.video import sampling
from kuleshov.video.clip_format import ClipFormat


@pytest.fixture
def generator():
    return numpy_generator(0, 0, 0)


def test_interval_law_over_100000_draws(generator):
    longest = 9.0
    draws = sampling.draw_interval(generator, longest, 100_000)
    law = stats.kstest(draws, lambda k: 2 * k / longest - k**2 / longest**2)
    assert law.pvalue > 0.01
    assert stats.kstest(draws, stats.uniform(0, longest).cdf).pvalue < 1e-10


def test_pair_order_and_earlier_start(generator):
    pairs = np.array([sampling.two_clip_starts(generator, 10.0, 1.0) for _ in range(20_000)])
    assert pairs.min() >= 0 and pairs.max() <= 9.0
    swapped = (pairs[:, 0] > pairs[:, 1]).mean()
    assert abs(swapped - 0.5) < 0.02
    gaps = np.abs(pairs[:, 0] - pairs[:, 1])
    assert stats.kstest(gaps, lambda k: 2 * k / 9 - k**2 / 81).pvalue > 0.01
    # given the interval, the earlier start is uniform on [0, m - interval)
    assert stats.kstest(pairs.min(axis=1) / (9.0 - gaps), "uniform").pvalue > 0.01


def test_short_videos_loop(generator):
    starts = np.array([sampling.two_clip_starts(generator, 0.4, 1.0) for _ in range(5_000)]).ravel()
    assert stats.kstest(starts, stats.uniform(0, 0.4).cdf).pvalue > 0.01
    times = ClipFormat(6, 1, 10.0).times(0.3, 0.0, 0.4)
    np.testing.assert_allclose(times, [0.3, 0.4, 0.1, 0.2, 0.3, 0.0], atol=1e-9)
    assert (ClipFormat(40, 1, 10.0).times(0.35, 0.0, 0.4) <= 0.4 + 1e-9).all()


def test_clip_times_closed_form():
    np.testing.assert_allclose(ClipFormat(4, 2, 8.0).times(2.0, 0.0, 9.0), [2.0, 2.25, 2.5, 2.75])
    np.testing.assert_allclose(ClipFormat(16, 2, 30.0).last_frame_seconds, 1.0)


def test_shift_is_uniform_and_both_clips_fit(generator):
    draw = [sampling.shifted_clip_starts(generator, 60.0, 2.0) for _ in range(20_000)]
    first, second = np.array(draw).T
    distance = np.abs(first - second)
    assert stats.kstest(distance, stats.uniform(0.5, 9.5).cdf).pvalue > 0.01
    assert abs((second > first).mean() - 0.5) < 0.02
    assert first.min() >= 0 and second.min() >= 0 and max(first.max(), second.max()) <= 58
    for _ in range(200):
        first, second = sampling.shifted_clip_starts(generator, 3.0, 2.0)
        assert 0 <= first <= 1 and 0 <= second <= 1


def test_vidsitu_centers_and_frames():
    centers = sampling.event_centers(10.0, 5)
    np.testing.assert_allclose(centers * 30, [30, 90, 150, 210, 270])
    for center in (30, 90, 150, 210, 270):
        frames = np.clip(np.arange(center - 32, center + 32, 4), 0, 299)
        times = ClipFormat(16, 4, 30.0).times_around(center / 30, 0.0, 10.0)
        np.testing.assert_allclose(times * 30, frames, atol=1e-9)


def test_starts_that_do_not_fit(generator):
    assert sampling.uniform_start(generator, 1.0, 2.0) == 0.0
    assert sampling.centered_start(1.0, 2.0) == 0.0
    assert sampling.centered_start(10.0, 2.0) == 4.0


def test_wrong_numbers_are_named(generator):
    with pytest.raises(KuleshovError, match="num_frames must be positive, got 0"):
        ClipFormat(0, 1, 30)
    with pytest.raises(KuleshovError, match=r"0 <= low <= high, got \(2, 1\)"):
        sampling.shifted_clip_starts(generator, 10, 1, (2, 1))
