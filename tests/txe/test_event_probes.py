"""Probes read from TxE's output what it keeps, from its input what there is, and nothing where there is nothing."""

import json
from pathlib import Path

import pytest
import torch

from kuleshov.core.errors import KuleshovError
from kuleshov.pretraining.probes import fit_linear
from kuleshov.txe.event_probes import EventProbes, probe_events, read_labels
from kuleshov.txe.window_data import EventWindows


@pytest.fixture
def data(make_store) -> EventWindows:
    data = EventWindows([str(make_store(counts=[9] * 60))], val_fraction=0.3)
    data.setup("fit")
    return data


def made_up_labels(data: EventWindows) -> dict:
    """`sign` is in the features, `coin` is not."""
    table, generator = data.table, torch.Generator().manual_seed(1)
    labels = {}
    movies = table.movies()
    for name, first, count in zip(movies.ids, movies.first, movies.count, strict=True):
        features = table.take(torch.arange(first, first + count))
        sign = (features[:, 0] > features[:, 1]).long().tolist()
        coin = torch.randint(2, (count,), generator=generator).tolist()
        labels[name] = {"sign": sign, "coin": coin, "off_screen": [place % 2 for place in range(count)]}
    return labels


def test_probes_find_what_is_there_and_only_that(data: EventWindows, tiny_txe):
    scores = probe_events(tiny_txe(), data, made_up_labels(data), most=40)
    assert scores["sign_input"] > 0.9 and scores["sign"] > 0.7
    assert abs(scores["coin_input"] - 0.5) < 0.12 and abs(scores["coin"] - 0.5) < 0.12
    assert 0.4 < scores["sign_trivial"] < 0.65
    held = data.val_windows.movies
    off = sum(count // 2 for count in held.count.tolist()) / sum(held.count.tolist())
    both = off * scores["sign_offscreen"] + (1 - off) * scores["sign_onscreen"]
    assert both == pytest.approx(scores["sign"])


def test_a_probe_is_fitted_on_training_movies_and_scored_on_those_held_out(data: EventWindows, tiny_txe):
    labels, txe = made_up_labels(data), tiny_txe()
    scores = probe_events(txe, data, labels, most=10)

    def features(ids, movies):
        rows = [
            r
            for n, f, c in zip(movies.ids, movies.first, movies.count, strict=True)
            if n in ids
            for r in range(f, f + c)
        ]
        wanted = [label for name in movies.ids if name in ids for label in labels[name]["sign"]]
        return data.table.take(torch.tensor(rows)), torch.tensor(wanted)

    known, names = features(sorted(data.train_windows.movies.ids)[:10], data.train_windows.movies)
    asked, wanted = features(data.val_windows.movies.ids, data.val_windows.movies)
    assert scores["sign_input"] == pytest.approx(
        float((fit_linear(known, names).predict(asked) == wanted).double().mean())
    )


def test_the_callback_logs_when_it_is_due_and_there_are_labels(data: EventWindows, tiny_txe, tmp_path: Path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(made_up_labels(data)))
    logged: list[dict] = []

    class Module:
        txe = tiny_txe()

        def log_dict(self, values: dict, rank_zero_only: bool) -> None:
            logged.append(values)

    class Trainer:
        datamodule, is_global_zero, sanity_checking, current_epoch = data, True, False, 3

    for every, labels in ((4, str(path)), (3, str(path)), (4, None)):
        EventProbes(every, labels=labels).on_validation_epoch_end(Trainer(), Module())
    assert len(logged) == 1 and "keep/sign" in logged[0] and "keep/off_screen" not in logged[0]
    assert read_labels(None, None) == {}


def test_labels_of_other_movies_are_refused(data: EventWindows, tiny_txe):
    with pytest.raises(KuleshovError, match="the labels name no movie"):
        probe_events(tiny_txe(), data, {"somebody": {"sign": [0]}}, most=10)


def test_labels_that_are_not_alike_are_refused(data: EventWindows, tiny_txe):
    for spoil in (lambda one: one.pop("coin"), lambda one: one["coin"].pop()):
        labels = made_up_labels(data)
        name = data.val_windows.movies.ids[0]
        spoil(labels[name])
        with pytest.raises(KuleshovError, match=f"labels of {name}: each movie needs sign, coin, off_screen"):
            probe_events(tiny_txe(), data, labels, most=10)


def test_without_events_off_screen_there_is_no_figure_of_them(data: EventWindows, tiny_txe):
    labels = made_up_labels(data)
    for one in labels.values():
        one["off_screen"] = [0] * len(one["off_screen"])
    scores = probe_events(tiny_txe(), data, labels, most=10)
    assert "sign_offscreen" not in scores and scores["sign_onscreen"] == scores["sign"]
