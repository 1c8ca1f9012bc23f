"""The annotation files are what the official loaders read."""

import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from kuleshov.synthetic.annotations import LVU_CLASSES, VERB_ANNOTATORS
from kuleshov.synthetic.grammar import RELATIONS, VERB_IDS
from kuleshov.synthetic.truth import TrueSegment, event_labels, read_segments, read_stories

SEGMENT = re.compile(r"^v_(.{11})_seg_(\d+)_(\d+)$")


def vidsitu(root: Path, folder: str, name: str) -> list:
    return json.loads((root / "vidsitu" / folder / name).read_text())


def test_splits_name_ten_seconds_of_whole_videos(tiny_world):
    names = vidsitu(tiny_world, "split_files", "vseg_split_valid_lb.json")
    for name in names:
        video, start, end = SEGMENT.match(name).groups()
        assert int(end) - int(start) == 10 and (tiny_world / "vidsitu" / "videos" / f"{video}.mp4").is_file()
    assert TrueSegment("abc-_efghij", 2, (), (), {}).id == "v_abc-_efghij_seg_20_30"


@pytest.mark.parametrize(("split", "annotators"), [("train", 1), ("valid", 4)])
def test_each_segment_has_its_annotators(tiny_world, split, annotators):
    records = vidsitu(tiny_world, "vseg_ann_files", f"vsann_{split}_lb.json")
    counts = Counter(record["Ev1"]["vid_seg_int"] for record in records)
    assert set(counts) == set(vidsitu(tiny_world, "split_files", f"vseg_split_{split}_lb.json"))
    assert set(counts.values()) == {annotators}


def test_records_have_the_official_fields(tiny_world):
    for record in vidsitu(tiny_world, "vseg_ann_files", "vsann_valid_lb.json"):
        assert list(record) == ["Ev1", "Ev2", "Ev3", "Ev4", "Ev5"]
        for event, one in record.items():
            assert set(one["Arg_List"]) == set(one["Args"])
            assert sorted(one["Arg_List"].values()) == [str(i) for i in range(len(one["Args"]))]
            assert one["VerbID"] in VERB_IDS and one["Verb"].split(" ")[0] == one["VerbID"].split(".")[0]
            assert ("EvRel" in one) == (event != "Ev3")
            assert one.get("EvRel", "NoRel") in RELATIONS


def test_annotators_share_verbs_and_argument_names(tiny_world):
    records = vidsitu(tiny_world, "vseg_ann_files", "vsann_valid_lb.json")
    seen: dict[str, list] = {}
    for record in records:
        shape = [(one["VerbID"], list(one["Args"])) for one in record.values()]
        seen.setdefault(record["Ev1"]["vid_seg_int"], []).append(shape)
    assert all(shape == shapes[0] for shapes in seen.values() for shape in shapes)


def test_ten_annotators_name_the_verb_and_mostly_agree(tiny_world):
    right = []
    for information in vidsitu(tiny_world, "vinfo_files", "vinfo_valid_lb.json"):
        for event, votes in information["vbid_lst"].items():
            assert len(votes) == VERB_ANNOTATORS == len(information["vb_lst"][event])
            truth = information["vb_to_use"][event].split(" ")[0] + ".01"
            assert votes[0] == truth
            right += [vote == truth for vote in votes]
    assert 0.82 < np.mean(right) < 0.98


def test_test_sets_keep_their_labels_back(tiny_world):
    roles = vidsitu(tiny_world, "vseg_ann_files", "vsann_testsrl_noann_lb.json")
    assert all({"Args", "EvRel"}.isdisjoint(one) for record in roles for one in record.values())
    relations = vidsitu(tiny_world, "vseg_ann_files", "vsann_testevrel_noann_lb.json")
    assert all("EvRel" not in one for record in relations for one in record.values())
    written = {path.name for path in (tiny_world / "vidsitu" / "vinfo_files").iterdir()}
    assert written == {"vinfo_train_lb.json", "vinfo_valid_lb.json"}


def test_event_labels_are_those_of_the_stories(tiny_world, tmp_path):
    labels = event_labels(tiny_world)
    written = json.loads((tiny_world / "truth/vidsitu_offscreen.json").read_text())
    movies = {story["id"]: story for story in read_stories(tiny_world) if story["kind"] == "lvu"}
    assert labels.keys() == movies.keys() | written.keys()
    for name, story in movies.items():
        acting = [story["cast"][event["agent"]] for event in story["events"]]
        assert labels[name]["person"] == acting
        assert labels[name]["director"] == [story["style"]["director"]] * len(story["events"])
        assert all(labels[name][what] == [event[what] for event in story["events"]] for what in ("verb", "scene"))
        assert labels[name]["off_screen"] == [event["off_screen"] for event in story["events"]]
    assert all(labels[name]["off_screen"] == written[name] for name in written)
    for split in ("train", "valid"):
        for one in read_segments(tiny_world, split):
            assert (labels[one.id]["verb"], labels[one.id]["off_screen"]) == (list(one.verbs), list(one.off_screen))
    assert event_labels(tmp_path) == {}


def test_annotated_verbs_are_the_true_ones(tiny_world):
    truth = {segment.id: segment.verbs for segment in read_segments(tiny_world, "train")}
    for record in vidsitu(tiny_world, "vseg_ann_files", "vsann_train_lb.json"):
        verbs = truth[record["Ev1"]["vid_seg_int"]]
        assert [one["VerbID"] for one in record.values()] == [VERB_IDS[verb] for verb in verbs]


@pytest.mark.parametrize("task", LVU_CLASSES)
def test_lvu_rows_carry_the_official_ids_and_names(tiny_world, task):
    for split in ("train", "val", "test"):
        lines = (tiny_world / "lvu" / "lvu_1.0" / task / f"{split}.csv").read_text().splitlines()
        assert lines[0] == "class_id class_name youtube_id imdb_id"
        assert len(lines) > 1
        for line in lines[1:]:
            number, name, video, imdb = line.split()
            assert (int(number), name) in LVU_CLASSES[task]
            assert (tiny_world / "lvu" / "videos" / f"{video}.mp4").is_file() and imdb.startswith("tt")


def test_lvu_classes_are_the_real_ones(real_data):
    for task, classes in LVU_CLASSES.items():
        text = (real_data / "lvu" / "lvu_1.0" / task / "train.csv").read_text().splitlines()[1:]
        real = {(int(line.split()[0]), line.split()[1]) for line in text}
        assert set(classes) <= real


def test_lvu_regressions_follow_content(tiny_world):
    likes = (tiny_world / "lvu" / "lvu_1.0" / "like_ratio" / "train.csv").read_text().splitlines()
    assert likes[0] == "like_count dislike_count youtube_id imdb_id"
    liked, disliked, _, _ = likes[1].split()
    assert int(liked) > 0 and int(disliked) > 0
    seen = (tiny_world / "lvu" / "lvu_1.0" / "view_count" / "train.csv").read_text().splitlines()
    assert seen[0] == "view_count youtube_id imdb_id" and int(seen[1].split()[0]) > 0


def test_boxes_lie_in_the_frame_and_tracks_are_cast_members(tiny_world):
    with (tiny_world / "lvu" / "boxes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["video", "second", "x1", "y1", "x2", "y2", "track", "shot"]
    for row in rows:
        x1, y1, x2, y2 = (float(row[name]) for name in ("x1", "y1", "x2", "y2"))
        assert 0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 64
        assert row["track"] in "012" and 0 <= int(row["second"]) < 60


def test_boxes_off_screen_are_the_bystander_s_alone(tiny_world):
    stories = {story["id"]: story for story in read_stories(tiny_world)}
    with (tiny_world / "lvu" / "boxes.csv").open() as file:
        for row in csv.DictReader(file):
            event = stories[row["video"]]["events"][int(row["second"]) // 2]
            assert (row["track"] == "2") == event["off_screen"]


def test_shots_change_with_the_scene(tiny_world):
    stories = {story["id"]: story for story in read_stories(tiny_world)}
    with (tiny_world / "lvu" / "boxes.csv").open() as file:
        shots = {(row["video"], int(row["second"]) // 2): int(row["shot"]) for row in csv.DictReader(file)}
    for (video, number), shot in shots.items():
        scenes = [event["scene"] for event in stories[video]["events"][: number + 1]]
        assert shot == sum(one != other for one, other in zip(scenes, scenes[1:], strict=False))


def test_kinetics_lists_are_pyslowfast_s(tiny_world):
    home = tiny_world / "kinetics"
    classes = (home / "classes.txt").read_text().splitlines()
    rows = [line.split(" ") for name in ("train", "val") for line in (home / f"{name}.csv").read_text().splitlines()]
    assert all(len(row) == 2 and (home / row[0]).is_file() for row in rows)
    assert Counter(int(label) for _, label in rows) == dict.fromkeys(range(len(classes)), 2)
    assert len({path for path, _ in rows}) == len(rows)
