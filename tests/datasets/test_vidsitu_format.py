"""VidSitu's official files: what is read, and the one line for each thing that is wrong."""

import copy
import json
import os
import pickle
import re
import sys
import types

import pytest

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError
from kuleshov.datasets.vidsitu_format import (
    EVENTS,
    parse_segment,
    read_annotations,
    read_split,
    read_verbs,
    read_vocabulary,
    role_of,
)

SEGMENT = "v_a_b-c_d-e_f_seg_20_30"


def event(**changes):
    found = {
        "vid_seg_int": SEGMENT,
        "Verb": "push (apply force)",
        "VerbID": "push.01",
        "Args": {"Scene of the Event": "street", "Arg0 (pusher)": "man"},
        "Arg_List": {"Arg0 (pusher)": "0", "Arg1 (thing pushed)": "1", "Scene of the Event": "2"},
        "EvRel": "Causes",
    }
    return {key: value for key, value in (found | changes).items() if value is not None}


def annotation(**changes):
    return {name: event(EvRel=None if name == "Ev3" else "Causes") for name in EVENTS} | changes


def write(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_segment_ids_hold_underscores_and_hyphens():
    parsed = parse_segment(SEGMENT)
    assert (parsed.source, parsed.start, parsed.end) == ("a_b-c_d-e_f", 20, 30)


@pytest.mark.parametrize("text", ["v_short_seg_0_10", "a_b-c_d-e_f_seg_0_10", SEGMENT + "x", "v_a_b-c_d-e_f_seg_9_9"])
def test_what_is_no_segment_id(text):
    with pytest.raises(ValueError, match=re.escape(text)):
        parse_segment(text)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("Arg0 (agent, hitter - animate only!)", "Arg0"),
        ("Arg5", "Arg5"),
        ("ArgM (location)", "ALoc"),
        ("ArgM (direction of the location)", "ADir"),
        ("ArgM (goal)", "AGol"),
        ("ArgM (manner)", "AMnr"),
        ("ArgM (purpose)", "APrp"),
        ("Scene of the Event", "AScn"),
    ],
)
def test_short_role_names(name, role):
    assert role_of(name) == role


@pytest.mark.parametrize("name", ["Arg6 (x)", "ArgM (extent)", "ArgM", "Scene", "arg0 (agent)"])
def test_unknown_argument_names(name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        role_of(name)


def test_annotations_keep_both_orders(tmp_path):
    found = read_annotations(write(tmp_path / "ann.json", [annotation(), annotation()]))
    assert [len(many) for many in found.values()] == [2]
    first = found[SEGMENT][0][0]
    assert list(first.arguments) == ["Scene of the Event", "Arg0 (pusher)"]
    assert first.roles == [("Arg0", "man"), ("AScn", "street")]
    assert (first.verb, first.relation, found[SEGMENT][0][2].relation) == ("push.01", "Causes", None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "a list of records expected, found an object"),
        (["x"], "record 0: an object expected, found a text"),
        ([annotation(Ev4=None)], f"record 0 ({SEGMENT}), field Ev4: an object expected, found null"),
        ([annotation(Ev1={})], "record 0, field Ev1.vid_seg_int: the field is missing"),
        ([annotation(Ev2=event(VerbID=3))], "field Ev2.VerbID: a text expected, found 3"),
        ([annotation(Ev2=event(EvRel=["Causes"]))], "field Ev2.EvRel: a text expected, found a list"),
        ([annotation(Ev2=event(Args={"Arg0 (pusher)": 7}))], "field Ev2.Args.Arg0 (pusher): a text expected, found 7"),
        ([annotation(Ev2=event(Args={"ArgX": "a"}))], "field Ev2.Args: unknown argument name 'ArgX'"),
        (
            [annotation(Ev5=event(Args={"Arg2 (whom)": "a"}))],
            "field Ev5.Arg_List: argument 'Arg2 (whom)' has no position",
        ),
        ([annotation(Ev5=event(Args={}, Arg_List={"Arg0": "first"}))], "field Ev5.Arg_List: positions must be"),
    ],
)
def test_malformed_annotations_are_named(tmp_path, value, message):
    path = write(tmp_path / "vsann_valid_lb.json", value)
    with pytest.raises(FormatError, match=re.escape(message)) as error:
        read_annotations(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_truncated_json_and_missing_file(tmp_path):
    path = tmp_path / "vsann_valid_lb.json"
    with pytest.raises(MissingDataError, match="vsann_valid_lb.json"):
        read_annotations(path)
    path.write_text(json.dumps([annotation()])[:-40])
    with pytest.raises(FormatError, match="not valid JSON at line 1"):
        read_annotations(path)


def test_split_files(tmp_path):
    assert read_split(write(tmp_path / "split.json", [SEGMENT])) == [SEGMENT]
    with pytest.raises(FormatError, match=r"record 1: 'v_x' is not a segment id"):
        read_split(write(tmp_path / "split.json", [SEGMENT, "v_x"]))
    with pytest.raises(FormatError, match="a list of segment ids expected, found an object"):
        read_split(write(tmp_path / "split.json", {"valid": [SEGMENT]}))


def test_verb_annotations(tmp_path):
    record = {"vid_seg_int": SEGMENT, "vbid_lst": {name: ["look.01"] * 10 for name in EVENTS}}
    path = tmp_path / "vinfo_valid_lb.json"
    assert read_verbs(write(path, [record]))[SEGMENT] == [["look.01"] * 10] * 5
    with pytest.raises(FormatError, match="the segment occurs twice"):
        read_verbs(write(path, [record, record]))
    few = copy.deepcopy(record)
    few["vbid_lst"]["Ev1"] = ["look.01"] * 8
    with pytest.raises(FormatError, match="field vbid_lst.Ev1: 8 annotators, at least 9 expected"):
        read_verbs(write(path, [few]))
    del few["vbid_lst"]["Ev3"]
    with pytest.raises(FormatError, match="field vbid_lst.Ev3: the field is missing"):
        read_verbs(write(path, [few]))
    record["vbid_lst"]["Ev2"] = [None]
    with pytest.raises(FormatError, match="field vbid_lst.Ev2: verb ids must be texts"):
        read_verbs(write(path, [record]))


class Dictionary:
    """Pickled under the name of fairseq's class."""

    __module__ = "fairseq.data.dictionary"

    def __init__(self, symbols):
        self.symbols = symbols


def dictionary_pickle(symbols):
    """The pickle that fairseq's own class would give; its modules are there only while it is written."""
    names = ("fairseq", "fairseq.data", "fairseq.data.dictionary")
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setitem(sys.modules, name, types.ModuleType(name))
        sys.modules[names[-1]].Dictionary = Dictionary
        return pickle.dumps(Dictionary(symbols))


def test_official_vocabulary_is_read_without_its_class(tmp_path):
    path = tmp_path / "verb_id_vocab.pkl"
    path.write_bytes(dictionary_pickle(["<s>", "<pad>", "</s>", "<unk>", "look.01", "run.02"]))
    assert read_vocabulary(path) == ["look.01", "run.02"]
    path.write_bytes(dictionary_pickle([1, 2]))
    with pytest.raises(FormatError, match="not a fairseq Dictionary"):
        read_vocabulary(path)


class Evil:
    def __reduce__(self):
        return os.system, ("echo executed > evil_was_here",)


def test_a_vocabulary_that_executes_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "verb_id_vocab.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(KuleshovError, match="system, which is not plain data: refused"):
        read_vocabulary(tmp_path / "verb_id_vocab.pkl")
    assert not (tmp_path / "evil_was_here").exists()
