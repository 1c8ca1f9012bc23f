import json
from pathlib import Path

import pytest

from kuleshov.core.errors import KuleshovError, UsageError
from kuleshov.core.results import read_results
from kuleshov.pipeline.stages import load_stage
from kuleshov.report.columns import ROWS
from kuleshov.report.report_command import ceiling_command, report_command

from .conftest import VERBS, result

ROOT = Path(__file__).resolve().parents[2]
STAGES = {
    "table-1": ("roles", "CIDEr"),
    "table-2": ("roles", "CIDEr"),
    "table-2-verbs": ("verbs", "Acc@1"),
    "table-3": ("relations", "Mean-Acc"),
    "table-4": ("verbs", "Acc@1"),
    "ablate-rates": ("relations", "Mean-Acc"),
}


def test_the_table_as_text_and_the_page_on_disk(runs, tmp_path, capsys):
    page = tmp_path / "deep" / "page.html"
    text = str(report_command([str(runs)], output=page))
    assert capsys.readouterr().err == f"{page}\n"
    assert "41.00 ± 0.58" in text and "60.34 ± 0.75" in text and "+10.00 ± 0.00*" in text
    assert "generated world" in text and "LEA" not in text
    assert "LEA" in page.read_text()


def test_json_is_the_same_table(runs):
    found = json.loads(json.dumps(report_command([str(runs)]).to_dict()))
    assert [column["key"] for column in found["columns"]] == ["verbs/Acc@1/valid", "roles/CIDEr/valid"]
    cell = found["rows"]["pretrained"]["verbs/Acc@1/valid"]
    assert cell["value"] == 41.0 and cell["seeds"] == {"0": 40.0, "1": 41.0, "2": 42.0}
    assert found["comparisons"][0]["clear"] and cell["samples"]["n"] == 240
    assert found["rows"]["pretrained"]["roles/CIDEr/valid"]["paper"]["value"] == 60.34
    every = report_command([str(runs)], all=True).to_dict()
    assert "roles/LEA/valid" in [column["key"] for column in every["columns"]]


def test_named_runs_and_the_option_make_the_same_table(runs):
    assert "pretrained · cvrl" in report_command([f"cvrl={runs}"]).rows
    words = [str(path) for path in sorted(runs.parent.glob("train-*"))]
    assert set(report_command([], run=words).rows) == {"trivial", "backbone", "scratch", "pretrained"}


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(UsageError, match="at least one run folder"):
        report_command([])
    with pytest.raises(KuleshovError, match="run folder not found at"):
        report_command([str(tmp_path / "none")])


def test_the_mean_over_worlds_needs_several(stage):
    runs = []
    for world in (21, 22):
        run = stage("train-verbs", digits=f"{world:08d}", results=VERBS)
        record = json.loads((run / "stage.json").read_text())
        record["resolved"]["values"]["world_seed"] = str(world)
        (run / "stage.json").write_text(json.dumps(record))
        runs.append(str(run))
    cells = report_command(runs, worlds=True).to_dict()["rows"]["scratch"]
    assert {key: cell["seeds"] for key, cell in cells.items()} == {"verbs/Acc@1/valid": {"21": 31.0, "22": 31.0}}
    with pytest.raises(UsageError, match="--worlds needs runs of two generated worlds or more"):
        report_command(runs[:1], worlds=True)


def test_the_ceiling_is_scored_under_the_tasks_names(tiny_world, tmp_path):
    out = tmp_path / "results.jsonl"
    text = str(ceiling_command(tiny_world, out, predictions=tmp_path / "kept"))
    found = {(one.task, one.metric): one for one in read_results(out)}
    assert {("verbs", name) for name in ("Acc@1", "Acc@5", "Recall@5", "acc1_offscreen", "acc1_onscreen")} <= set(found)
    assert {("relations", "Top1-Acc"), ("relations", "Mean-Acc")} <= set(found)
    assert {one.row for one in found.values()} == {"ceiling"}
    assert found["verbs", "acc1_offscreen"].value < found["verbs", "Acc@1"].value
    assert found["verbs", "acc1_onscreen"].value > 90
    assert "verbs Acc@1: " in text and (tmp_path / "kept" / "relations.json").is_file()


def test_the_ceiling_needs_a_generated_world(tmp_path):
    with pytest.raises(KuleshovError):
        ceiling_command(tmp_path, tmp_path / "r.jsonl")


@pytest.mark.parametrize("name", STAGES)
def test_a_run_of_a_table_s_stage_shows_every_row_n_and_the_trivial_row(name: str, stage, tmp_path: Path):
    task, metric = STAGES[name]
    rows = list(load_stage(name, ROOT).rows)
    lines = [result(metric, 25.0, task, "trivial")]
    lines += [result(metric, 30.0 + i + seed, task, row, seed) for i, row in enumerate(rows) for seed in (0, 1)]
    jobs = [f"{row}-seed{seed}" for row in rows for seed in (0, 1)]
    backbone = stage("pretrain-backbone", "k400", "11111111", method="cvrl")
    run = stage(name, digits="33333333", needs=[backbone], results=lines, jobs=jobs)
    page = tmp_path / "page.html"
    shown = str(report_command([str(run)], output=page))
    assert "valid, n 240" in shown and "looks at nothing" in shown and page.is_file()
    for i in range(len(rows)):
        assert f"{30.5 + i:.2f} ± 0.50" in shown


@pytest.mark.parametrize("name", [f"table-{number}" for number in (1, 3, 4, 5)])
def test_the_rows_of_the_tables_have_names(name):
    stage = load_stage(name, ROOT)
    assert {*stage.rows_at("demo"), *stage.rows_at("paper")} <= set(ROWS)
