import csv
import logging

import numpy as np
import pytest
import torch

from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.tasks.event_task import load_task
from kuleshov.tasks.lvu.evaluate_lvu import evaluate_lvu
from kuleshov.tasks.lvu.lvu_data import LvuData
from kuleshov.tasks.lvu.scene_head import SpanPool
from kuleshov.training.lightning_cli import main
from kuleshov.txe.contextualizer import Contextualizer

SIZES = {"train": 24, "val": 10, "test": 12}
SMALL = {"txe_hidden": 8, "txe_layers": 1, "txe_heads": 2, "txe_feedforward": 8}


@pytest.fixture
def run(fit, tmp_path):
    """(store, folder, task, *words, **model) -> a training of the scene head."""

    def made(store, folder, task, *words, **model):
        data = {"annotations": tmp_path, "events": store, "task": task}
        return fit("scene-head", folder, "--trainer.logger=false", *words, data=data, model={**SMALL, **model})

    return made


@pytest.mark.parametrize(("context", "task", "frozen"), [("none", "genre", False), ("scratch", "view_count", True)])
def test_a_run_learns_reports_and_is_used_again(tmp_path, kit, run, context, task, frozen, lines_of):
    store = kit.events(tmp_path / "events", kit.annotations(tmp_path, task, SIZES))
    cli = run(store, tmp_path / "run", task, context=context, txe_frozen=str(frozen).lower())
    found = lines_of(tmp_path / "run")
    row, metric = {"none": "backbone", "scratch": "scratch"}[context], "top1" if task == "genre" else "mse"
    line, trivial = found[row, metric], found["trivial", metric]
    assert (line.value > trivial.value) == (task == "genre")
    assert (line.n, line.of, line.split, line.selection) == (12, 12, "test", "epoch with the maximum val/score")
    assert found[row, f"{metric}_low95"].value <= line.value <= found[row, f"{metric}_high95"].value
    csv_file = tmp_path / "run" / "predictions" / "test.csv"
    scored = evaluate_lvu(task, csv_file, tmp_path)
    assert scored.metrics[metric] == pytest.approx(line.value)
    assert scored.sample_ids_sha256 == line.sample_ids_sha256
    # the exported network, and `predict` by the run's checkpoint, answer as the run did
    loaded = load_task(tmp_path / "run" / "weights" / f"{task}.safetensors")
    assert loaded.task == task and loaded.row == row
    text = csv_file.read_text()
    csv_file.unlink()
    cli.trainer.predict(loaded, datamodule=cli.datamodule)
    assert csv_file.read_text() == text
    csv_file.unlink()
    main(["predict", "-c", str(tmp_path / "run" / "config.yaml")])
    assert csv_file.read_text() == text


def test_the_same_seed_gives_the_same_predictions(tmp_path, kit, run):
    store = kit.events(tmp_path / "events", kit.annotations(tmp_path, "view_count", SIZES))
    texts = []
    for name in ("a", "b"):
        run(store, tmp_path / name, "view_count", "--trainer.max_epochs=2", context="scratch")
        texts.append((tmp_path / name / "predictions" / "test.csv").read_text())
    assert texts[0] == texts[1]


def test_missing_movies_are_counted_and_stamped(tmp_path, kit, run, caplog, lines_of):
    hidden = kit.annotations(tmp_path, "genre", SIZES)
    kept = {movie: kind for movie, kind in hidden.items() if movie not in ("test0000003", "train0000001")}
    store = kit.events(tmp_path / "events", kept)
    with caplog.at_level(logging.WARNING):
        run(store, tmp_path / "run", "genre", "--trainer.max_epochs=1")
    assert "genre test: 1 of 12 movies have no features in" in caplog.text and "test0000003" in caplog.text
    line = lines_of(tmp_path / "run")["backbone", "top1"]
    assert (line.n, line.of) == (11, 12)
    with (tmp_path / "run" / "predictions" / "test.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 11


def test_a_split_without_features_is_one_clear_line(tmp_path, kit):
    hidden = kit.annotations(tmp_path, "genre", SIZES)
    store = kit.events(tmp_path / "events", {m: k for m, k in hidden.items() if not m.startswith("val")})
    data = LvuData(str(tmp_path), "genre", str(store))
    with pytest.raises(MissingDataError, match=r"features of genre's val split \(0 of 10 movies\) not found at"):
        data.setup()


def test_an_empty_class_is_named(tmp_path, kit, caplog):
    hidden = kit.annotations(tmp_path, "genre", SIZES)
    kept = {m: k for m, k in hidden.items() if not (m.startswith("train") and k == 1)}
    data = LvuData(str(tmp_path), "genre", str(kit.events(tmp_path / "events", kept)))
    with caplog.at_level(logging.WARNING):
        data.setup()
    assert "genre: class 1 (name1) has no training movie: it cannot be learned" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "gener"}, "no LVU task is called 'gener': did you mean genre"),
        ({"events": None}, "needs events or instances"),
    ],
)
def test_wrong_arguments_are_one_clear_line(change, said):
    with pytest.raises(KuleshovError, match=said):
        LvuData(**{"annotations": "nowhere", "task": "genre", "events": "nowhere", **change})


def test_pooling_equals_one_span_after_the_other():
    torch.manual_seed(0)
    events = torch.randn(3, 9, 4)
    movie, first, count = torch.tensor([[0, 0, 1, 2, 2], [0, 4, 2, 0, 8], [5, 5, 7, 1, 1]])
    turn = torch.tensor([0, 1, 0, 0, 1])
    batch = {"movie": movie, "turn": turn, "event_first": first, "event_count": count}
    mean, attention = SpanPool(4, "mean"), SpanPool(4, "attention")
    for s in range(5):
        inside = events[movie[s], first[s] : first[s] + count[s]]
        weights = torch.softmax(attention.score(inside)[:, 0], 0)
        torch.testing.assert_close(mean(events, batch)[s], inside.mean(0))
        torch.testing.assert_close(attention(events, batch)[s], weights @ inside)


def test_a_slice_with_its_margin_has_the_context_of_the_whole_movie(tmp_path, kit):
    hidden = kit.annotations(tmp_path, "genre", {"train": 2, "val": 1, "test": 1})
    store = kit.events(tmp_path / "events", hidden, length=lambda n: 150, stride=1.0)
    data = LvuData(str(tmp_path), "genre", str(store))
    data.setup()
    contextualizer = Contextualizer("scratch", kit.width, hidden=8, layers=2, heads=2, feedforward=8).eval()
    data.margin = 8
    movie = data.movies["train"][0]
    whole = data._maker()(movie, movie.ends, None, False)
    assert len(movie.ends) == 91 and len(whole["events"]) == 150
    with torch.no_grad():
        full = contextualizer.contextualize_padded(whole["events"][None], torch.tensor([150]), step=2)[0]
        for end in (movie.ends[0], movie.ends[40], movie.ends[-1]):
            part = data._maker()(movie, np.array([end]), None, False)
            length = torch.tensor([len(part["events"])])
            got = contextualizer.contextualize_padded(part["events"][None], length, step=2)[0]
            first, count = int(part["event_first"][0]), int(part["event_count"][0])
            assert count == 60 or end == movie.ends[-1]
            start = movie.event_seconds.tolist().index(end - 59)
            torch.testing.assert_close(got[first : first + count], full[start : start + count])


def test_padding_does_not_change_the_context(kit):
    contextualizer = Contextualizer("scratch", 6, hidden=8, layers=1, heads=2, feedforward=8).eval()
    events = torch.randn(3, 11, 6)
    length = torch.tensor([11, 4, 7])
    for windows in ("sliding", "blocks"):
        with torch.no_grad():
            batch = contextualizer.contextualize_padded(events, length, windows)
            for b in range(3):
                size = int(length[b])
                alone = contextualizer.contextualize_padded(events[b : b + 1, :size], length[b : b + 1], windows)
                torch.testing.assert_close(batch[b, :size], alone[0])
                assert not batch[b, size:].any()


def test_blocks_are_the_contextualizer_on_neighbors():
    contextualizer = Contextualizer("scratch", 6, hidden=8, layers=1, heads=2, feedforward=8).eval()
    events = torch.randn(1, 12, 6)
    with torch.no_grad():
        out = contextualizer.contextualize_long(events, 1, "blocks")
        torch.testing.assert_close(out[:, :5], contextualizer(events[:, :5]))
        torch.testing.assert_close(out[:, 7:], contextualizer(events[:, 7:]))
        paced = contextualizer.contextualize_long(events[:, :10], 2, "blocks")
        torch.testing.assert_close(paced[:, 1::2], contextualizer(events[:, 1:10:2]))
