"""Probes of frozen features: the closed form against plain fits, groups, untrained networks, the command."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from kuleshov.backbones import build_backbone, load_backbone, save_backbone
from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError
from kuleshov.core.results import read_results
from kuleshov.pretraining.probes import LabeledFeatures, fit_linear, probe_scores, untrained
from kuleshov.pretraining.probing import class_groups, probe_command
from kuleshov.video.clip_format import ClipFormat

CLIP = ClipFormat(4, 2, 8.0, 32, 32)
SMALL = {"class_path": "slow_d_r50", "init_args": {"width": 2}}
COLORS = """
from torch import nn
from kuleshov.backbones import ClipFormat

class Colors(nn.Module):
    feature_width, clip = 3, ClipFormat(4, 2, 8.0, 32, 32)

    def forward(self, clips):
        return clips.mean(dim=(2, 3, 4))
"""


def clouds(count: int, width: int = 6, noise: float = 1.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return 3 * F.one_hot(labels, width) + noise * torch.randn(count, width, generator=generator), labels


def test_the_linear_probe_is_the_ridge_that_a_solver_finds():
    features, labels = clouds(30)
    probe = fit_linear(features, labels, (0.01,))
    x = (features - features.mean(0)) / features.std(0)
    system = torch.cat([x, torch.ones(30, 1)], 1).double()
    penalty = torch.diag(torch.tensor([0.3] * 6 + [0.0]).double())
    solved = torch.linalg.solve(system.T @ system + penalty, system.T @ F.one_hot(labels, 3).double())
    torch.testing.assert_close(probe.weight, solved[:-1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(probe.bias, solved[-1], rtol=1e-4, atol=1e-6)


def test_leaving_one_out_equals_fitting_without_it():
    features, labels = clouds(24, noise=2.5)
    probe = fit_linear(features, labels, (0.1,))
    x = (features.double() - probe.mean) / probe.scale
    hits = 0
    for place in range(24):
        rest = [other for other in range(24) if other != place]
        system = torch.cat([x[rest], torch.ones(23, 1)], 1)
        penalty = torch.diag(torch.tensor([2.4] * 6 + [0.0]).double())
        solved = torch.linalg.solve(system.T @ system + penalty, system.T @ F.one_hot(labels[rest], 3).double())
        hits += int((torch.cat([x[place], torch.ones(1)]) @ solved).argmax() == labels[place])
    assert probe.accuracy == pytest.approx(hits / 24)


def test_the_strength_is_chosen_by_what_is_left_out():
    features, labels = clouds(20, width=40, noise=3.0)
    chosen = fit_linear(features, labels, (1e-6, 1e-2, 1.0))
    each = {strength: fit_linear(features, labels, (strength,)).accuracy for strength in (1e-6, 1e-2, 1.0)}
    assert chosen.accuracy == max(each.values()) == each[chosen.strength]
    with pytest.raises(KuleshovError, match="needs labeled features, got 1 and 1 labels"):
        fit_linear(features[:1], labels[:1])


def test_a_unit_that_never_changes_says_nothing():
    features, labels = clouds(30)
    features = torch.cat([features, torch.full((30, 1), 5.0)], 1)
    probe = fit_linear(features, labels)
    assert probe.predict(features).shape == (30,) and probe.weight.isfinite().all()
    moved = features.clone()
    moved[:, -1] = -100
    assert torch.equal(probe.predict(moved), probe.predict(features))


def test_groups_choose_queries_and_not_the_bank():
    features, labels = clouds(60, noise=0.1)
    bank = LabeledFeatures(features, torch.zeros_like(features), labels, [f"b{i}" for i in range(60)])
    queries = LabeledFeatures(features[:9], torch.zeros(9, 6), labels[:9], [f"q{i}" for i in range(9)])
    lines = {(one.task, one.row): one for one in probe_scores(bank, queries, {"last": [2]}, 5)}
    assert lines["linear probe", ""].value == lines["k-NN last", ""].value == 100
    assert (lines["k-NN", ""].n, lines["k-NN last", ""].n) == (9, 3)
    assert lines["linear probe, still frames", ""].value == pytest.approx(100 / 3)
    assert lines["linear probe", "trivial"].value == pytest.approx(100 / 3)
    assert lines["linear probe last", "trivial"].value == 0


def test_groups_are_read(tmp_path):
    names = tmp_path / "classes.txt"
    names.write_text("fall (descend)\nrun (fast)\n")
    assert class_groups(["moving=run,0"], names) == {"moving": [1, 0]}
    with pytest.raises(KuleshovError, match=r"is NAME=LABEL,LABEL,.. not 'run'"):
        class_groups(["run"])
    with pytest.raises(KuleshovError, match=r"no class 'walk' \(known: fall, run\)"):
        class_groups(["moving=walk"], names)
    with pytest.raises(MissingDataError, match="check --classes"):
        class_groups([], tmp_path / "none")
    names.write_bytes(b"\xff\n")
    with pytest.raises(FormatError, match="classes.txt: not UTF-8 text"):
        class_groups(["moving=0"], names)


def test_an_untrained_network_is_seeded_and_reads_the_same_clips(tmp_path):
    save_backbone(tmp_path / "w.safetensors", build_backbone(SMALL), CLIP)
    network = load_backbone(tmp_path / "w.safetensors")
    first, again, other = (untrained(network, "default", seed) for seed in (3, 3, 4))
    assert first.clip == CLIP and first.spec["class_path"] == network.spec["class_path"]
    key = "s5.pathway0_res2.branch2.c.weight"
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])
    gamma = "s5.pathway0_res2.branch2.c_bn.weight"
    assert not untrained(network, "zero-gamma", 3).state_dict()[gamma].any() and first.state_dict()[gamma].all()


@pytest.mark.parametrize("kind", [None, "default"])
def test_the_command_scores_and_writes(tiny_world: Path, tmp_path, kind):
    save_backbone(tmp_path / "w.safetensors", build_backbone(SMALL), CLIP, method="cvrl")
    lists, results = tiny_world / "kinetics", tmp_path / "results.jsonl"
    options = {"limit": 8, "batch_size": 4, "accelerator": "cpu", "seed": 2, "untrained": kind, "output": results}
    options |= {"classes": lists / "classes.txt", "group": ["motion=chase,enter,leave,push"]}
    lists = (lists / "train.csv", lists / "val.csv")
    found = probe_command(*lists, weights=tmp_path / "w.safetensors", **options)
    written = {(one.task, one.row): one for one in read_results(results)}
    assert json.loads(json.dumps(found.to_dict())) and len(found.to_dict()) == len(written)
    row = "random default" if kind else "cvrl"
    line = written["linear probe", row]
    assert (line.n, line.seed, line.metric) == (8, 2, "top1") and 0 <= line.value <= 100
    assert written["k-NN", "trivial"].sample_ids_sha256 == line.sample_ids_sha256
    assert f"{row:<20}linear probe" in str(found)


def test_the_command_takes_any_backbone(tiny_world: Path, tmp_path, monkeypatch):
    (tmp_path / "color_nets.py").write_text(COLORS)
    monkeypatch.syspath_prepend(tmp_path)
    lists = [tiny_world / "kinetics" / name for name in ("train.csv", "val.csv")]
    spec = tmp_path / "colors.yaml"
    spec.write_text("class_path: color_nets.Colors")
    for kind in (None, "default"):
        scores = probe_command(*lists, backbone=str(spec), untrained=kind, limit=6, accelerator="cpu", row="colors")
        assert {one.row for one in scores.results} == {"colors", "trivial"}
    with pytest.raises(KuleshovError, match="Colors has no zero_init_final_gamma: use --untrained default"):
        probe_command(*lists, backbone=str(spec), untrained="zero-gamma", limit=6)
