"""Verbs from event features: head, loss, data, and the YAML files through the command line."""

import pytest
import torch
from torch.nn import functional as F

from kuleshov.core.errors import MissingDataError
from kuleshov.tasks.evaluate_vidsitu import evaluate_vidsitu
from kuleshov.tasks.verbs import VerbData, VerbHead, read_offscreen, split_accuracy, verb_loss
from kuleshov.training.lightning_cli import main


def test_head_is_the_official_one():
    head = VerbHead(8, 5)
    assert [tuple(p.shape) for p in head.parameters()] == [(4, 8), (4,), (5, 4), (5,)]
    assert head(torch.randn(2, 5, 8)).shape == (2, 5, 5)


def test_loss_is_the_mean_over_known_verbs():
    scores, verbs = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    verbs[0, 1] = verbs[1, 4] = -1
    plain = [-scores[b, n].log_softmax(-1)[verbs[b, n]] for b in range(2) for n in range(5) if verbs[b, n] >= 0]
    assert float(verb_loss(scores, verbs)) == pytest.approx(float(sum(plain) / 8), abs=1e-6)
    assert float(verb_loss(scores, torch.full((2, 5), -1))) == 0.0
    assert float(verb_loss(scores, verbs.clamp(min=0))) == pytest.approx(
        float(F.cross_entropy(scores.flatten(0, 1), verbs.clamp(min=0).flatten())), abs=1e-6
    )


def test_accuracy_off_and_on_screen():
    predicted = {"s": [["a"], ["b"], ["c"], ["d"], ["e"]], "t": [["a"]] * 5, "u": [["a"]] * 5}
    annotated = {"s": [["a"], ["x"], ["c"], ["x"], ["e"]], "t": [["a"]] * 5, "u": [["x"]] * 5}
    offscreen = {"s": [True, True, False, False, False], "t": [False] * 5}
    found = split_accuracy(predicted, annotated, offscreen)
    assert found["acc1_offscreen"] == (50.0, 1)
    assert found["acc1_onscreen"] == (pytest.approx(100 * 7 / 8), 2)
    assert split_accuracy(predicted, annotated, {}) == {}


@pytest.mark.parametrize(("unknown", "label"), [("ignore", -1), ("class", 5)])
def test_verbs_outside_the_vocabulary_are_ignored_or_a_class(small_vidsitu, tmp_path, monkeypatch, unknown, label):
    root, vocabulary = small_vidsitu, ["push.01", "fall.01", "jump.03", "wave.04", "hug.01"]
    monkeypatch.setattr("kuleshov.datasets.vidsitu.VidSitu.vocabulary", lambda self: vocabulary)
    stores = {"annotations": str(root / "vidsitu"), "events": str(root / "store")}
    data = VerbData(**stores, unknown_verbs=unknown)
    data.setup("fit")
    given = [event[0] for name in data.train_ids for event in data.annotations.verbs("train")[name]]
    found = data.train_rows.tensors["verbs"].flatten().tolist()
    assert found == [vocabulary.index(verb) if verb in vocabulary else label for verb in given] and label in found
    assert data.verbs == [*vocabulary, *(["<unk>"] if unknown == "class" else [])]


def test_offscreen_flags_are_found_beside_the_annotations(small_vidsitu, tmp_path):
    assert len(read_offscreen(small_vidsitu / "vidsitu", None)) == 24 + 13
    assert read_offscreen(tmp_path, None) == {}
    with pytest.raises(MissingDataError, match="off-screen flags not found at .*none.json"):
        read_offscreen(tmp_path, "none.json")


def test_a_training_learns_and_its_file_scores_the_same(words, small_vidsitu, tmp_path, lines_of):
    more = ("--seed_everything=5", "--data.init_args.batch_size=8", "--model.init_args.lr=0.02")
    main(words("verbs", tmp_path, *more))
    lines = lines_of(tmp_path)
    ours = lines["backbone", "Acc@1"]
    assert ours.value > 80 > lines["trivial", "Acc@1"].value
    assert (ours.seed, ours.n, ours.of) == (5, 13, 13) and "val/Acc@1" in ours.selection
    assert lines["backbone", "acc1_offscreen"].value > 80 > lines["trivial", "acc1_offscreen"].value > 0
    assert lines["trivial", "acc1_offscreen"].n == lines["backbone", "acc1_offscreen"].n
    report = evaluate_vidsitu("verbs", small_vidsitu / "vidsitu", tmp_path / "predictions/valid.json")
    assert report.metrics["Acc@1"] == ours.value
    assert report.sample_ids_sha256 == ours.sample_ids_sha256
