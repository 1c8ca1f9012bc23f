"""Scores do not depend on the number of ranks, nor on a padded last batch; a resumed training goes on alike."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kuleshov.core.results import read_results
from kuleshov.tasks.verbs.data import VerbData
from kuleshov.tasks.verbs.events import VerbsFromEvents
from kuleshov.training.lightning_cli import main

sys.path.insert(0, str(Path(__file__).parents[2]))
from distributed import on_ranks

BASE, DEMO = "configs/train-verbs/verbs.yaml", "configs/train-verbs/verbs.demo.yaml"


def scored(rank: int, root: str) -> tuple[list[str], dict[str, float]]:
    data = VerbData(annotations=f"{root}/vidsitu", store=f"{root}/store", eval_batch_size=3)
    data.setup("fit")
    torch.manual_seed(0)
    model = VerbsFromEvents(context="scratch", hidden=16, layers=1, heads=2, feedforward=16)
    model.trainer = type("Trainer", (), {"datamodule": data})()
    model.configure_model()
    model.eval()
    for number, batch in enumerate(data.test_dataloader()):
        model.validation_step(batch, number)
    predicted = model._collect()
    return json.dumps(predicted), model.scores(predicted)


def test_two_ranks_score_as_one(small_vidsitu):
    """13 segments: two ranks see one of them twice."""
    alone = scored(0, str(small_vidsitu))
    for text, figures in on_ranks(2, scored, str(small_vidsitu)):
        assert text == alone[0]
        assert figures == alone[1]


def arguments(root, run, *more):
    return [
        "fit",
        *("-c", BASE, "-c", DEMO),
        f"--data.init_args.annotations={root}/vidsitu",
        f"--data.init_args.store={root}/store",
        "--data.init_args.batch_size=4",
        "--model.init_args.context=scratch",
        "--trainer.check_val_every_n_epoch=1",
        f"--trainer.default_root_dir={run}",
        *more,
    ]


def test_a_resumed_training_ends_with_the_same_weights(small_vidsitu, tmp_path):
    """A training that stops in the middle and goes on is, bit for bit, one that did not stop."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    main(arguments(small_vidsitu, whole, "--trainer.max_epochs=4"))
    with pytest.raises(Stop):
        stop_after(2, arguments(small_vidsitu, halves, "--trainer.max_epochs=4"))
    last = halves / "checkpoints/last.ckpt"
    main(arguments(small_vidsitu, halves, "--trainer.max_epochs=4", f"--ckpt_path={last}"))
    ends = [torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole, halves)]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 4 * 6
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name


class Stop(Exception):
    """Stands for a kill."""


def stop_after(epochs: int, words: list[str]) -> None:
    """Run a training that dies at the beginning of an epoch."""
    before = VerbsFromEvents.on_train_epoch_start

    def dies(self):
        if self.current_epoch == epochs:
            raise Stop
        before(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VerbsFromEvents, "on_train_epoch_start", dies)
        main(words)


@pytest.mark.slow
def test_two_processes_of_lightning_write_the_scores_once(small_vidsitu, tmp_path):
    words = arguments(small_vidsitu, tmp_path, "--trainer.max_epochs=2")
    words += ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.init_args.batch_size=2"]
    made = subprocess.run(
        [sys.executable, "-m", "kuleshov", *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert made.returncode == 0, made.stderr[-2000:]
    lines = [line for line in read_results(tmp_path / "results.jsonl") if line.row == "scratch"]
    assert [line.metric for line in lines].count("Acc@1") == 1
    assert all(line.n == 13 for line in lines if "screen" not in line.metric)
