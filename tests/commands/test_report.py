import json

from kuleshov.cli import main
from kuleshov.core.results import read_results


def test_the_table_on_stdout_and_the_page_on_disk(runs, tmp_path, capsys):
    page = tmp_path / "deep" / "page.html"
    assert main(["report", str(runs), "--output", str(page)]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"{page}\n"
    assert "41.00 ± 0.58" in captured.out and "60.34 ± 0.75" in captured.out
    assert "+10.00 ± 0.00*" in captured.out
    assert "generated world" in captured.out and "LEA" not in captured.out
    assert "LEA" in page.read_text()


def test_json_is_the_same_table(runs, capsys):
    assert main(["report", str(runs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [column["key"] for column in found["columns"]] == ["verbs/Acc@1/valid", "roles/CIDEr/valid"]
    cell = found["rows"]["pretrained"]["verbs/Acc@1/valid"]
    assert cell["value"] == 41.0 and cell["seeds"] == {"0": 40.0, "1": 41.0, "2": 42.0}
    assert found["comparisons"][0]["clear"] and cell["samples"]["n"] == 240
    assert found["rows"]["backbone"]["verbs/Acc@1/valid"]["paper"]["value"] == 32.84


def test_named_runs_and_the_option_make_the_same_table(runs, capsys):
    assert main(["report", f"cvrl={runs}", "--json"]) == 0
    assert "pretrained · cvrl" in json.loads(capsys.readouterr().out)["rows"]
    words = [str(path) for path in sorted(runs.parent.glob("train-*"))]
    assert main(["report", "--run", *words, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["rows"]) == {"trivial", "backbone", "scratch", "pretrained"}


def test_all_metrics(runs, capsys):
    assert main(["report", str(runs), "--all", "--json"]) == 0
    assert "roles/LEA/valid" in [column["key"] for column in json.loads(capsys.readouterr().out)["columns"]]


def test_mistakes_are_one_line(tmp_path, capsys):
    assert main(["report"]) == 2
    assert capsys.readouterr().err == "error: name at least one run folder (`kuleshov run` prints it)\n"
    assert main(["report", str(tmp_path / "none")]) == 1
    assert "run folder not found at" in capsys.readouterr().err


def test_the_ceiling_is_scored_under_the_tasks_names(tiny_world, tmp_path, capsys):
    out = tmp_path / "results.jsonl"
    assert main(["ceiling", "--root", str(tiny_world), "--output", str(out)]) == 0
    found = {(one.task, one.metric): one for one in read_results(out)}
    assert {("verbs", name) for name in ("Acc@1", "Acc@5", "Recall@5", "acc1_offscreen", "acc1_onscreen")} <= set(found)
    assert {("relations", "Top1-Acc"), ("relations", "Mean-Acc")} <= set(found)
    assert {one.row for one in found.values()} == {"ceiling"}
    assert found["verbs", "acc1_offscreen"].value < found["verbs", "Acc@1"].value
    assert found["verbs", "acc1_onscreen"].value > 90
    assert "verbs Acc@1: " in capsys.readouterr().out


def test_the_ceiling_needs_a_generated_world(tmp_path, capsys):
    assert main(["ceiling", "--root", str(tmp_path), "--output", str(tmp_path / "r.jsonl")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
