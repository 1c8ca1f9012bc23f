"""The rows of the stages that make Tables 1, 3 and 4 and the study of rates go through the command line."""

from pathlib import Path

import pytest
import yaml

from kuleshov.cli import main
from kuleshov.pipeline.plan import Request, make_plan

ROOT = Path(__file__).resolve().parents[2]


def configurations(stage: str, runs: Path, capsys: pytest.CaptureFixture) -> dict[str, dict]:
    """Row -> the `model.init_args` and `data.init_args` that its job would have; rows that set the same names once."""
    found, seen = {}, set()
    for job in make_plan(Request(stage, ROOT, scale="demo", runs=runs)).jobs:
        names = tuple(word.split("=", 1)[0] for word in job.words)
        if (names, job.row[:3]) in seen:
            continue
        seen.add((names, job.row[:3]))
        assert main([*job.words, "--print_config"]) == 0, capsys.readouterr().err
        config = yaml.safe_load(capsys.readouterr().out)
        found[job.row] = {**config["model"]["init_args"], **config["data"]["init_args"]}
    return found


def test_table_1_compares_what_the_decoder_sees(tmp_path: Path, capsys: pytest.CaptureFixture):
    rows = configurations("table-1", tmp_path, capsys)
    assert rows["language"]["context"] == "language" and rows["pretrained-frozen"]["txe_frozen"]
    assert "extract-supervised-vidsitu" in rows["supervised-backbone"]["events"]
    assert "pretrain-txe-lvu" in rows["pretrained-frozen"]["txe_weights"]
    plan = make_plan(Request("table-1", ROOT, scale="demo", runs=tmp_path))
    stages = {(one.stage.name, one.data) for one in plan.order()}
    assert {("pretrain-txe", "vidsitu"), ("pretrain-txe", "lvu"), ("extract-supervised", "vidsitu")} <= stages


def test_table_3_takes_each_context_from_its_own_features(tmp_path: Path, capsys: pytest.CaptureFixture):
    rows = {
        job.row: " ".join(job.words) for job in make_plan(Request("table-3", ROOT, scale="demo", runs=tmp_path)).jobs
    }
    assert {row for row, words in rows.items() if "extract-tuned-vidsitu" in words} == {
        "backbone-tuned", "scratch-tuned", "carried-tuned", "pretrained-tuned",
    }  # fmt: skip
    assert "pretrain-tuned-lvu" in rows["pretrained-tuned"]
    assert "pretrain-txe-lvu" in rows["carried-tuned"] and "pretrain-txe-lvu" in rows["pretrained"]
    assert configurations("table-3", tmp_path, capsys)["supervised-backbone"]["context"] == "none"


def test_table_4_tunes_every_backbone(tmp_path: Path, capsys: pytest.CaptureFixture):
    rows = configurations("table-4", tmp_path, capsys)
    assert rows["no-pretraining"]["backbone_weights"] is None
    assert rows["cvrl"]["backbone_weights"].endswith("weights/backbone.safetensors")


def test_rates_have_rows_with_and_without_warm_up(tmp_path: Path, capsys: pytest.CaptureFixture):
    rows = configurations("ablate-rates", tmp_path, capsys)
    assert rows["scratch-1e-5"]["lr"] == rows["scratch-1e-5"]["txe_lr"] == 1e-5
    assert rows["scratch-1e-5"]["warmup_epochs"] > 0 == rows["scratch-1e-5-sudden"]["warmup_epochs"]
    assert rows["pretrained-1e-5-sudden"]["context"] == "pretrained"
    jobs = make_plan(Request("ablate-rates", ROOT, scale="demo", seeds=3, runs=tmp_path)).jobs
    assert len(jobs) == 2 * 2 * 6 * 3
