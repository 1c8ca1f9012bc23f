"""Which windows an epoch holds, and how they are shared out."""

import numpy as np
import pytest
import torch
from scipy import stats

from kuleshov.core.errors import KuleshovError
from kuleshov.txe.windows import Movies, WindowBatches, Windows, split_movies


def movies(*counts: int) -> Movies:
    count = np.array(counts)
    first = 100 + np.cumsum(count) - count
    return Movies(tuple(f"m{i}" for i in range(len(counts))), first, count)


@pytest.mark.parametrize("weighting", ["movie", "event"])
@pytest.mark.parametrize("step", [1, 2])
def test_windows_stay_inside_their_movie(weighting: str, step: int):
    windows = Windows(movies(9, 10, 30, 4), 5, step, weighting, per_movie=50, seed=3)
    first, movie, mask = windows.epoch(2)
    span = 4 * step + 1
    begin, count = windows.movies.first[movie], windows.movies.count[movie]
    assert ((first >= begin) & (first + span <= begin + count)).all()
    assert len(first) == len(windows) and mask.shape == (len(first), 2)
    assert windows.too_short == ["m3"]


def test_an_epoch_by_movie_shows_every_movie_equally_often():
    windows = Windows(movies(5, 9, 200), 5, per_movie=4)
    _, movie, _ = windows.epoch(0)
    assert np.bincount(movie).tolist() == [4, 4, 4]


def test_an_epoch_by_event_shows_every_place_equally_often():
    windows = Windows(movies(5, 9, 24), 5, weighting="event", seed=1)
    assert len(windows) == 38 // 5
    places = np.concatenate([windows.epoch(number)[0] for number in range(4000)])
    counts = np.bincount(places - 100)
    assert (counts > 0).sum() == 1 + 5 + 20
    assert stats.chisquare(counts[counts > 0]).pvalue > 1e-4


def test_places_in_a_movie_are_uniform():
    windows = Windows(movies(12), 5, per_movie=8000)
    assert stats.chisquare(np.bincount(windows.epoch(0)[0] - 100)).pvalue > 1e-4


def test_epochs_and_seeds_differ_and_repeat():
    def draw(seed: int, epoch: int) -> np.ndarray:
        return Windows(movies(*[50] * 20), 5, seed=seed).epoch(epoch)[0]

    assert (draw(0, 1) == draw(0, 1)).all()
    assert (draw(0, 1) != draw(0, 2)).any() and (draw(0, 1) != draw(1, 1)).any()


def test_movies_that_are_all_too_short_are_refused():
    with pytest.raises(KuleshovError, match=r"none of 2 movies has the 9 events that a window of 5 takes \(2 apart"):
        Windows(movies(5, 8), 5, step=2)


def together(batches: list[dict]) -> torch.Tensor:
    return torch.cat([batch["rows"] for batch in batches])


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_a_batch_in_order(world: int, monkeypatch: pytest.MonkeyPatch):
    windows = Windows(movies(*[9] * 23), 5, 2)
    alone = list(WindowBatches(windows, 10))
    assert [len(batch["rows"]) for batch in alone] == [10, 10, 3]
    shares = []
    for rank in range(world):
        monkeypatch.setattr("kuleshov.txe.windows.world_size", lambda: world)
        monkeypatch.setattr("kuleshov.txe.windows.rank", lambda rank=rank: rank)
        shares.append(list(WindowBatches(windows, 10)))
    # three windows are too few for four ranks: none of them gets one
    assert {len(share) for share in shares} == {3 if world == 2 else 2}
    for number in range(len(shares[0])):
        joined = together([share[number] for share in shares])
        assert torch.equal(joined, alone[number]["rows"])


def test_a_loader_goes_on_where_it_was():
    windows = Windows(movies(*[9] * 40), 5)
    loader = WindowBatches(windows, 10)
    loader.set_epoch(3)
    whole = list(loader)
    half = iter(loader)
    next(half), next(half)
    state = loader.place()
    again = WindowBatches(windows, 10)
    again.go_on_from(state)
    again.set_epoch(3)
    assert torch.equal(together(list(again)), together(whole[2:]))
    again.go_on_from(state)
    again.set_epoch(4)
    assert len(list(again)) == 4


def test_the_split_holds_movies_out_by_their_id():
    everything = movies(*[9] * 400)
    train, held = split_movies(everything, 0.25, excluded=["m7"])
    assert len(train.ids) + len(held.ids) == 399 and 60 < len(held.ids) < 140
    assert not set(train.ids) & set(held.ids) and "m7" not in train.ids + held.ids
    fewer = split_movies(everything.only(np.arange(400) % 2 == 0), 0.25)[1]
    assert set(fewer.ids) == set(held.ids) & {f"m{i}" for i in range(0, 400, 2)}
    assert split_movies(everything, 0.0)[1].ids == ()
