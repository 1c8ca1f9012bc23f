"""VidSitu's tree: layouts, splits, vocabulary, videos; the real files where they are."""

import json

import pytest

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError
from kuleshov.datasets.vidsitu import VidSitu, find
from kuleshov.datasets.vidsitu_format import EVENTS
from kuleshov.video.video_file import Video

TRAIN = [f"v_source-0_{i:02d}_seg_0_10" for i in range(3)]
VALID = [f"v_source-1_{i:02d}_seg_10_20" for i in range(2)]
TEST = ["v_source-2_00_seg_0_10"]


def annotation(segment, verb="look.01", text="man", relation="Causes"):
    found = {}
    for name in EVENTS:
        found[name] = {
            "vid_seg_int": segment,
            "Verb": verb,
            "VerbID": verb,
            "Args": {"Arg0 (agent)": text},
            "Arg_List": {"Arg0 (agent)": "0"},
        }
        if name != "Ev3" and relation is not None:
            found[name]["EvRel"] = relation
    return found


def withheld(segment):
    found = annotation(segment, relation=None)
    for event in found.values():
        del event["Args"]
    return found


@pytest.fixture
def tree(tmp_path):
    """A small official tree: three training segments, two of valid, one of test."""
    files = {
        "split_files/vseg_split_train_lb.json": TRAIN,
        "split_files/vseg_split_valid_lb.json": VALID,
        "split_files/vseg_split_testsrl_lb.json": TEST,
        "vinfo_files/vinfo_valid_lb.json": [
            {"vid_seg_int": segment, "vbid_lst": {name: ["run.02"] * 10 for name in EVENTS}} for segment in VALID
        ],
        "vseg_ann_files/vsann_train_lb.json": [
            annotation(TRAIN[0], "run.02"),
            annotation(TRAIN[0], "never.01", relation=None),
            annotation(TRAIN[1], "look.01", relation=None),
            annotation(TRAIN[2], "look.01"),
        ],
        "vseg_ann_files/vsann_valid_lb.json": [annotation(s, text=t) for s in VALID for t in ("man", "woman", "")],
        "vseg_ann_files/vsann_testsrl_noann_lb.json": [withheld(TEST[0])],
    }
    for name, value in files.items():
        path = tmp_path / "vidsitu" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    return tmp_path / "vidsitu"


def test_splits_and_their_annotators(tree):
    data = VidSitu(tree)
    assert data.segments("train") == TRAIN and data.segments("val") == VALID
    assert [len(many) for many in data.roles("train").values()] == [1, 1, 1]
    assert [len(many) for many in data.roles("valid").values()] == [3, 3]
    assert data.verbs("train")[TRAIN[0]] == [["run.02"]] * 5
    assert data.verbs("valid")[VALID[1]] == [["run.02"] * 10] * 5
    assert data.relations("train")[TRAIN[0]] == [["Causes"] * 4]
    assert data.relations("train")[TRAIN[1]] == [["Null"] * 4]
    assert data.relations("valid")[VALID[0]] == [["Causes"] * 4] * 3


def test_other_layouts_hold_the_same(tree, tmp_path):
    nested = tmp_path / "nested"
    nested.mkdir()
    tree.rename(nested / "vidsitu_annotations")
    assert VidSitu(nested).segments("valid") == VALID
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in (nested / "vidsitu_annotations").rglob("*.json"):
        file.rename(flat / file.name)
    assert VidSitu(flat).relations("valid")[VALID[0]] == [["Causes"] * 4] * 3


def test_test_splits_have_no_labels(tree):
    data = VidSitu(tree)
    assert data.annotations("testsrl")[TEST[0]][0][0].order == ("Arg0 (agent)",)
    with pytest.raises(
        KuleshovError, match=r"vsann_testsrl_noann_lb.json: testsrl has no role texts \(they are withheld\)"
    ):
        data.roles("test_srl")
    with pytest.raises(KuleshovError, match="testsrl has no relations"):
        data.relations("testsrl")


def test_what_is_missing_is_named(tree, tmp_path):
    with pytest.raises(MissingDataError, match="VidSitu's annotations not found at"):
        VidSitu(tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match=r"VidSitu's vseg_split_testvb_lb.json not found at .*kuleshov world"):
        VidSitu(tree).segments("testvb")
    with pytest.raises(
        KuleshovError, match="VidSitu has the splits train, valid, testvb, testsrl, testevrel, not 'dev'"
    ):
        VidSitu(tree).segments("dev")


def test_an_event_without_its_verb(tree):
    path = tree / "vseg_ann_files/vsann_valid_lb.json"
    records = json.loads(path.read_text())
    del records[1]["Ev2"]["VerbID"]
    path.write_text(json.dumps(records))
    assert VidSitu(tree).relations("valid")
    with pytest.raises(FormatError, match=r"record v_source-1_00_seg_10_20 \(annotator 1\), field Ev2.VerbID"):
        VidSitu(tree).roles("valid")


def test_vocabulary_from_the_training_annotations(tree):
    assert VidSitu(tree).vocabulary() == ["look.01", "run.02"]
    assert VidSitu(tree).known_verbs() == {"look.01", "run.02"}


def test_videos_whole_or_cut(tree):
    videos = tree / "videos"
    videos.mkdir()
    (videos / "source-1_00.mkv").touch()
    (videos / f"{TRAIN[2]}.mp4").touch()
    (videos / "source-1_01.txt").touch()
    data = VidSitu(tree)
    assert data.videos("valid") == [Video(VALID[0], videos / "source-1_00.mkv", 10.0, 20.0)]
    assert data.videos("train", videos) == [Video(TRAIN[2], videos / f"{TRAIN[2]}.mp4", 0.0, 10.0)]
    assert find(tree, "valid")[1] == [VALID[1]] and find(tree, "valid", tree / "none") == ([], VALID)


def test_the_real_files(real_data):
    data = VidSitu(real_data / "vidsitu")
    counts = {split: len(data.segments(split)) for split in ("train", "valid", "testvb", "testsrl", "testevrel")}
    assert counts == {"train": 23550, "valid": 1324, "testvb": 1353, "testsrl": 1595, "testevrel": 1307}
    assert len(data.verbs("valid")) == 1324
    vocabulary = data.vocabulary()
    assert len(vocabulary) == 1556 and vocabulary[:2] == ["speak.01", "talk.01"]
    sample = VidSitu(real_data / "vidsitu" / "roles_sample")
    assert sorted({len(many) for many in sample.roles("valid").values()}) == [4, 5]
