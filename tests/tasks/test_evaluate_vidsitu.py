"""`kuleshov evaluate verbs|roles|relations`: golden values of the official code, options, and bad input."""

import json
import os
import pickle
from pathlib import Path

import pytest

import kuleshov
from kuleshov.core.errors import KuleshovError, UsageError
from kuleshov.core.files import sha256_ids
from kuleshov.tasks.evaluate_vidsitu import evaluate_vidsitu

# our own cases; the values are what the official code (TheShadow29/VidSitu) printed for them
GOLDEN = json.loads(Path(__file__).with_name("golden_vidsitu.json").read_text(encoding="utf-8"))
EVENTS = ("Ev1", "Ev2", "Ev3", "Ev4", "Ev5")


def write(root, case, predictions="p.json"):
    """Write a golden case as an official tree; returns (root, predictions)."""
    files = {"split_files/vseg_split_valid_lb.json": case["segments"]}
    if "annotations" in case:
        files["vseg_ann_files/vsann_valid_lb.json"] = [official_annotation(one) for one in case["annotations"]]
    if "verbs" in case:
        files["vinfo_files/vinfo_valid_lb.json"] = [
            {"vid_seg_int": segment, "vbid_lst": dict(zip(EVENTS, verbs, strict=True))}
            for segment, verbs in case["verbs"].items()
        ]
    for name, value in files.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(json.dumps(value), encoding="utf-8")
    path = root / predictions
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(case["predictions"]))
    else:
        path.write_text(json.dumps(case["predictions"]), encoding="utf-8")
    return root, path


def official_annotation(one):
    found = {}
    for name, event in zip(EVENTS, one["events"], strict=True):
        found[name] = {
            "vid_seg_int": one["segment"],
            "VerbID": event["verb"],
            "Args": event["args"],
            "Arg_List": {argument: str(place) for place, argument in enumerate(event["args"])},
        }
        if name != "Ev3":
            found[name]["EvRel"] = event.get("relation", "NoRel")
    return found


def figures(official):
    """Nested figures side by side."""
    flat = {}
    for name, value in official.items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


@pytest.mark.parametrize("suffix", ["json", "pkl"])
@pytest.mark.parametrize("name", GOLDEN)
def test_every_official_figure(tmp_path, name, suffix):
    case = GOLDEN[name]
    found = evaluate_vidsitu(case["task"], *write(tmp_path, case, f"p.{suffix}"))
    assert figures(found.official) == pytest.approx(figures(case["official"]), abs=1e-9)
    assert found.n == found.of == len(case["segments"])
    assert found.sample_ids_sha256 == sha256_ids(case["segments"])
    assert set(found.trivial) == set(found.metrics)


def test_scores_are_a_table(tmp_path):
    text = str(evaluate_vidsitu("roles", *write(tmp_path, GOLDEN["paraphrases"])))
    assert "n = 3 of 3" in text and "241.24" in text and "trivial: each role's most frequent text of valid" in text
    text = str(evaluate_vidsitu("roles", *write(tmp_path, GOLDEN["without_first_event"])))
    assert "note: 1 prediction(s) without Ev1 are left out of LEA" in text


def test_order_repeats_and_extra_segments_change_nothing(tmp_path):
    case = GOLDEN["paraphrases"]
    shuffled = case | {"predictions": case["predictions"][::-1] + case["predictions"][:1]}
    shuffled["annotations"] = case["annotations"] + [case["annotations"][0] | {"segment": "v_other-video_seg_0_10"}]
    before = evaluate_vidsitu("roles", *write(tmp_path, case))
    assert evaluate_vidsitu("roles", *write(tmp_path, shuffled)) == before


def test_split_file_and_allow_missing(tmp_path):
    case = GOLDEN["verbs"]
    root, predictions = write(tmp_path, case)
    chosen = case["segments"][3:5]
    (tmp_path / "split.json").write_text(json.dumps(chosen))
    with pytest.raises(KuleshovError, match="ann_idx: 3 is not one of the split's segments 0 to 1"):
        evaluate_vidsitu("verbs", root, predictions, split_file=tmp_path / "split.json")
    by_number = {record["ann_idx"]: record for record in reversed(case["predictions"])}
    records = [by_number[3] | {"ann_idx": 0}, by_number[4] | {"ann_idx": 1}]
    predictions.write_text(json.dumps(records))
    found = evaluate_vidsitu("verbs", root, predictions, split_file=tmp_path / "split.json")
    assert (found.n, found.of, found.sample_ids_sha256) == (2, 2, sha256_ids(chosen))
    predictions.write_text(json.dumps([by_number[3], by_number[4]]))
    part = evaluate_vidsitu("verbs", root, predictions, allow_missing=True)
    assert (part.n, part.of) == (2, 10) and part.official == found.official


@pytest.mark.parametrize(("task", "names"), [("roles", {"CIDEr", "LEA"}), ("relations", {"Mean-Acc"})])
def test_human_row(tmp_path, task, names):
    case = GOLDEN["paraphrases"]
    root, predictions = write(tmp_path, case)
    with pytest.raises(KuleshovError, match="1 of 3 segments without an annotator to spare, first v_kino"):
        evaluate_vidsitu(task, root, human=True)
    found = evaluate_vidsitu(task, root, predictions, human=True, allow_missing=True)
    assert found.n == 2 and names <= set(found.metrics)
    assert found.metrics["LEA" if task == "roles" else "Top1-Acc"] > 50


def test_human_row_of_verbs(tmp_path):
    root, _ = write(tmp_path, GOLDEN["verbs"])
    found = evaluate_vidsitu("verbs", root, human=True, allow_missing=True)
    # annotators 10 of the segments that have as many, against nine
    assert found.n == 7 and found.metrics["Acc@1"] == found.metrics["Acc@5"] > 50


def test_trivial_rows_come_from_training_texts_where_they_are(tmp_path):
    case = GOLDEN["paraphrases"]
    root, predictions = write(tmp_path, case)
    train = [official_annotation(case["annotations"][3])]
    (root / "vseg_ann_files" / "vsann_train_lb.json").write_text(json.dumps(train))
    found = evaluate_vidsitu("roles", root, predictions)
    assert found.trivial_predictor.startswith("each role's most frequent text of train: ALoc 'a  street  at night'")
    assert 0 <= found.trivial["CIDEr"] < found.metrics["CIDEr"]


def broken(task, change):
    """A golden case of the task with its first record changed."""
    name = {"verbs": "verbs", "roles": "paraphrases", "relations": "ties"}[task]
    case = json.loads(json.dumps(GOLDEN[name]))
    change(case["predictions"])
    return case


BAD = {
    "missing segment": ("verbs", lambda p: p.pop(1), "1 of 10 segments missing in the predictions, first v_kino"),
    "missing roles": ("roles", lambda p: p.pop(1), "1 of 3 segments missing in the predictions"),
    "unknown role": ("roles", lambda p: p[0]["vb_output"]["Ev1"].update(ArgX="a"), "unknown role 'ArgX'"),
    "four events": ("verbs", lambda p: p[0]["pred_vbs_ev"].pop(), "wrong number of events: 4, expected 5"),
    "no Ev4": ("roles", lambda p: p[0]["vb_output"].pop("Ev4"), "the prediction has no Ev4"),
    "two places": (
        "relations",
        lambda p: p[0]["pred_evrels_ev"].__setitem__(1, ["Causes"] * 2),
        "ann_idx 2, Ev2: 2 labels, expected 3, one per annotator place",
    ),
}


UNKNOWN = {
    "verbs": (lambda p: p[0]["pred_vbs_ev"][1].insert(0, "frobnicate.01"), "'frobnicate.01' (ann_idx 3, Ev2)"),
    "relations": (lambda p: p[0]["pred_evrels_ev"].__setitem__(0, ["Follows"] * 3), "'Follows' (ann_idx 2, Ev1)"),
}


@pytest.mark.parametrize("task", UNKNOWN)
def test_unknown_names_are_misses_and_noted(tmp_path, task):
    change, note = UNKNOWN[task]
    assert any(note in one for one in evaluate_vidsitu(task, *write(tmp_path, broken(task, change))).notes)


@pytest.mark.parametrize("name", BAD)
def test_bad_predictions_end_with_one_line(tmp_path, name):
    task, change, message = BAD[name]
    with pytest.raises(KuleshovError) as caught:
        evaluate_vidsitu(task, *write(tmp_path, broken(task, change)))
    assert message in str(caught.value) and "\n" not in str(caught.value)


class Evil:
    def __reduce__(self):
        return os.system, ("echo executed > evil_was_here",)


def test_files_that_are_no_predictions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root, predictions = write(tmp_path, GOLDEN["verbs"])
    predictions.write_text(predictions.read_text()[:-30])
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    for file, message in (
        (predictions, "not valid JSON at line 1"),
        ("evil.pkl", "system, which is not plain data: refused"),
        ("none.json", "none.json"),
    ):
        with pytest.raises(KuleshovError, match=message):
            evaluate_vidsitu("verbs", root, file)
    assert not (tmp_path / "evil_was_here").exists()
    with pytest.raises(UsageError, match="--predictions FILE, or --human true"):
        evaluate_vidsitu("verbs", root)


def test_a_verb_of_the_training_annotations_is_known(tmp_path):
    case = broken("verbs", UNKNOWN["verbs"][0])
    root, predictions = write(tmp_path, case)
    event = {"verb": "frobnicate.01", "args": {}}
    train = [official_annotation({"segment": "v_other-video_seg_0_10", "events": [event] * 5})]
    (root / "vseg_ann_files").mkdir(exist_ok=True)
    (root / "vseg_ann_files" / "vsann_train_lb.json").write_text(json.dumps(train))
    assert evaluate_vidsitu("verbs", root, predictions).notes == []


def test_annotations_that_the_official_code_refuses(tmp_path):
    case = json.loads(json.dumps(GOLDEN["paraphrases"]))
    del case["annotations"][1]["events"][0]["args"]["Arg1 (thing pushed)"]
    root, predictions = write(tmp_path, case)
    with pytest.raises(KuleshovError, match="annotators must share argument names"):
        evaluate_vidsitu("roles", root, predictions)
    case["annotations"] = [one for one in case["annotations"] if one["segment"] != case["segments"][0]]
    root, predictions = write(tmp_path, case)
    for task in ("roles", "relations"):
        with pytest.raises(KuleshovError, match=f"segment {case['segments'][0]} .*has no"):
            evaluate_vidsitu(task, root, human=True)
    with pytest.raises(KuleshovError, match="VidSitu's tasks are verbs, roles, relations, not 'words'"):
        evaluate_vidsitu("words", root, predictions)
    with pytest.raises(KuleshovError, match="VidSitu's vinfo_valid_lb.json not found at"):
        evaluate_vidsitu("verbs", root, predictions)


def test_the_real_prediction_file(real_data):
    root = real_data / "vidsitu" / "roles_sample"
    found = evaluate_vidsitu("roles", root, root / "predictions_vlm.json")
    assert found.n == 160
    expected = {
        "cider": 0.3041419774226101,
        "MacroVb_cider": 0.3308941717914276,
        "MacroArg_cider": 0.262307540522681,
        "bleu_4": 0.06121333491749762,
        "rouge": 0.2055885720937256,
        "lea": 0.2786988637758429,
        "lea_soft": 0.2340199213779843,
    }
    assert {name: found.official[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_one_function_scores_every_benchmark(tmp_path):
    case = GOLDEN["paraphrases"]
    root, path = write(tmp_path, case)
    found = kuleshov.evaluate(case["task"], str(path), str(root))
    assert str(found) == str(evaluate_vidsitu(case["task"], root, path))
    with pytest.raises(KuleshovError, match="no benchmark has a task 'gerne'; did you mean genre.*roles"):
        kuleshov.evaluate("gerne", path, root)
    with pytest.raises(KuleshovError, match="lvu_1.0"):
        kuleshov.evaluate("genre", path, root)
