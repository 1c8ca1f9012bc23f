"""A data set is one entry: what lists, finds, checks or prepares data sets reads it."""

import shutil

import pytest

from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.datasets.checks import check_command
from kuleshov.datasets.folder import find_videos
from kuleshov.datasets.motion import motion_command
from kuleshov.datasets.registry import DATA_SETS, DataSet, data_set
from kuleshov.pretraining.clip_data import ClipPairs


@pytest.fixture
def toy(tmp_path, monkeypatch, write_clip):
    """An entry of a data set of one video in two splits, of which one video is missing."""
    write_clip(tmp_path / "data" / "toys" / "a.mp4", 1)

    def find(root, split, video_root):
        return find_videos(video_root or root), [f"lost of {split}"]

    def check(root, least_seconds=2.0):
        return {"table": [{"split": "all", "long_ones": 0.0, "seconds": least_seconds}], "notes": ["no [videos]"]}

    entry = DataSet("toy", ("toy", "toys"), "toy-world", "buy some", ("one", "two"), find, check)
    monkeypatch.setitem(DATA_SETS, "toy", entry)
    return tmp_path / "data"


def test_an_entry_is_all_that_a_data_set_needs(toy, tmp_path):
    entry = data_set("toy")
    root = entry.locate(toy)
    assert root == toy / "toys" and entry.locate(None, tmp_path) == tmp_path / "toy-world"
    videos, missing = entry.videos(root)
    assert [video.id for video in videos] == ["a"] and missing == ["lost of one", "lost of two"]
    assert [video.id for video in entry.videos(tmp_path, ["one"], root)[0]] == ["a"]
    checked = check_command("toy", root, least_seconds=3.0)
    assert checked.to_dict()["table"][0]["seconds"] == 3.0
    assert "long ones" in str(checked) and "3.00" in str(checked) and str(checked).endswith("no [videos]")
    assert motion_command(root, tmp_path / "motion", data="toy", fps=4, workers=0).to_dict()["written"] == 1
    clips = ClipPairs(str(root), kind="toy", split="one")
    clips.setup("fit")
    assert len(clips.videos) == 1


def test_what_is_not_there_is_told_with_what_to_do(toy, tmp_path):
    with pytest.raises(MissingDataError, match="data set toy not found at .*nowhere/toy: buy some, or add SCALE=demo"):
        data_set("toy").locate(tmp_path / "nowhere")
    with pytest.raises(KuleshovError, match="no data set is called 'tov'; did you mean toy"):
        data_set("tov")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="empty"):
        data_set("toy").videos(tmp_path / "empty")


@pytest.mark.parametrize("name", ["k400", "kinetics", "vidsitu", "lvu", "folder"])
def test_the_generated_world_s_data_sets(tiny_world, name):
    entry = data_set(name)
    videos, missing = entry.videos(entry.locate(None, tiny_world))
    assert videos and missing == [] and len({video.id for video in videos}) == len(videos)


def test_a_list_is_a_data_set_too(tiny_world):
    home = tiny_world / "kinetics"
    listed = data_set("kinetics").videos(home / "train.csv")[0]
    assert listed == data_set("k400").videos(home, ["train"])[0]
    assert all(video.label is not None for video in listed)


def test_splits_that_are_not_there_are_passed_over(tiny_world, tmp_path):
    home = shutil.copytree(tiny_world / "kinetics", tmp_path / "kinetics")
    (home / "val.csv").unlink()
    assert data_set("k400").videos(home)[0] == data_set("k400").videos(home, ["train"])[0]
    with pytest.raises(MissingDataError, match="Kinetics split val"):
        data_set("k400").videos(home, ["val"])


def test_videos_that_are_all_missing_are_refused(tiny_world, tmp_path):
    for name in ("vidsitu", "lvu"):
        with pytest.raises(MissingDataError, match=f"videos of {name} not found at .*: all .* are missing: put"):
            data_set(name).videos(tiny_world / name, video_root=tmp_path)


def test_movies_of_lvu_are_in_the_order_of_their_ids(tiny_world):
    ids = [video.id for video in data_set("lvu").videos(tiny_world / "lvu")[0]]
    assert ids == sorted(ids)
