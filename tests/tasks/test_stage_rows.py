"""The rows of the stages that make the paper's tables and the study of rates go through the command line."""

from pathlib import Path

import pytest
import yaml

from kuleshov.cli import main
from kuleshov.metrics.paper_values import PAPER_TABLES
from kuleshov.pipeline.plan import Request, make_plan
from kuleshov.pipeline.stages import load_stage

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


def sources(stage: str, **changes) -> dict[str, str]:
    """Row -> what its job reads, as the plan says it."""
    plan = make_plan(Request(stage, ROOT, scale="paper", needs_data=False, **changes))
    return {job.row: "\n".join(plan.sources(job)) for job in plan.jobs}


def test_table_1_compares_what_the_decoder_sees(tmp_path: Path, capsys: pytest.CaptureFixture):
    rows = configurations("table-1", tmp_path, capsys)
    assert rows["language"]["context"] == "language"
    found = sources("table-1")
    assert "language" not in found and list(found)[0] == "gpt2"
    assert "finetune-i3d vidsitu (i3d) < pretrain-i3d supervised k400" in found["i3d-backbone"]
    assert found["supervised-scratch"].endswith("extract-features vidsitu < pretrain-backbone supervised k400")
    assert "pretrain-txe k400 < extract-features k400 < pretrain-backbone cvrl k400" in found["pretrained-k400"]
    on_vidsitu = "extract-features vidsitu < pretrain-backbone cvrl vidsitu"
    assert found["vs-pretrained-vidsitu"].split("\n") == [
        f"cvrl_vs: {on_vidsitu}", f"txe_vs_vidsitu: pretrain-txe vidsitu < {on_vidsitu}"
    ]  # fmt: skip
    assert "pretrain-txe lvu < extract-features lvu < pretrain-backbone cvrl k400" in found["pretrained"]


def test_table_3_takes_each_context_from_its_own_features(tmp_path: Path, capsys: pytest.CaptureFixture):
    found = sources("table-3")
    tuned = "table-4 vidsitu (modist-k400-vs) < pretrain-second-phase modist vidsitu < pretrain-backbone modist k400"
    assert found["modist-pretrained"].split("\n") == [
        f"modist_tuned: extract-features vidsitu < {tuned}",
        f"modist_txe: pretrain-txe lvu < extract-features lvu < {tuned}",
    ]
    assert found["no-pretraining-tuned"] == "none_tuned: extract-features vidsitu < table-4 vidsitu (no-pretraining)"
    assert found["cvrl"].endswith("pretrain-second-phase cvrl vidsitu < pretrain-backbone cvrl k400")
    # of Table 4's rows those that are needed, once each whatever the seeds
    plan = make_plan(Request("table-3", ROOT, scale="paper", seeds=3, needs_data=False))
    (table,) = [one for one in plan.order() if one.stage.name == "table-4"]
    rows = {"no-pretraining", "supervised", "cvrl-k400-vs", "modist-k400-vs"}
    assert {job.name for job in table.jobs} == {f"{row}-seed0" for row in rows} and len(plan.jobs) == 3 * 12
    assert configurations("table-3", tmp_path, capsys)["supervised"]["context"] == "none"


@pytest.mark.parametrize("number", range(1, 6))
def test_every_row_of_the_paper_is_planned_once(number: int):
    stage = load_stage(f"table-{number}", ROOT)
    assert stage.table == number and sorted(stage.paper.values()) == sorted(PAPER_TABLES[number])
    assert set(stage.paper) - {"human"} <= set(stage.rows_at("paper"))


def test_table_5_is_wired_as_its_caption_says():
    found = sources("table-5", tasks=("genre",))
    supervised = "pretrain-backbone supervised k400"
    assert f"pretrain-instances lvu < ({supervised}; extract-instances lvu < {supervised})" in found["instances"]
    assert found["instances-modist"] == "modist_instances: extract-instances lvu < pretrain-backbone modist k400"
    assert found["scene-backbone"] == f"supervised: extract-features lvu < {supervised}"
    assert set(found["ot++-pretrained"].split("\n")) == {
        *found["instances"].split("\n"), *found["scene-pretrained"].split("\n")
    }  # fmt: skip


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
