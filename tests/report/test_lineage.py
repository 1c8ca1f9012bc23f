import shutil

import pytest

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import write_json
from kuleshov.report.lineage import lineage, newest, read_run, results_of
from kuleshov.report.measured import gather, generated, parse_runs
from kuleshov.report.skipped import Skipped, incomplete, skipped

from .conftest import result


def test_needs_come_first_and_once(runs):
    names = [run.stage for run in lineage([runs])]
    assert names == ["pretrain-backbone", "pretrain-txe", "train-roles", "train-verbs", "tables"]
    assert lineage([runs, runs.parent / "train-verbs-vidsitu-demo-33333333"]) == lineage([runs])


def test_sources_know_the_backbones_method_and_the_data_of_txe(runs):
    found, measured = gather({"": [runs]})
    assert {(source.method, source.context_data) for source, _ in measured} == {("cvrl", "vidsitu")}
    assert generated(found)


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


def test_newest(runs):
    assert newest(runs.parent, "tables") == runs
    write_json(runs.parent / "pretrain-backbone-k400-demo-11111111" / "job.json", {})
    assert gather({"": [runs.parent]}) == gather({"": [runs]})
    with pytest.raises(KuleshovError, match="finished run of train-lvu not found .*kuleshov run train-lvu"):
        newest(runs.parent, "train-lvu")


def test_results_of_a_run(runs):
    assert len(results_of(read_run(runs.parent / "train-verbs-vidsitu-demo-33333333"))) == 10
    assert results_of(read_run(runs)) == []


def test_words_that_name_runs(tmp_path):
    odd = tmp_path / "a=b"
    odd.mkdir()
    assert parse_runs([str(odd), f"cvrl={odd}"]) == {"": [odd], "cvrl": [odd]}
    with pytest.raises(KuleshovError, match="name at least one run folder"):
        parse_runs([])
    with pytest.raises(KuleshovError, match="RUN or NAME=RUN, not 'cvrl='"):
        parse_runs(["cvrl="])


def test_what_was_left_out(runs):
    found = skipped(lineage([runs]))
    assert Skipped("pretrain-txe-vidsitu-demo-22222222", "m1", "too short") in found
    assert len(found) == 2 and found[0].reason == "<script>alert(2)</script>"


def test_a_bad_files_line_that_is_being_written_is_left_for_later(runs):
    folder = runs.parent / "pretrain-backbone-k400-demo-11111111"
    with (folder / "bad_files.jsonl").open("a") as file:
        file.write('{"path": "half')
    assert len(skipped(lineage([runs]))) == 2
    with (folder / "bad_files.jsonl").open("a") as file:
        file.write('\n{"other": 1}\n')
    with pytest.raises(KuleshovError, match="bad_files.jsonl, record 2: not a line"):
        skipped(lineage([runs]))


def test_incomplete_scores_are_said():
    from kuleshov.report.tables import Source

    measured = [(Source("run"), result("CIDEr", 1.0, "roles", "scratch", 0, n=200))]
    assert incomplete(measured) == ["run: roles valid is scored on 200 of 240 samples, 40 are missing"]
