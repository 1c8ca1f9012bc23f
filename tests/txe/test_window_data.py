"""Which windows an epoch holds, how they are shared out, and whose events they are."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from kuleshov.core.errors import FormatError, KuleshovError, StoreError
from kuleshov.txe.event_table import Movies
from kuleshov.txe.window_data import EventWindows, Windows, read_ids


def movies(*counts: int) -> Movies:
    count = np.array(counts)
    first = 100 + np.cumsum(count) - count
    return Movies(tuple(f"m{i}" for i in range(len(counts))), first, count)


@pytest.mark.parametrize("weighting", ["movie", "event"])
@pytest.mark.parametrize("step", [1, 2])
def test_windows_stay_inside_their_movie(weighting: str, step: int):
    windows = Windows(movies(9, 10, 30, 4), 5, step, weighting, per_movie=50, seed=3)
    first, movie, mask = windows.draw(2)
    span = 4 * step + 1
    begin, count = windows.movies.first[movie], windows.movies.count[movie]
    assert ((first >= begin) & (first + span <= begin + count)).all()
    assert len(first) == windows.size and mask.shape == (len(first), 2)
    assert windows.too_short == ["m3"]


def test_an_epoch_by_movie_shows_every_movie_equally_often():
    windows = Windows(movies(5, 9, 200), 5, per_movie=4)
    _, movie, _ = windows.draw(0)
    assert np.bincount(movie).tolist() == [4, 4, 4]


def test_an_epoch_by_event_shows_every_place_equally_often():
    windows = Windows(movies(5, 9, 24), 5, weighting="event", seed=1)
    assert windows.size == 38 // 5
    places = np.concatenate([windows.draw(number)[0] for number in range(4000)])
    counts = np.bincount(places - 100)
    assert (counts > 0).sum() == 1 + 5 + 20
    assert stats.chisquare(counts[counts > 0]).pvalue > 1e-4


def test_places_in_a_movie_are_uniform():
    windows = Windows(movies(12), 5, per_movie=8000)
    assert stats.chisquare(np.bincount(windows.draw(0)[0] - 100)).pvalue > 1e-4


def test_epochs_and_seeds_differ_and_repeat():
    def draw(seed: int, epoch: int) -> np.ndarray:
        return Windows(movies(*[50] * 20), 5, seed=seed).draw(epoch)[0]

    assert (draw(0, 1) == draw(0, 1)).all()
    assert (draw(0, 1) != draw(0, 2)).any() and (draw(0, 1) != draw(1, 1)).any()


def test_movies_that_are_all_too_short_are_refused():
    with pytest.raises(KuleshovError, match=r"none of 2 movies has the 9 events that a window of 5 takes \(2 apart"):
        Windows(movies(5, 8), 5, step=2)


def together(batches: list[dict]) -> torch.Tensor:
    return torch.cat([batch["rows"] for batch in batches])


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_a_batch_in_order(world: int, monkeypatch: pytest.MonkeyPatch):
    def share() -> list[dict]:
        return list(Windows(movies(*[9] * 23), 5, 2, batch_size=10))

    alone = share()
    assert [len(batch["rows"]) for batch in alone] == [10, 10, 3]
    shares = []
    for rank in range(world):
        monkeypatch.setattr("kuleshov.txe.window_data.world_size", lambda: world)
        monkeypatch.setattr("kuleshov.txe.window_data.rank", lambda rank=rank: rank)
        shares.append(share())
    # three windows are too few for four ranks: none of them gets one
    assert {len(share) for share in shares} == {3 if world == 2 else 2}
    for number in range(len(shares[0])):
        joined = together([share[number] for share in shares])
        assert torch.equal(joined, alone[number]["rows"])


def test_a_loader_goes_on_where_it_was():
    loader = Windows(movies(*[9] * 40), 5, batch_size=10)
    loader.set_epoch(3)
    whole = list(loader)
    half = iter(loader)
    next(half), next(half)
    for epoch, left in ((3, whole[2:]), (4, None)):
        again = Windows(movies(*[9] * 40), 5, batch_size=10)
        again.load_state_dict(loader.state_dict())
        again.set_epoch(epoch)
        batches = list(again)
        assert len(batches) == 4 if left is None else torch.equal(together(batches), together(left))


def test_the_split_holds_movies_out_by_their_id():
    everything = movies(*[9] * 400)
    train, held = everything.split(0.25, excluded=["m7"])
    assert len(train.ids) + len(held.ids) == 399 and 60 < len(held.ids) < 140
    assert not set(train.ids) & set(held.ids) and "m7" not in train.ids + held.ids
    fewer = everything.only(np.arange(400) % 2 == 0).split(0.25)[1]
    assert set(fewer.ids) == set(held.ids) & {f"m{i}" for i in range(0, 400, 2)}
    assert everything.split(0.0)[1].ids == ()


def test_stores_are_pooled_and_must_be_alike(tmp_path: Path, make_store):
    first, second = make_store("first"), make_store("other")
    data = EventWindows([str(first)], val_stores=[str(second)])
    data.setup("fit")
    # both stores hold the same ids: nothing is left to validate on
    assert data.val_windows is None and len(data.table) == 540
    with pytest.raises(StoreError, match=r"first has width 6, .*wide has 7: extract both alike"):
        EventWindows([str(first), str(make_store("wide", width=7))]).setup("fit")


def test_movies_can_be_chosen_and_left_out(tmp_path: Path, make_store):
    wanted, bad = tmp_path / "wanted.json", tmp_path / "bad.txt"
    wanted.write_text('["movie001", "movie002", "movie003"]')
    bad.write_text("movie002\n\n")
    data = EventWindows([str(make_store())], include=str(wanted), exclude=str(bad), val_fraction=0.0)
    data.setup("fit")
    assert data.train_windows.movies.ids == ("movie001", "movie003")
    assert read_ids(bad) == ["movie002"]
    wanted.write_text("3")
    with pytest.raises(FormatError, match="holds a int, a list was expected"):
        read_ids(wanted)
    wanted.write_text('["movie001", "movie002", "movie003"]')
    bad.write_text("nobody")
    with pytest.raises(KuleshovError, match=r"bad\.txt names none of the movies in"):
        EventWindows([str(make_store("s2"))], include=str(bad)).setup("fit")


def test_a_stride_that_is_no_multiple_of_the_stores_is_refused(make_store):
    with pytest.raises(StoreError, match=r"has an event every 2\.0 s, 3\.0 s is no multiple of it"):
        EventWindows([str(make_store())], token_stride=3.0).setup("fit")


@pytest.mark.parametrize("placement", ["host", "device", "mmap"])
def test_all_placements_give_the_same_features(placement: str, make_store):
    data = EventWindows([str(make_store("a")), str(make_store("b", counts=[7] * 3))], placement=placement)
    index = torch.tensor([[0, 269], [268, 5]])
    expected = EventWindows([str(data.stores[0]), str(data.stores[1])]).table.take(index)
    assert torch.equal(data.table.to(torch.device("cpu")).take(index), expected)


def test_a_world_tells_which_events_validation_cannot_see(make_store, tmp_path):
    truth = tmp_path / "world" / "truth"
    truth.mkdir(parents=True)
    shown = {"verb": 0, "scene": 0, "agent": 0}
    events = [{**shown, "off_screen": e % 3 == 0} for e in range(9)]
    common = {"kind": "lvu", "events": events, "cast": [0], "style": {"director": 0}}
    stories = [{**common, "id": f"movie{n:03d}"} for n in range(30)]
    (truth / "stories.jsonl").write_text("\n".join(map(json.dumps, stories)))
    videos = tmp_path / "world" / "lvu" / "videos"
    data = EventWindows([str(make_store())], val_fraction=0.3, video_root=str(videos))
    data.setup("fit")
    batch = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    place = torch.tensor([[round(data.table.locate(row)[1] / 2) for row in rows] for rows in batch["rows"].tolist()])
    assert torch.equal(batch["offscreen"].long(), (place % 3 == 0).long())
