"""`kuleshov check` and `kuleshov motion`: what they find, print, and refuse."""

import json
import shutil

import pytest

from kuleshov.core.errors import KuleshovError, UsageError
from kuleshov.datasets.checks import check_command
from kuleshov.datasets.motion import motion_command


@pytest.mark.parametrize(
    ("data", "shown"),
    [("kinetics", "readable"), ("k400", "hours"), ("vidsitu", "missing videos"), ("lvu", "movies: 4 of 4")],
)
def test_a_generated_world_is_whole(tiny_world, data, shown):
    found = check_command(data, tiny_world / data.replace("k400", "kinetics"))
    assert shown in str(found)
    plain = json.loads(json.dumps(found.to_dict()))
    if data in ("kinetics", "k400"):
        assert all(one["listed"] == one["readable"] > 0 and not one["short"] for one in plain["splits"].values())
    elif data == "vidsitu":
        assert plain["splits"]["valid"]["missing_videos"] == 0
    else:
        assert plain["movies"] == plain["movies_present"] == 4


def test_bad_files_of_a_folder_are_named(tiny_world, tmp_path):
    good = sorted((tiny_world / "kinetics" / "clips").glob("*.mp4"))[0]
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(good, tmp_path / name)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    text = str(check_command("folder", tmp_path))
    assert "unreadable: " in text and "bad.mp4" in text and "the same content: " in text


def test_the_paper_s_241_videos(real_data, tmp_path):
    split = tmp_path / "valid_without_lvu.json"
    found = check_command("vidsitu", real_data / "vidsitu", [f"lvu={real_data / 'lvu'}"], write_split=split)
    shared = found.to_dict()["overlap"]["lvu"]
    assert (shared["videos"], shared["segments"], shared["remaining_segments"]) == (241, 441, 883)
    assert shared["videos_sha256"] == "5afe6df88077851027003b0aed2750570ec0e2fc8472b46a950b53b0a8d4a7f4"
    assert len(json.loads(split.read_text())) == 883
    assert "241 videos (441 segments) with lvu; 883 segments" in str(found)


@pytest.mark.parametrize(
    ("data", "options", "kind", "words"),
    [
        ("lvu", {"against": ["vidsitu=x"]}, UsageError, "data set lvu does not take --against"),
        ("k400", {"write_split": "x.json"}, UsageError, "k400 does not take --write-split"),
        ("vidsitu", {"against": ["lvu"]}, UsageError, "--against takes NAME=DIR.*'lvu'"),
        ("vidsitu", {"write_split": "x.json"}, UsageError, "--write-split needs --against"),
        ("kinetics", {}, KuleshovError, "not found at .*none"),
        ("lwu", {}, KuleshovError, "'lwu'; did you mean lvu"),
    ],
)
def test_mistakes_are_named(tmp_path, data, options, kind, words):
    with pytest.raises(kind, match=words):
        check_command(data, tmp_path / "none", **options)


def test_motion_is_written_once(tiny_world, tmp_path):
    clips, output = tmp_path / "clips", tmp_path / "motion"
    clips.mkdir()
    shutil.copy(sorted((tiny_world / "kinetics" / "clips").glob("*.mp4"))[0], clips / "a.mp4")
    settings = {"data": "folder", "fps": 4, "short_side": 32, "workers": 0}
    assert motion_command(clips, output, **settings).to_dict() == {"written": 1, "present": 0, "failed": {}}
    (clips / "bad.mp4").write_bytes(b"no video")
    again = motion_command(clips, output, **settings)
    assert again.to_dict()["present"] == 1 and "left out bad: it cannot be opened" in str(again)
    (clips / "a.mp4").unlink()
    with pytest.raises(KuleshovError, match="no motion of 1 videos, the first bad: it cannot be opened"):
        motion_command(clips, output, **settings)


@pytest.mark.parametrize("option", [{"fps": 0.0}, {"short_side": -1}, {"maximum": float("nan")}, {"workers": -1}])
def test_motion_of_impossible_settings_is_refused(tmp_path, option):
    (name,) = option
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} has to be"):
        motion_command(tmp_path, tmp_path / "motion", **option)
