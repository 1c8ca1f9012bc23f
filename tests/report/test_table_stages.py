"""Runs of the stages that make the paper's tables, as the report shows them: every row, n, and the trivial row."""

from pathlib import Path

import pytest

from kuleshov.pipeline.stages import load_stage
from kuleshov.report.columns import ROWS
from kuleshov.report.report_command import report_command

from .conftest import result

ROOT = Path(__file__).resolve().parents[2]
STAGES = {
    "table-1": ("roles", "CIDEr"),
    "table-2": ("verbs", "Acc@1"),
    "table-3": ("relations", "Mean-Acc"),
    "table-4": ("verbs", "Acc@1"),
    "ablate-rates": ("relations", "Mean-Acc"),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_run_of_it_shows_every_row(name: str, stage, tmp_path: Path):
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


def test_the_rows_of_the_movie_tasks_have_names():
    assert set(load_stage("train-lvu", ROOT).method_rows["ot-plus-plus"]) <= set(ROWS)
