import shutil

import pytest

from kuleshov.core.errors import KuleshovError
from kuleshov.report.lineage import ResultSource, gather, left_out, lineage, named_run, parse_runs, read_run
from kuleshov.report.results_table import incomplete

from .conftest import result


def test_needs_come_first_and_once(runs):
    names = [run.stage for run in lineage([runs])]
    assert names == ["pretrain-backbone", "pretrain-txe", "train-roles", "train-verbs", "summary"]
    assert lineage([runs, runs.parent / "train-verbs-vidsitu-demo-33333333"]) == lineage([runs])


def test_a_table_shows_no_rows_of_another_that_it_was_made_from(stage):
    verbs = [result("Acc@1", 1.0, "verbs", "cvrl", 0)]
    tuned = stage("table-4", digits="11111111", results=verbs, table=4)
    human = stage("measure-human", digits="22222222", results=[result("CIDEr", 2.0, "roles", "human")])
    relations = [result("Mean-Acc", 3.0, "relations", "cvrl-tuned", 0)]
    run = stage("table-3", digits="33333333", needs=[tuned, human], results=relations, table=3)
    assert [line.row for _, line in gather({"": [run]})[1]] == ["human", "cvrl-tuned"]
    both = gather({"table-3": [run], "table-4": [tuned]})[1]
    assert [(source.variant, line.task) for source, line in both] == [
        ("table-3", "roles"), ("table-3", "relations"), ("table-4", "verbs")
    ]  # fmt: skip


def test_runs_that_were_moved_are_found_beside_each_other(runs, tmp_path):
    shutil.move(runs.parent, tmp_path / "elsewhere")
    assert len(lineage([tmp_path / "elsewhere" / runs.name])) == 5


def test_a_missing_need_is_named(runs):
    shutil.rmtree(runs.parent / "pretrain-txe-vidsitu-demo-22222222")
    with pytest.raises(KuleshovError, match="run not found at .*pretrain-txe-.* was made from it"):
        lineage([runs])


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(KuleshovError, match="run folder not found at .*name a folder that `kuleshov run`"):
        read_run(tmp_path / "none")
    with pytest.raises(KuleshovError, match="neither stage.json nor results.jsonl"):
        read_run(tmp_path)
    (tmp_path / "stage.json").write_text("[]")
    with pytest.raises(KuleshovError, match="stage.json: not a stage's record"):
        read_run(tmp_path)


def test_the_folder_of_all_runs_names_the_newest_tables(runs):
    assert named_run(runs.parent) == named_run(runs) == runs
    assert gather({"": [runs.parent]}) == gather({"": [runs]})
    shutil.rmtree(runs)
    with pytest.raises(KuleshovError, match="finished run of summary or tables not found .*kuleshov run summary"):
        named_run(runs.parent)


def test_results_of_a_run(runs):
    assert len(read_run(runs.parent / "train-verbs-vidsitu-demo-33333333").results()) == 10
    assert read_run(runs).results() == []


def test_words_that_name_runs(tmp_path):
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert parse_runs([str(odd), f"cvrl={odd}"]) == {"": [odd], "cvrl": [odd]}
    with pytest.raises(KuleshovError, match="name at least one run folder"):
        parse_runs([])
    with pytest.raises(KuleshovError, match="RUN or NAME=RUN, not 'cvrl='"):
        parse_runs(["cvrl="])


def test_what_was_left_out(runs):
    found = left_out(lineage([runs]))
    assert ("pretrain-txe-vidsitu-demo-22222222", "m1", "too short") in found
    assert len(found) == 2 and found[0][2] == "<script>alert(2)</script>"


def test_a_bad_files_line_that_is_being_written_is_left_for_later(runs):
    folder = runs.parent / "pretrain-backbone-k400-demo-11111111"
    with (folder / "bad_files.jsonl").open("a") as file:
        file.write('{"path": "half')
    assert len(left_out(lineage([runs]))) == 2
    with (folder / "bad_files.jsonl").open("a") as file:
        file.write('\n{"other": 1}\n')
    with pytest.raises(KuleshovError, match="bad_files.jsonl, record 2"):
        left_out(lineage([runs]))


def test_incomplete_scores_are_named():
    measured = [(ResultSource("run"), result("CIDEr", 1.0, "roles", "scratch", 0, n=200))]
    (note,) = incomplete(measured * 2)
    assert note.startswith("run: roles valid") and "200 of 240" in note
