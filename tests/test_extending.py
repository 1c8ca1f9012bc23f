"""Extending from outside: a backbone, a Hugging Face model and a task of one's own, by the command line alone."""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from kuleshov.cli import main
from kuleshov.core.errors import KuleshovError
from kuleshov.core.plugins import TRUST, trust
from kuleshov.core.results import read_results
from kuleshov.features.feature_store import EventStore
from kuleshov.tasks.event_task import load_task

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
EXAMPLE = ROOT / "examples" / "scene_boundaries"

NETS = """
from torch import nn
from kuleshov.backbones import ClipFormat

class Tiny(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.feature_width, self.clip = width, ClipFormat(4, 4, 8.0, 32, 32)
        convolution = nn.Conv3d(3, width, (1, 4, 4), stride=(1, 4, 4))
        self.layers = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool3d(1))

    def forward(self, clips):
        return self.layers(clips).flatten(1)
"""
TINY = {"class_path": "tiny_nets.Tiny", "init_args": {"width": 6}}
CLIPS = {"num_frames": 4, "frame_stride": 4, "frame_rate": 8.0, "crop_size": 32, "short_side": 32}
CLIPS |= {"batch_size": 8, "num_workers": 0}
TXE = {"hidden": 16, "layers": 1, "heads": 2, "feedforward": 16}
TRAINER = {"max_epochs": 1, "accelerator": "cpu", "check_val_every_n_epoch": 1}
METHODS = {
    "supervised": {"classes": 16, "lr": 0.01, "warmup_epochs": 0},
    "cvrl": {"hidden_width": 16, "hidden_layers": 1, "embedding_width": 8, "lr": 0.01, "warmup_epochs": 0},
}


def configuration(model: dict | None = None, data: dict | None = None, **trainer) -> dict:
    trainer = {**TRAINER, **trainer}
    return {"model": {"init_args": model or {}}, "data": {"init_args": data or {}}, "trainer": trainer}


@pytest.fixture
def kuleshov(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`kuleshov WORDS` as its console script runs it in an own folder, which is not on Python's path before."""
    (tmp_path / "tiny_nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kuleshov"])

    def run(*words: str | Path, path: Path | None = None) -> int:
        monkeypatch.setenv(TRUST, "")
        if path is not None:
            monkeypatch.chdir(path)
        monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
        return main([str(word) for word in words])

    yield run
    for name in ("tiny_nets", "scene_boundaries"):
        sys.modules.pop(name, None)


def write(path: str, content: dict) -> str:
    Path(path).write_text(yaml.safe_dump(content))
    return path


def three_levels(kuleshov: Callable[..., int], world: Path, backbone: dict) -> None:
    """extract -> pretrain-txe -> train-verbs in the working directory, each by its YAML alone."""
    data = {"data": "vidsitu", "root": str(world / "vidsitu")}
    assert not kuleshov(
        "extract", "--config", write("extract.yaml", {"backbone": backbone, **data, "output": "store", "stride": 2})
    )
    windows = {"stores": ["store"], "batch_size": 8, "val_fraction": 0.3}
    pretraining = {**TXE, "queue_size": 64, "warmup_epochs": 0}
    tiny = write("txe.yaml", configuration(pretraining, windows, default_root_dir="txe"))
    assert not kuleshov("fit", "-c", CONFIGS / "pretrain-txe" / "masked-event.yaml", "-c", tiny)
    segments = {"annotations": data["root"], "events": "store"}
    pretrained = {"context": "pretrained", "txe_weights": "txe/weights/txe.safetensors"}
    tiny = write("verbs.yaml", configuration(pretrained, segments, default_root_dir="verbs"))
    assert not kuleshov("fit", "-c", CONFIGS / "train-verbs" / "verbs.yaml", "-c", tiny)
    assert {line.row for line in read_results("verbs/results.jsonl")} == {"pretrained", "trivial"}
    shutil.rmtree("verbs/predictions")
    assert not kuleshov("predict", "-c", "verbs/config.yaml")
    assert len(json.loads(Path("verbs/predictions/valid.json").read_text())) == 6
    assert load_task("verbs/weights/verbs.safetensors").facts["width"] == EventStore("store").width


def test_a_backbone_of_ones_own_goes_through_all_levels(kuleshov, tiny_world):
    three_levels(kuleshov, tiny_world, TINY)
    manifest = json.loads(Path("store/manifest.json").read_text())
    assert manifest["backbone"]["class_path"] == "tiny_nets.Tiny" and manifest["width"] == 6


def test_a_hugging_face_model_goes_through_all_levels(kuleshov, tiny_world):
    transformers = pytest.importorskip("transformers", reason="pip install 'kuleshov[hf]'")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.VideoMAEConfig(**sizes, image_size=32, patch_size=16, num_frames=4)
    transformers.VideoMAEModel(config).save_pretrained("model")
    Path("model/preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    path = "kuleshov.backbones.huggingface.HuggingFaceBackbone"
    three_levels(kuleshov, tiny_world, {"class_path": path, "init_args": {"model": "model", "frame_rate": 8.0}})
    assert json.loads(Path("store/manifest.json").read_text())["backbone"]["clip"]["std"] == [0.25] * 3


@pytest.mark.parametrize("method", METHODS)
def test_a_backbone_of_ones_own_is_pretrained_and_used_once_it_is_trusted(kuleshov, tiny_world, capfd, method):
    lists = tiny_world / "kinetics"
    model = {"backbone": TINY, **METHODS[method]}
    data = {"videos": str(lists / "train.csv"), **CLIPS}
    tiny = write("tiny.yaml", configuration(model, data, default_root_dir="run"))
    assert not kuleshov("fit", "-c", CONFIGS / "pretrain-backbone" / f"{method}.yaml", "-c", tiny)
    weights = ("--weights", "run/weights/backbone.safetensors")
    labels = ("--bank", lists / "train.csv", "--queries", lists / "val.csv")
    of_segments = ("--data", "vidsitu", "--root", tiny_world / "vidsitu", "--stride", "2")
    for words in (("extract", *weights, *of_segments, "--output", "store"), ("probe", *weights, *labels)):
        sys.modules.pop("tiny_nets", None)
        capfd.readouterr()
        assert kuleshov(*words) == 1
        error = capfd.readouterr().err.strip()
        assert "\n" not in error and "backbone.safetensors" in error and "--trust tiny_nets" in error
        assert "tiny_nets" not in sys.modules
        assert not kuleshov(*words, "--trust", "tiny_nets")
    assert "k-NN" in capfd.readouterr().out
    assert EventStore("store").width == 6
    # named by the user, in a file or on the command line, it needs no trust
    assert not kuleshov("probe", "--backbone", write("net.yaml", TINY), *labels)
    assert not kuleshov("probe", "--config", write("probe.yaml", {"backbone": TINY}), *labels)
    assert not kuleshov("probe", "--backbone", json.dumps(TINY), *labels)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's folder with tiny overlays of the checkout's stages beside its own, and a backbone of its own."""
    folder = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("own") / "project")
    (folder / "tiny_nets.py").write_text(NETS)
    overlays = {
        "pretrain-backbone/cvrl": configuration({"backbone": TINY, **METHODS["cvrl"]}, CLIPS),
        "pretrain-txe/masked-event": configuration({**TXE, "queue_size": 64, "warmup_epochs": 0}, {"batch_size": 8}),
        "train-verbs/verbs": configuration({f"txe_{name}": value for name, value in TXE.items()}),
        "scene-boundaries": configuration({f"txe_{name}": value for name, value in TXE.items()}, max_epochs=2),
    }
    for name, content in overlays.items():
        path = folder / "configs" / f"{name}.demo.yaml"
        path.parent.mkdir(exist_ok=True)
        write(str(path), content)
    world = {"root": "{run}/world", "seed": "{world_seed}", "movies": 6}
    stage = {"summary": "a tiny world", "command": "world", "arguments": world, "outputs": {"world": "world"}}
    write(str(folder / "stages" / "world.yaml"), stage)
    return folder


def run_stage(project: Path, *words: str) -> Path:
    """`kuleshov run WORDS` in a process of its own beside the project; the run's folder."""
    # the first world of six movies in which a scene changes in every split
    command = [sys.executable, "-m", "kuleshov", "run", *words, "--scale", "demo", "--world-seed", "117"]
    environment = {**os.environ, TRUST: "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=project.parent, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return project.parent / done.stdout.strip()


@pytest.fixture(scope="module")
def boundaries(project: Path) -> Path:
    """A run of the example by its stage file's path."""
    return run_stage(project, "--trust", "tiny_nets", str(project / "stages" / "scene-boundaries.yaml"))


@pytest.mark.slow
def test_a_task_of_ones_own_is_run_and_predicts(kuleshov, project, boundaries, monkeypatch):
    lines = read_results(boundaries / "results.jsonl")
    assert {line.row for line in lines} == {"trivial", "backbone", "scratch", "pretrained"}
    assert {(line.task, line.metric) for line in lines} == {("scene_boundaries", "average_precision")}
    assert all(line.value > 0 for line in lines)
    job = boundaries / "pretrained-seed0"
    answers = job / "predictions" / "scene_boundaries.json"
    before = json.loads(answers.read_text())
    answers.unlink()
    # paths of a run are relative to where it was started
    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.syspath_prepend(str(project))
    assert not kuleshov("predict", "-c", job / "config.yaml", path=project.parent)
    assert json.loads(answers.read_text()) == before
    weights = job / "weights" / "scene_boundaries.safetensors"
    with pytest.raises(KuleshovError, match="scene_boundaries.safetensors.*--trust scene_boundaries"):
        load_task(weights)
    trust(["scene_boundaries"])
    assert type(load_task(weights)).__module__ == "scene_boundaries"


@pytest.mark.slow
def test_the_hierarchy_on_a_backbone_of_ones_own_describes_a_movie(kuleshov, project, boundaries, capfd):
    run = run_stage(project, "train-verbs", "--project", str(project), "--trust=tiny_nets")
    movie = next(run.parent.glob("world-*/world/lvu/videos/*.mp4"))
    capfd.readouterr()
    assert kuleshov("describe", movie, "--run", run) == 1
    assert "--trust tiny_nets" in capfd.readouterr().err
    assert not kuleshov("describe", movie, "--run", run, "--trust", "tiny_nets", "--json")
    (film,) = json.loads(capfd.readouterr().out)["films"]
    assert len(film["events"]) == 30


@pytest.mark.slow
def test_the_second_phase_goes_on_from_the_first_ones_weights(project):
    run = run_stage(project, "pretrain-second-phase", "--project", str(project), "--trust=tiny_nets")
    manifest = json.loads((run / "weights" / "backbone.json").read_text())
    assert manifest["data"]["kind"] == "vidsitu" and manifest["method"] == "cvrl"
    assert Path(manifest["started_from"]).match("pretrain-backbone-k400-demo-*/weights/backbone.safetensors")


def test_the_examples_loss_and_answers(kuleshov, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from scene_boundaries import SceneBoundaryTask, boundary_loss

    logits, labels = torch.randn(3, 4), torch.randint(2, (3, 4))
    chance = logits.sigmoid()
    pairs = torch.where(labels == 1, -5.0 * chance.log(), -(1 - chance).log())
    torch.testing.assert_close(boundary_loss(logits, labels, 5.0), pairs.mean())
    assert float(boundary_loss(torch.zeros(1, 2), torch.tensor([[0, 1]]), 3.0)) == pytest.approx(2 * math.log(2))
    task = SceneBoundaryTask(context="none", head_width=4)
    task.assemble({"width": 6, "weight": 5.0})
    events = torch.randn(2, 5, 6)
    answers = task.eval().answer({"events": events})
    assert answers.shape == (2, 4)
    # a pair's answer depends on its two events alone
    torch.testing.assert_close(task.answer({"events": events[:, 2:4]}), answers[:, 2:3])


@pytest.mark.parametrize("scale", ["demo", "gpu"])
def test_the_example_is_planned(kuleshov, capfd, scale):
    words = ("run", EXAMPLE / "stages" / "scene-boundaries.yaml", "--scale", scale, "--dry-run")
    assert not kuleshov(*words)
    out = capfd.readouterr()
    assert "scene-boundaries" in out.out + out.err and "pretrain-txe" in out.out + out.err
    assert not Path("runs").exists()
