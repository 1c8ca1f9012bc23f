import shutil

import pytest

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import write_json
from kuleshov.report.lineage import ResultSource, gather, left_out, lineage, named_run, parse_runs, read_run
from kuleshov.report.results_table import incomplete

from .conftest import result, write_job


def test_needs_come_first_and_once(runs):
    names = [run.stage for run in lineage([runs])]
    assert names == ["pretrain-backbone", "pretrain-txe", "train-roles", "train-verbs", "tables"]
    assert lineage([runs, runs.parent / "train-verbs-vidsitu-demo-33333333"]) == lineage([runs])


def test_sources_know_the_backbones_method_and_the_data_of_txe(runs):
    _, measured = gather({"": [runs]})
    assert {(source.method, source.txe_data) for source, _ in measured} == {("cvrl", "vidsitu")}


def test_what_is_behind_a_row_is_what_its_job_was_given(stage):
    cvrl = stage("pretrain-backbone", "k400", "11111111", method="cvrl")
    supervised = stage("pretrain-backbone", "k400", "22222222", method="supervised")
    features = stage("extract-features", digits="33333333", needs=[cvrl])
    others = stage("extract-supervised", digits="44444444", needs=[supervised])
    txe = [stage("pretrain-txe", data, "55555555", needs=[features]) for data in ("lvu", "vidsitu")]
    given = {
        "supervised-backbone": [others],
        "backbone": [features],
        "pretrained": [features, txe[0]],
        "pretrained-vidsitu": [features, txe[1]],
    }
    jobs = [f"{row}-seed0" for row in given]
    results = [result("CIDEr", 1.0, "roles", row, 0) for row in given] + [result("CIDEr", 1.0, "roles", "odd", 0)]
    run = stage("table-1", digits="66666666", needs=[features, others, *txe], results=results, jobs=jobs)
    for job, (row, needs) in zip(jobs, given.items(), strict=True):
        write_job(run / job, row, 0, words=tuple(f"--data.x={need}/weights" for need in needs))
    found = {line.row: (source.method, source.txe_data) for source, line in gather({"": [run]})[1]}
    assert found == {
        "supervised-backbone": ("supervised", ""),
        "backbone": ("cvrl", ""),
        "pretrained": ("cvrl", "lvu"),
        "pretrained-vidsitu": ("cvrl", "vidsitu"),
        # no job says which of several origins it is
        "odd": ("", ""),
    }


def test_the_method_of_weights_that_the_user_brought_is_their_manifests(stage, tmp_path):
    write_json(tmp_path / "mine.json", {"kind": "backbone", "method": "modist"})
    features = write_job(stage("extract-features"), words=("extract", "--weights", f"{tmp_path}/mine.safetensors"))
    run = stage("train-verbs", needs=[features], results=[result("Acc@1", 1.0, "verbs", "backbone", 0)])
    ((source, _),) = gather({"": [run]})[1]
    assert source.method == "modist"


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
    with pytest.raises(KuleshovError, match="finished run of tables not found .*kuleshov run tables"):
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
