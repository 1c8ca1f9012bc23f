import json
from pathlib import Path

import pytest

from kuleshov.cli import main
from kuleshov.core.results import Result
from kuleshov.datasets.lvu import TASKS
from kuleshov.pipeline.stages import load_stage
from kuleshov.report.measured import gather
from kuleshov.report.paper_values import LVU_COLUMNS, TABLE_5
from kuleshov.report.table_five import ROWS, heads, lines, lvu_tables, split_off
from kuleshov.report.tables import Source

BASES = {"instances": 30.0, "scene-backbone": 40.0, "scene-pretrained": 45.0, "ot++-pretrained": 50.0}


def line(row, task, value, seed=0, metric=None, **changes):
    common = {"split": "test", "n": 78, "of": 80, "sample_ids_sha256": "x" * 64, "code_version": "0"}
    named = {"metric": metric or TASKS[task].metric, "task": task, "row": row, "seed": seed}
    return Result(value=value, **{**common, **named, **changes})


def measured():
    """Nine tasks; a squared error falls where an accuracy rises; speaking beats nothing."""
    found = []
    for task in TASKS:
        up = TASKS[task].higher_is_better
        found.append(line("trivial", task, 60.0 if task == "way_speaking" else 25.0 if up else 1.0, None))
        for row, base in BASES.items():
            for seed in range(2):
                value = base + seed * (2 if row == "scene-pretrained" else 1)
                found.append(line(row, task, value if up else value / -100 + 1, seed))
                found.append(line(row, task, value - 8, seed, f"{TASKS[task].metric}_low95"))
                found.append(line(row, task, value + 8, seed, f"{TASKS[task].metric}_high95"))
    return found


@pytest.fixture
def run(stage):
    backbone = stage("pretrain-backbone", "k400", "11111111", method="modist")
    return stage("train-lvu", "lvu", "99999999", needs=[backbone], results=measured(), method="ot-plus-plus")


def test_lines_and_standings_of_the_table(run):
    (lvu,) = lvu_tables(gather({"": [run]})[1])
    assert heads(lvu)[1:4] == ["trivial", "instances", "scene, backbone only"]
    shown = {one[0].text: one for one in lines(lvu)}
    genre = shown["Genre"]
    assert genre[0].below == "accuracy, n 78 of 80"
    assert genre[2].text == "30.50 ± 0.50" and genre[2].below == "[22.5, 38.5] (49.26)"
    assert genre[5].text == "50.50 ± 0.50" and genre[5].below.endswith("(51.15)")
    # by seed: 45 - 40 and 47 - 41
    assert genre[6].text == "+5.50 ± 0.50*"
    assert shown["Like"][6].text == "+0.055 ± 0.005*"
    assert [one.text for one in shown["#top-1"]] == ["#top-1", "", "0", "0", "0", "9", ""]
    assert [one.text for one in shown["mean rank"]][2:6] == ["4.00", "3.00", "2.00", "1.00"]
    assert [one.text for one in shown["seeds"]][1:6] == ["", "2", "2", "2", "2"]
    assert [one.weak for one in shown["Speaking"]] == [False, False, True, True, True, True, False]
    assert "way_speaking: row instances (30.5) does not beat the trivial row (60)" in lvu.table.warnings


def test_the_paper_s_columns_come_out_of_its_values():
    ours = {
        "OT, no scene": "instances",
        "no instances, Sup": "scene-backbone",
        "no instances, Ours": "scene-pretrained",
    }
    found = [
        (Source("run"), line(ours.get(name, "ot++-pretrained"), task, value, metric=TASKS[task].metric))
        for name, values in TABLE_5.items()
        for task, value in zip(LVU_COLUMNS, values, strict=True)
        if name in ours or name == "OT, Ours"
    ]
    (lvu,) = lvu_tables(found)
    shown = {one[0].text: [field.text for field in one[1:5]] for one in lines(lvu)}
    assert shown["Genre"] == ["49.55", "47.37", "48.11", "51.15"]
    assert shown["#top-1"] == ["1", "2", "3", "4"]


def test_a_row_that_is_ahead_of_the_others_in_an_unfinished_run_has_no_rank():
    found = [line("instances", "genre", 30.0), line("instances", "scene", 30.0), line("scene-backbone", "genre", 9.0)]
    (lvu,) = lvu_tables((Source("run"), one) for one in found)
    shown = {one[0].text: [field.text for field in one[1:]] for one in lines(lvu)}
    assert shown["Scene"] == ["30.00", ""] and shown["mean rank"] == ["", ""]


def test_a_run_of_another_head_stays_in_the_other_table():
    other = [(Source("heads"), line("backbone", "genre", 30.0)), (Source("heads"), line("trivial", "genre", 9.0))]
    found = [*other, (Source("five"), line("instances", "genre", 30.0))]
    assert split_off(found) == (other, found[2:])
    assert lvu_tables(other) == []
    assert "trivial" not in lvu_tables(found)[0].table.cells


def test_the_command_prints_the_table(run, capsys, tmp_path):
    assert main(["report", str(run), "--output", str(tmp_path / "page.html")]) == 0
    printed = capsys.readouterr().out
    assert "LVU, as Table 5" in printed and "mean rank" in printed and "45.50" not in printed.split("Genre")[0]
    assert "does not beat the trivial row" in printed and "generated world" in printed
    page = (tmp_path / "page.html").read_text()
    assert "LVU, as Table 5" in page and "50.50 ± 0.50" in page and "No results yet" not in page
    assert main(["report", str(run), "--json"]) == 0
    (five,) = json.loads(capsys.readouterr().out)["table_five"]
    assert five["rows"]["instances"]["genre"]["seeds"] == {"0": 30.0, "1": 31.0}
    assert five["standings"]["ot++-pretrained"]["top1"] == 9 and five["method"] == "modist"


def test_the_stages_rows_are_the_tables():
    stage = load_stage("train-lvu", Path(__file__).resolve().parents[2])
    assert list(stage.method_rows["ot-plus-plus"]) == [row for row in ROWS if row in BASES]
