"""Verbs from event features: head, loss, data, and the YAML files through the command line."""

import json

import pytest
import torch
from torch.nn import functional as F

from kuleshov.core.errors import KuleshovError, MissingDataError, StoreError
from kuleshov.core.results import read_results
from kuleshov.tasks.evaluate_vidsitu import evaluate
from kuleshov.tasks.segment_data import EpochOrder, spread
from kuleshov.tasks.verbs.data import VerbData
from kuleshov.tasks.verbs.model import VerbHead, ranked_verbs, verb_loss
from kuleshov.tasks.verbs.offscreen import read_offscreen, split_accuracy
from kuleshov.training.lightning_cli import main

BASE, DEMO = "configs/train-verbs/verbs.yaml", "configs/train-verbs/verbs.demo.yaml"


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


def test_verbs_are_ranked():
    scores = torch.tensor([[[0.1, 3.0, 2.0]]])
    assert ranked_verbs(scores, ["a", "b", "c"]) == [[["b", "c", "a"]]]
    assert ranked_verbs(scores, ["a", "b", "c"], 2) == [[["b", "c"]]]


def test_order_is_drawn_from_seed_and_epoch_alone():
    order = EpochOrder(10, seed=3, shuffle=True)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    order.set_epoch(0)
    assert sorted(first) == sorted(second) == list(range(10)) and first != second and list(order) == first
    assert list(EpochOrder(4, seed=3, shuffle=False)) == [0, 1, 2, 3]


def test_ranks_share_one_order(monkeypatch):
    whole = list(EpochOrder(10, seed=3, shuffle=True))
    shares = []
    for rank in range(4):
        monkeypatch.setattr("kuleshov.tasks.segment_data.world_size", lambda: 4)
        monkeypatch.setattr("kuleshov.tasks.segment_data.rank", lambda rank=rank: rank)
        shares.append(list(EpochOrder(10, seed=3, shuffle=True)))
    together = [shares[i % 4][i // 4] for i in range(12)]
    assert together == whole + whole[:2]


def test_segments_are_spread_evenly():
    assert spread("abcdefgh", 4) == ["a", "c", "e", "g"]
    assert spread("abc", None) == spread("abc", 9) == ["a", "b", "c"]
    with pytest.raises(KuleshovError, match="at least one segment is needed, 0 were asked for"):
        spread("abc", 0)


def test_accuracy_off_and_on_screen():
    predicted = {"s": [["a"], ["b"], ["c"], ["d"], ["e"]], "t": [["a"]] * 5, "u": [["a"]] * 5}
    annotated = {"s": [["a"], ["x"], ["c"], ["x"], ["e"]], "t": [["a"]] * 5, "u": [["x"]] * 5}
    offscreen = {"s": [True, True, False, False, False], "t": [False] * 5}
    found = split_accuracy(predicted, annotated, offscreen)
    assert found["acc1_offscreen"] == (50.0, 1)
    assert found["acc1_onscreen"] == (pytest.approx(100 * 7 / 8), 2)
    assert split_accuracy(predicted, annotated, {}) == {}


def test_offscreen_flags_are_found_beside_the_annotations(small_vidsitu, tmp_path):
    assert len(read_offscreen(small_vidsitu / "vidsitu", None)) == 24 + 13
    assert read_offscreen(tmp_path, None) == {}
    with pytest.raises(MissingDataError, match="off-screen flags not found at .*none.json"):
        read_offscreen(tmp_path, "none.json")


def test_data_has_features_and_the_first_annotators_verbs(small_vidsitu):
    data = VerbData(
        annotations=str(small_vidsitu / "vidsitu"), store=str(small_vidsitu / "store"), batch_size=7, train_segments=20
    )
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert [batch["events"].shape for batch in batches] == [(7, 5, 16)] * 2
    truth = data.annotations.verbs("train")
    for name, verbs in zip(data.train_ids, data.train_rows.tensors["verbs"].tolist(), strict=True):
        assert [data.verbs[v] for v in verbs] == [event[0] for event in truth[name]]
    places = torch.cat([batch["place"] for batch in data.test_dataloader()])
    assert places.tolist() == list(range(13))


def test_missing_features_are_counted(small_vidsitu, tmp_path):
    root = small_vidsitu / "vidsitu"
    names = json.loads((root / "split_files/vseg_split_valid_lb.json").read_text())
    (tmp_path / "more.json").write_text(json.dumps([*names, "v_abcdefghijk_seg_0_10"]))
    options = {
        "annotations": str(root),
        "store": str(small_vidsitu / "store"),
        "split_file": str(tmp_path / "more.json"),
    }
    with pytest.raises(StoreError, match="1 of 14 segments are not in"):
        VerbData(**options).setup("fit")
    data = VerbData(**options, allow_missing=True)
    data.setup("fit")
    assert len(data.test_ids) == 13 and len(data.split_ids) == 14


def arguments(root, run, *more):
    return [
        "fit",
        "-c",
        BASE,
        "-c",
        DEMO,
        f"--data.init_args.annotations={root}/vidsitu",
        f"--data.init_args.store={root}/store",
        f"--trainer.default_root_dir={run}",
        *more,
    ]


@pytest.mark.parametrize("context", ["none", "scratch"])
def test_the_yamls_run_through_the_command_line(small_vidsitu, tmp_path, context):
    more = ("--trainer.fast_dev_run=true", f"--model.init_args.context={context}")
    assert main(arguments(small_vidsitu, tmp_path, *more)).trainer.state.finished


def test_a_training_learns_and_its_file_scores_the_same(small_vidsitu, tmp_path):
    main(
        arguments(
            small_vidsitu, tmp_path, "--seed_everything=5", "--data.init_args.batch_size=8", "--model.init_args.lr=0.02"
        )
    )
    lines = {(line.row, line.metric): line for line in read_results(tmp_path / "results.jsonl")}
    ours = lines["backbone", "Acc@1"]
    assert ours.value > 80 > lines["trivial", "Acc@1"].value
    assert (ours.seed, ours.n, ours.of, ours.selection) == (5, 13, 13, "epoch with best val/Acc@1 on valid")
    assert lines["backbone", "acc1_offscreen"].value > 80 > lines["trivial", "acc1_offscreen"].value > 0
    assert lines["trivial", "acc1_offscreen"].n == lines["backbone", "acc1_offscreen"].n
    report = evaluate("verbs", tmp_path / "predictions/valid.json", small_vidsitu / "vidsitu")
    assert report["metrics"]["Acc@1"] == ours.value
    assert report["sample_ids_sha256"] == ours.sample_ids_sha256
