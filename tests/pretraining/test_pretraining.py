"""Pretraining as a whole: exports, two phases, resuming, the probe, broken videos, wrong arguments."""

import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file

from kuleshov import backbones
from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.plugins import TRUST
from kuleshov.core.results import read_results
from kuleshov.pretraining.clip_data import ClipPairs
from kuleshov.pretraining.cvrl import CVRL
from kuleshov.pretraining.modist import MoDist
from kuleshov.pretraining.supervised import Supervised
from kuleshov.training.lightning_cli import main

METHODS = ("cvrl", "modist", "supervised")
NARROW = {"hidden_width": 16, "embedding_width": 8}


def net(name: str, width: int) -> dict:
    return {"class_path": name, "init_args": {"width": width}}


@pytest.mark.parametrize("method", METHODS)
def test_exports_and_a_second_phase(fit, tmp_path, method):
    fit(method, trainer__max_epochs=1)
    path = tmp_path / "run" / "weights" / "backbone.safetensors"
    network = backbones.load_backbone(path)
    manifest = network.manifest
    assert manifest["class_path"].endswith(".slow_d_r50") and (manifest["method"], manifest["epochs"]) == (method, 1)
    assert (network.clip.num_frames, network.clip.crop_size, network.clip.frame_rate) == (4, 32, 8)
    assert network.clip.mean[0] == (0 if method == "cvrl" else 0.45)
    assert manifest["data"]["n"] > 4
    if method == "supervised":
        assert backbones.load_classifier(path)(torch.zeros(1, 3, 4, 32, 32)).shape == (1, 16)
    if method == "modist":
        motion = backbones.load_backbone(path.with_name("motion.safetensors"))
        assert motion.manifest["class_path"].endswith(".motion_2d") and motion.clip.mean == (0, 0, 0)
    second = {"trainer__default_root_dir": tmp_path / "second", "model__init_args__backbone_weights": path}
    fit(method, trainer__max_epochs=1, **second)
    again = backbones.load_backbone(tmp_path / "second" / "weights" / "backbone.safetensors")
    assert again.manifest["started_from"] == str(path)
    key = "s5.pathway0_res2.branch2.c.weight"
    assert not torch.equal(again.state_dict()[key], network.state_dict()[key])


# worker processes draw ahead, before the epoch's hooks
@pytest.mark.parametrize(("method", "workers"), [*((method, 0) for method in METHODS), ("cvrl", 1)])
def test_a_resumed_training_equals_the_uninterrupted_one(fit, tmp_path, method, workers):
    saving = "pytorch_lightning.callbacks.ModelCheckpoint"
    # every run keeps its last epoch; the second of three is kept here as well
    second = {"every_n_epochs": 2, "save_on_train_epoch_end": True}
    kept = {"class_path": saving, "init_args": second}
    callbacks = json.dumps([kept])
    options = {"probe": False, "trainer__max_epochs": 3, "trainer__limit_train_batches": 2}
    options["data__init_args__num_workers"] = workers
    whole = fit(method, **options, trainer__callbacks=callbacks, trainer__default_root_dir=tmp_path / "a")
    first = next((tmp_path / "a" / "checkpoints").glob("epoch=1-*.ckpt"))
    resumed = fit(method, **options, trainer__default_root_dir=tmp_path / "b", ckpt_path=first)
    assert resumed.trainer.global_step == whole.trainer.global_step == 6
    state = resumed.model.state_dict()
    assert state.keys() == whole.model.state_dict().keys()
    for key, value in whole.model.state_dict().items():
        if isinstance(value, dict):
            assert int(value["fill"]) == 10 and all(torch.equal(part, state[key][name]) for name, part in value.items())
        else:
            assert torch.equal(value, state[key]), key


def test_computing_activations_again_changes_nothing(fit, tmp_path):
    states = []
    for stages in (0, 2):
        options = {"model__init_args__recompute_stages": stages, "trainer__limit_train_batches": 2}
        folder = tmp_path / str(stages)
        cli = fit("cvrl", probe=False, trainer__max_epochs=1, trainer__default_root_dir=folder, **options)
        states.append(cli.model.state_dict())
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


def test_probe_and_results(fit, tmp_path, tiny_world):
    cli = fit("cvrl", trainer__max_epochs=1, trainer__check_val_every_n_epoch=1)
    assert 0 <= float(cli.trainer.callback_metrics["val/knn_top1"]) <= 1
    results = {result.row: result for result in read_results(tmp_path / "run" / "results.jsonl")}
    assert set(results) == {"cvrl", "trivial"}
    listed = (tiny_world / "kinetics" / "val.csv").read_text().splitlines()
    assert results["cvrl"].n == results["cvrl"].of == min(8, len(listed))
    assert cli.trainer.callback_metrics["perf/samples_per_s"] > 0
    tags = set(cli.trainer.callback_metrics)
    assert {"train/loss", "ssl/alignment", "ssl/uniformity", "ssl/embed_std", "ssl/eff_rank"} <= tags
    assert {"ssl/contrast_top1", "data/wait_s", "val/knn_top1"} <= tags


ANY = """
from torch import nn
from kuleshov.backbones import ClipFormat

class Tiny(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.feature_width, self.clip = width, ClipFormat(4, 2, 8.0, 32, 32)
        convolution = nn.Conv3d(3, width, (1, 4, 4), stride=(1, 4, 4))
        self.layers = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool3d(1))

    def forward(self, clips):
        return self.layers(clips).flatten(1)
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_backbone_of_somebody_else_by_yaml_alone(fit, tmp_path, monkeypatch, method):
    (tmp_path / "any_nets.py").write_text(ANY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUST, "any_nets")
    spec = "{class_path: any_nets.Tiny, init_args: {width: 5}}"
    fit(method, trainer__max_epochs=1, model__init_args__backbone=spec)
    network = backbones.load_backbone(tmp_path / "run" / "weights" / "backbone.safetensors")
    assert type(network).__name__ == "Tiny" and network.feature_width == 5
    # the run's own configuration is enough to go on with it
    words = ["predict", "-c", str(tmp_path / "run" / "config.yaml")]
    cli = main(words)
    features = load_file(tmp_path / "run" / "predictions" / "features.safetensors")
    assert set(features) == {video.id for video in cli.datamodule.videos}
    clips = next(iter(cli.datamodule.predict_dataloader()))
    expected = network(network.clip.normalize(clips["clip"]))
    for place, row in zip(clips["index"].tolist(), expected, strict=True):
        torch.testing.assert_close(features[cli.datamodule.videos[place].id], row)
    with pytest.raises(KuleshovError, match="Tiny does not take clips of 4 frames of 2 pixels"):
        fit(method, model__init_args__backbone=spec, data__init_args__crop_size=2)


def test_a_hugging_face_model_learns(fit, tmp_path):
    transformers = pytest.importorskip("transformers", reason="pip install 'kuleshov[hf]'")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.VideoMAEConfig(**sizes, image_size=32, patch_size=16, num_frames=4)
    transformers.VideoMAEModel(config).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "preprocessor_config.json").write_text("{}")
    spec = json.dumps({"class_path": "huggingface", "init_args": {"model": str(tmp_path / "model")}})
    fit("supervised", trainer__max_epochs=1, model__init_args__backbone=spec)
    network = backbones.load_backbone(tmp_path / "run" / "weights" / "backbone.safetensors")
    assert network.feature_width == 16 and network.manifest["method"] == "supervised"


@pytest.mark.parametrize(
    ("kind", "folder", "split"),
    [("vidsitu", "vidsitu", "train"), ("lvu", "lvu", "train"), ("folder", "lvu/videos", "")],
)
def test_any_data_set_without_labels(fit, tiny_world, kind, folder, split):
    options = {"data__init_args__videos": tiny_world / folder, "data__init_args__kind": kind}
    if split:
        options["data__init_args__split"] = split
    cli = fit("cvrl", probe=False, trainer__fast_dev_run="true", data__init_args__batch_size=2, **options)
    assert cli.datamodule.describe()["n"] >= 2


def broken_copy(world, folder, every):
    """The world's clips with every n-th one cut to rubbish, and a list of them."""
    shutil.copytree(world / "kinetics" / "clips", folder / "clips")
    lines = (world / "kinetics" / "train.csv").read_text().splitlines()
    for line in lines[::every]:
        (folder / line.split()[0]).write_bytes(b"not a video")
    (folder / "train.csv").write_text("".join(f"{line}\n" for line in lines))
    return folder / "train.csv"


def test_few_broken_videos_are_set_aside(fit, tiny_world, tmp_path):
    listed = broken_copy(tiny_world, tmp_path, 10)
    fit("cvrl", probe=False, trainer__max_epochs=2, data__init_args__videos=listed)
    named = (tmp_path / "run" / "bad_files.jsonl").read_text()
    assert "not a video" not in named and "clips/" in named


def test_many_broken_videos_stop_the_training(fit, tiny_world, tmp_path):
    listed = broken_copy(tiny_world, tmp_path, 2)
    with pytest.raises(KuleshovError, match="videos cannot be read: .* more than 20% is refused"):
        fit("cvrl", probe=False, trainer__max_epochs=2, data__init_args__videos=listed)


@pytest.mark.parametrize("method", METHODS)
def test_twenty_steps_lower_the_loss(method):
    torch.manual_seed(0)
    # four videos that differ in color and in motion, two clips each
    color = torch.rand(4, 3, 1, 1, 1)
    clips = [(color + 0.3 * torch.rand(4, 3, 4, 32, 32)).clamp(0, 1) for _ in range(4)]
    batch = dict(zip(("clip_a", "clip_b", "motion_a", "motion_b"), clips, strict=True))
    if method == "supervised":
        module = Supervised(backbone=net("slow_d_r50", 2), classes=4, dropout=0.0)
    elif method == "cvrl":
        module = CVRL(backbone=net("slow_d_r50", 2), **NARROW)
    else:
        networks = {"backbone": net("slow_d_r50", 2), "motion_backbone": net("motion_2d", 2)}
        module = MoDist(**networks, **NARROW, queue_size=16)

    def loss():
        if method == "modist":
            return module.loss(batch)[0]
        other = torch.arange(4) if method == "supervised" else batch["clip_b"]
        return module.loss(batch["clip_a"], other)[0]

    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.02, momentum=0.9)
    losses = []
    for _ in range(24):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    # MoDist's queue fills in the first steps, which makes its task harder
    assert min(losses[-4:]) < 0.9 * losses[4], losses


def test_motion_of_the_same_moment_is_that_of_the_visual_query():
    torch.manual_seed(0)
    batch = {name: torch.rand(2, 3, 4, 32, 32) for name in ("clip_a", "clip_b", "motion_a", "motion_b")}
    networks = {"backbone": net("slow_d_r50", 2), "motion_backbone": net("motion_2d", 2)}
    other = MoDist(**networks, **NARROW, queue_size=16, batch_negatives=True).train()
    same = MoDist(**networks, **NARROW, queue_size=16, batch_negatives=True, motion_of="same").train()
    same.load_state_dict(other.state_dict())
    swapped = {**batch, "motion_a": batch["motion_b"], "motion_b": batch["motion_a"]}
    found, expected = same.loss(batch)[1], other.loss(swapped)[1]
    assert {name: float(value) for name, value in found.items()} == {k: float(v) for k, v in expected.items()}
    assert float(found["visual_motion"]) != float(other.loss(batch)[1]["visual_motion"])


def test_an_alarm_where_nothing_is_learned(fit):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit("cvrl", probe=False, trainer__max_epochs=1, model__init_args__lr=0, model__init_args__warmup_epochs=0)
    assert any("cvrl, epoch 0: the representation" in str(warning.message) for warning in caught)


def test_fewer_videos_than_a_batch_are_a_batch(tiny_world, caplog):
    data = ClipPairs(str(tiny_world / "kinetics" / "train.csv"), batch_size=4096, crop_size=32)
    data.setup("fit")
    assert data.batch_size == len(data.videos) == len(data.train_dataloader().batch_sampler.sampler)
    assert f"{len(data.videos)} videos are fewer than a batch of 4096: batches of {len(data.videos)}" in caplog.text


def test_wrong_arguments_are_named(fit, tmp_path, tiny_world):
    path = tmp_path / "w.safetensors"
    backbones.save_backbone(path, backbones.build_backbone(net("slow_r50", 2)))
    with pytest.raises(WeightsError, match=r"w.safetensors \(slow_r50, width 2\) does not fit ResNet3d"):
        CVRL(backbone=net("slow_d_r50", 4), backbone_weights=str(path))
    with pytest.raises(KuleshovError, match="one above 0, got .*'visual_weight': 0"):
        MoDist(visual_weight=0, cross_weight=0)
    with pytest.raises(KuleshovError, match="at least 2 classes, got 1"):
        Supervised(backbone=net("slow_d_r50", 1), classes=1)
    with pytest.raises(KuleshovError, match="needs both probe_bank and probe_queries"):
        ClipPairs("train.csv", probe_bank="train.csv")
    with pytest.raises(KuleshovError, match="label [0-9]+ is outside of the 4 classes"):
        fit("supervised", model__init_args__classes=4, trainer__max_epochs=1, probe=False)
    with pytest.raises(KuleshovError, match="list of videos not found at .*nowhere.csv"):
        fit("cvrl", data__init_args__videos=tmp_path / "nowhere.csv")
