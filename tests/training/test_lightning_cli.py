"""The command line of Lightning on a toy module: run folders, configurations given back, checkpoints, scores."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kuleshov.cli import main
from kuleshov.core.results import read_results

TOY = Path(__file__).parents[1] / "pipeline"
CONFIG = """
model: {class_path: toy.Toy, init_args: {width: 3, lr: 0.1, optimizer: sgd, schedule: constant}}
data: {class_path: toy.ToyData}
trainer:
  max_epochs: 3
  accelerator: cpu
  log_every_n_steps: 1
  enable_model_summary: false
  callbacks: [{class_path: kuleshov.training.callbacks.BestCheckpoint, init_args: {monitor: val/far, mode: min}}]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(CONFIG)
    return tmp_path


def fit(run: str, *words: str, config: str = "toy.yaml") -> int:
    return main(["fit", "-c", config, "--trainer.default_root_dir", run, *words])


def weights(run: str) -> bytes:
    return Path(run, "weights", "toy.safetensors").read_bytes()


def test_a_run_folder_and_its_configuration_given_back(folder: Path, capsys: pytest.CaptureFixture):
    assert fit("run", "--seed_everything", "3") == 0
    assert capsys.readouterr().out == ""
    found = {path.name for path in Path("run").iterdir() if not path.name.startswith("events")}
    assert found == {"checkpoints", "config.yaml", "hparams.yaml", "predictions", "results.jsonl", "weights"}
    own, trivial = read_results("run/results.jsonl")
    assert (own.row, own.seed, own.n, own.of, own.selection) == ("toy", 3, 2, 4, "epoch with the minimum val/far")
    assert trivial.row == "trivial"
    stored = torch.load("run/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    best = torch.stack([row @ stored["layer.weight"][0] for row in torch.arange(12.0).reshape(4, 3) / 12])[2:].mean()
    assert own.value == pytest.approx(float(best + stored["layer.bias"]))

    events = EventAccumulator("run").Reload()
    tags = set(events.Tags()["scalars"])
    assert {"train/loss", "train/grad_norm", "data/wait_s", "perf/samples_per_s", "lr-SGD/pg1", "final/mean"} <= tags
    assert "_hparams_/session_start_info" in events.summary_metadata

    # the same configuration in another folder is the same training
    assert fit("again", config="run/config.yaml") == 0
    assert weights("again") == weights("run")
    before = Path("run/results.jsonl").read_bytes()
    assert main(["test", "-c", "run/config.yaml"]) == 0
    (again,) = Path("run/tests").glob("*/results.jsonl")
    assert read_results(again)[0].value == own.value and Path("run/results.jsonl").read_bytes() == before
    assert main(["predict", "-c", "run/config.yaml"]) == 0
    assert len(json.loads(Path("run/predictions/toy.json").read_text())) == 4


def test_resumed_is_the_same_to_the_bit(folder: Path):
    assert fit("whole") == 0
    assert fit("cut", "--trainer.max_epochs", "1") == 0
    assert weights("cut") != weights("whole")
    assert fit("cut", "--ckpt_path", "cut/checkpoints/last.ckpt") == 0
    assert weights("cut") == weights("whole")
    assert yaml.safe_load(Path("cut/config.yaml").read_text())["ckpt_path"] is None


def test_without_a_logger(folder: Path):
    assert fit("run", "--trainer.logger", "false") == 0
    assert read_results("run/results.jsonl") and not list(Path("run").glob("events*"))


@pytest.mark.parametrize(
    ("words", "code", "texts"),
    [
        (["predict", "-c", "toy.yaml", "--trainer.default_root_dir", "none"], 1, ("no checkpoint in", "--ckpt_path")),
        (["fit", "-c", "toy.yaml", "--ckpt_path", "none.ckpt"], 1, ("no checkpoint at", "none.ckpt")),
        (["fit", "-c", "toy.yaml", "--model.init_args.lr", "much"], 2, ("lr", "much")),
        (["fit", "-c", "toy.yaml", "--model.init_args.lr=-1"], 1, ("lr must be a number of at least 0",)),
    ],
)
def test_mistakes_are_one_line(words: list[str], code: int, texts: tuple[str, ...], capsys: pytest.CaptureFixture):
    assert main(words) == code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and all(text in last for text in texts)


def test_a_checkpoint_of_another_class_is_refused(folder: Path, capsys: pytest.CaptureFixture):
    assert fit("run", "--trainer.max_epochs", "1") == 0
    (folder / "other.yaml").write_text(CONFIG.replace("toy.Toy,", "toy.Other,"))
    assert fit("more", "--ckpt_path", "run/checkpoints/last.ckpt", config="other.yaml") == 1
    assert "run/checkpoints/last.ckpt is a checkpoint of toy.Toy" in capsys.readouterr().err
