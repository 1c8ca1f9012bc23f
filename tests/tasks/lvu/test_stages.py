"""The stages of LVU through the command line, without running them."""

from pathlib import Path

import pytest
import yaml

from kuleshov.cli import main
from kuleshov.datasets.lvu import LVU_TASKS
from kuleshov.pipeline.plan import Request, make_plan

ROOT = Path(__file__).parents[3]
ROWS = ("instances", "instances-cvrl", "instances-modist", "scene-backbone", "scene-pretrained", "ot++-pretrained")


def planned(words, capsys, tmp_path):
    code = main(["run", *words, "--scale", "demo", "--runs", str(tmp_path / "runs"), "--dry-run"])
    printed = capsys.readouterr()
    assert not (tmp_path / "runs").exists()
    return code, " ".join((printed.out + printed.err).split())


def test_table_five_is_six_rows_of_nine_tasks_and_five_seeds(capsys, tmp_path):
    code, said = planned(["table-5", "--seeds", "5"], capsys, tmp_path)
    assert code == 0 and "0/270" in said and "extract-instances" in said
    request = Request("table-5", ROOT, scale="demo", seeds=5, runs=tmp_path)
    names = {job.name for job in make_plan(request).jobs}
    assert names == {f"{task}-{row}-seed{seed}" for task in LVU_TASKS for row in ROWS for seed in range(5)}


@pytest.mark.parametrize("stage", ["train-lvu", "extract-instances", "pretrain-instances"])
def test_a_stage_is_planned(stage, capsys, tmp_path):
    code, said = planned([stage], capsys, tmp_path)
    assert code == 0 and stage in said and "to run" in said


@pytest.mark.parametrize("scale", ["demo", "gpu", "paper"])
@pytest.mark.parametrize("name", ["scene-head", "object-transformer", "ot-plus-plus", "instance-pretraining"])
def test_every_scale_warms_up_for_a_tenth_on_any_accelerator(configs, name, scale):
    base, over = (yaml.safe_load((configs / f"{file}.yaml").read_text()) for file in (name, f"{name}.{scale}"))
    trainer = base["trainer"] | over["trainer"]
    model = base["model"]["init_args"] | over.get("model", {}).get("init_args", {})
    assert "accelerator" not in trainer
    assert model["warmup_epochs"] == pytest.approx(0.1 * trainer["max_epochs"])


def test_a_misspelt_task_is_offered_the_nearest(capsys, tmp_path):
    code, said = planned(["train-lvu", "--task", "gener"], capsys, tmp_path)
    assert code != 0 and "did you mean genre?" in said
