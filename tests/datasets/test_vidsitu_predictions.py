"""Prediction files in the official structure: read, refused, written."""

import json
import os
import pickle
import re

import numpy as np
import pytest

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError
from kuleshov.datasets.vidsitu_predictions import read_predictions, write_predictions

SEGMENTS = [f"v_aaaaaaaaaaa_seg_{i}0_{i + 1}0" for i in range(3)]
VERBS = [["look.01", "run.02"]] * 5


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def verbs(number=0, events=VERBS):
    return {"ann_idx": number, "pred_vbs_ev": events}


def roles(number=0, **events):
    return {"ann_idx": number, "vb_output": {f"Ev{i}": {"vb_id": "look.01"} for i in range(1, 6)} | events}


def relations(number=0, events=(("Causes",) * 3,) * 4):
    return {"ann_idx": number, "pred_evrels_ev": events}


@pytest.mark.parametrize("name", ["p.json", "p.pkl"])
def test_written_predictions_are_read_again(tmp_path, name):
    path = tmp_path / name
    write_predictions(path, "verbs", {SEGMENTS[2]: VERBS, SEGMENTS[0]: VERBS}, SEGMENTS, {s: [] for s in SEGMENTS})
    assert read_predictions(path, "verbs", 3) == {0: VERBS, 2: VERBS}
    write_predictions(path, "relations", {SEGMENTS[1]: ["Causes", "NoRel", "NoRel", "Enables"]}, SEGMENTS)
    assert read_predictions(path, "relations", 3) == {
        1: [[label] * 3 for label in ("Causes", "NoRel", "NoRel", "Enables")]
    }
    events = {"Ev1": {"vb_id": "look.01", "Arg0": "naïve кошка"}, "Ev2": {}}
    write_predictions(path, "roles", {SEGMENTS[1]: events}, SEGMENTS)
    assert read_predictions(path, "roles", 3) == {1: events}


def test_a_segment_outside_the_split_is_not_written(tmp_path):
    with pytest.raises(KuleshovError, match="prediction for v_x, which is not in the split of 3 segments"):
        write_predictions(tmp_path / "p.json", "verbs", {"v_x": VERBS}, SEGMENTS)


def test_the_first_of_repeated_entries_counts_and_arrays_are_read(tmp_path):
    path = tmp_path / "p.pkl"
    path.write_bytes(pickle.dumps([verbs(np.int64(1), np.array(VERBS)), verbs(1, "never read")]))
    assert read_predictions(path, "verbs", 3) == {1: VERBS}


def test_verbs_beyond_the_fifth_are_not_read(tmp_path):
    path = write(tmp_path / "p.json", [verbs(0, [["look.01"] * 7] * 5)])
    assert read_predictions(path, "verbs", 1)[0] == [["look.01"] * 5] * 5


@pytest.mark.parametrize(
    ("task", "value", "message"),
    [
        ("verbs", {"0": VERBS}, "a list of records expected, found an object"),
        ("verbs", [[0]], "record 0: an object expected, found a list"),
        ("verbs", [{"pred_vbs_ev": VERBS}], "record 0, field ann_idx: the field is missing"),
        ("verbs", [verbs("0")], "field ann_idx: a whole number expected, found '0'"),
        ("verbs", [verbs(True)], "field ann_idx: a whole number expected, found True"),
        ("verbs", [verbs(3)], "field ann_idx: 3 is not one of the split's segments 0 to 2"),
        ("verbs", [verbs(-1)], "field ann_idx: -1 is not one of the split's segments 0 to 2"),
        ("verbs", [relations()], "record 0 (ann_idx 0), field pred_vbs_ev: the field is missing"),
        ("verbs", [verbs(0, VERBS[:4])], "wrong number of events: 4, expected 5"),
        ("verbs", [verbs(0, [*VERBS[:4], "look.01"])], "Ev5: a list expected, found 'look.01'"),
        ("verbs", [verbs(0, [*VERBS[:4], [7]])], "Ev5: a text expected, found 7"),
        ("relations", [relations(0, [["Causes"] * 3] * 5)], "wrong number of events: 5, expected 4"),
        ("relations", [relations(0, ["Causes"] * 4)], "Ev1: a list expected, found 'Causes'"),
        ("roles", [{"ann_idx": 0, "vb_output": []}], "field vb_output: an object expected, found []"),
        ("roles", [roles(0, Ev6={})], "field vb_output: unknown event 'Ev6', expected Ev1 to Ev5"),
        ("roles", [roles(0, Ev2="man")], "field vb_output: Ev2: an object expected, found 'man'"),
        ("roles", [roles(0, Ev2={"Arg9": "man"})], "field vb_output: Ev2: unknown role 'Arg9', expected Arg0, Arg1"),
        ("roles", [roles(0, Ev2={"Arg0": None})], "field vb_output: Ev2.Arg0: a text expected, found None"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(tmp_path, task, value, message):
    path = write(tmp_path / "p.json", value)
    with pytest.raises(FormatError, match=re.escape(message)) as error:
        read_predictions(path, task, 3)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_role_names_of_the_official_decoder_are_known(tmp_path):
    events = {"Ev1": {"vb_id": "anything", "": "stray text", "Vb": "look", "AMnr": "slowly"}}
    path = write(tmp_path / "p.json", [{"ann_idx": 0, "vb_output": events}])
    assert read_predictions(path, "roles", 1) == {0: events}


class Evil:
    def __reduce__(self):
        return os.system, ("echo executed > evil_was_here",)


def test_a_pickle_that_executes_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "p.pkl"
    path.write_bytes(pickle.dumps([verbs(0, Evil())]))
    with pytest.raises(KuleshovError, match="system, which is not plain data: refused"):
        read_predictions(path, "verbs", 1)
    path.write_bytes(pickle.dumps([verbs()])[:-9])
    with pytest.raises(FormatError, match="not a readable pickle"):
        read_predictions(path, "verbs", 1)
    assert not (tmp_path / "evil_was_here").exists()


def test_truncated_json_and_missing_file(tmp_path):
    path = tmp_path / "p.json"
    with pytest.raises(MissingDataError, match="prediction file not found at"):
        read_predictions(path, "verbs", 1)
    path.write_text(json.dumps([verbs()])[:-5])
    with pytest.raises(FormatError, match="not valid JSON at line 1"):
        read_predictions(path, "verbs", 1)
