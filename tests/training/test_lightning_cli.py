"""The command line of Lightning on a toy module: run folders, configurations given back, checkpoints, scores."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
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


def test_logs_have_no_advertisements_and_say_where_files_lie(folder: Path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOY), os.environ.get("PYTHONPATH", "")])}
    run = ("-c", "toy.yaml", "--trainer.default_root_dir", "run")
    said = {}
    for words in (("fit", *run, "--trainer.log_every_n_steps=9"), ("test", *run)):
        command = [sys.executable, "-m", "kuleshov", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        said[words[0]] = done.stderr
        for noise in ("Tip:", "deprecated", "logging interval", "dirpath", "multiple `ModelCheckpoint`"):
            assert noise not in done.stderr, done.stderr
    assert "\nresults and predictions in run\n" in said["fit"]
    (tested,) = Path("run/tests").iterdir()
    assert f"\nresults and predictions in {tested}\n" in said["test"]


def test_resumed_is_the_same_to_the_bit(folder: Path):
    assert fit("whole") == 0
    assert fit("cut", "--trainer.max_epochs", "1") == 0
    assert weights("cut") != weights("whole")
    assert fit("cut", "--ckpt_path", "cut/checkpoints/last.ckpt") == 0
    assert weights("cut") == weights("whole")
    assert yaml.safe_load(Path("cut/config.yaml").read_text())["ckpt_path"] is None


def snapshot(run: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(run).rglob("*") if path.is_file()}


def test_results_of_a_resumed_fit_are_those_of_a_whole_one(folder: Path):
    assert fit("run") == 0
    whole = Path("run/results.jsonl").read_bytes()
    shutil.rmtree("run")
    assert fit("run", "--trainer.max_epochs", "1") == 0
    assert fit("run", "--ckpt_path", "run/checkpoints/last.ckpt") == 0
    assert Path("run/results.jsonl").read_bytes() == whole
    # once more from the beginning: of this fit alone
    assert fit("run") == 0 and Path("run/results.jsonl").read_bytes() == whole


def test_a_glance_leaves_a_used_run_folder_as_it_is(folder: Path):
    assert fit("run") == 0
    before = snapshot("run")
    assert fit("run", "--trainer.fast_dev_run", "true") == 0
    for kind in ("validate", "test", "predict"):
        assert main([kind, "-c", "run/config.yaml", "--trainer.fast_dev_run", "true"]) == 0
    assert main(["validate", "-c", "run/config.yaml"]) == 0
    assert snapshot("run") == before
    assert main(["test", "-c", "run/config.yaml"]) == main(["test", "-c", "run/config.yaml"]) == 0
    assert {name: raw for name, raw in snapshot("run").items() if name in before} == before
    assert [len(read_results(path)) for path in Path("run/tests").glob("*/results.jsonl")] == [2, 2]


def test_a_fit_without_a_folder_gets_one_of_its_own(folder: Path):
    before = set(folder.iterdir())
    assert main(["fit", "-c", "toy.yaml"]) == main(["fit", "-c", "toy.yaml", "--trainer.max_epochs", "1"]) == 0
    assert set(folder.iterdir()) - before <= {folder / "runs", folder / "__pycache__"}
    one, other = sorted((folder / "runs").iterdir())
    assert one.name.startswith("fit-") and (one / "results.jsonl").is_file() and list(other.glob("events*"))
    # what goes on from one of its checkpoints goes on in the same folder
    last = next(path for path in (one, other) if "max_epochs: 3" in (path / "config.yaml").read_text())
    assert main(["fit", "-c", "toy.yaml", "--ckpt_path", str(last / "checkpoints" / "last.ckpt")]) == 0
    assert len(list((folder / "runs").iterdir())) == 2


def test_a_folder_whose_name_means_something_elsewhere(folder: Path):
    assert fit("runs[red]/{x}: y #1") == 0
    assert main(["test", "-c", "runs[red]/{x}: y #1/config.yaml"]) == 0


@pytest.mark.parametrize("kind", ["empty", "text", "pickle", "half", "flipped", "archive", "list", "weights"])
def test_a_damaged_checkpoint_is_refused_in_one_line(folder: Path, kind: str, capsys: pytest.CaptureFixture):
    assert fit("run", "--trainer.max_epochs", "1") == 0
    path = Path("run/checkpoints/last.ckpt")
    raw = path.read_bytes()
    damaged = {"empty": b"", "text": b"text", "pickle": pickle.dumps({"state_dict": {}}), "half": raw[: len(raw) // 2]}
    damaged["flipped"] = raw[:900] + bytes([raw[900] ^ 255]) + raw[901:]
    if kind in damaged:
        path.write_bytes(damaged[kind])
    elif kind == "archive":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "x")
    else:
        torch.save([1] if kind == "list" else {"state_dict": {}}, path)
    for command in ("fit", "test"):
        capsys.readouterr()
        assert main([command, "-c", "toy.yaml", "--trainer.default_root_dir", "run", "--ckpt_path", str(path)]) == 1
        error = capsys.readouterr().err
        assert "last.ckpt is damaged, or no checkpoint of a training" in error.splitlines()[-1]
        assert "Traceback" not in error


@pytest.mark.slow
def test_a_full_disk_is_named_and_mended(folder: Path, capsys: pytest.CaptureFixture):
    """The disk fills at the second epoch's checkpoint: the first one's is gone on from."""
    place = folder / "small"
    place.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(place)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        assert fit("small/run", "--trainer.max_epochs", "1") == 0
        filler = place / "filler"
        with pytest.raises(OSError, match="No space"), filler.open("wb") as file:
            while True:
                file.write(b"0" * 1024)
                file.flush()
        capsys.readouterr()
        assert fit("small/run", "--ckpt_path", "small/run/checkpoints/last.ckpt") == 1
        error = capsys.readouterr().err
        assert "no space left" in error.splitlines()[-1].lower() and "Traceback" not in error
        filler.unlink()
        assert fit("small/run", "--ckpt_path", "small/run/checkpoints/last.ckpt") == 0
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert fit("whole") == 0


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
        (["fit", "-c", "toy.yaml", "--model.init_args.momentum=-1"], 1, ("momentum must be a number of at least 0",)),
        (["fit", "-c", "toy.yaml", "--model.init_args.beta2=1"], 1, ("beta2 must be",)),
        (["fit", "-c", "toy.yaml", "--model.init_args.lr_batch=0"], 1, ("lr_batch must be at least 1",)),
        (["fit", "-c", "toy.yaml", "--model.init_args.lr=nan"], 2, ("lr", "nan")),
        (["fit", "-c", "toy.yaml", "--seed_everything=99999999999"], 2, ("seed_everything", "not in bounds")),
        (["fit", "-c", "toy.yaml", "--trainer.max_epochs=0"], 2, ("max_epochs must be at least 1",)),
        (["fit", "-c", "toy.yaml", "--trainer.max_epochs=nan"], 2, ("max_epochs", "nan")),
        (["fit", "-c", "toy.yaml", "--trainer.log_every_n_steps=0"], 2, ("log_every_n_steps must be at least 1",)),
        (["fit", "-c", "toy.yaml", "--trainer.devices=0"], 2, ("devices",)),
        (["fit", "-c", "toy.yaml", "--trainer.devices=nan"], 2, ("devices",)),
        (["fit", "-c", "toy.yaml", "--trainer.accelerator=cuda"], 2, ("CUDAAccelerator",)),
        (["fit", "-c", "toy.yaml", "--trainer.logger=CometLogger"], 2, ("comet-ml",)),
        (["fit", "-c", "toy.yaml", "--trainer.default_root_dir=toy.yaml"], 1, ("File exists", "toy.yaml")),
        (["fit", "-c", "toy.yaml", "--ckpt_path=best"], 2, ("ckpt_path",)),
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
