import json
import shutil

import pytest

from kuleshov.cli import main


def checked(capsys, *words) -> dict:
    assert main(["check", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_generated_world_is_whole(tiny_world, capsys):
    found = checked(capsys, "kinetics", "--root", tiny_world / "kinetics")
    assert all(one["listed"] == one["readable"] > 0 and not one["short"] for one in found.values())
    found = checked(capsys, "vidsitu", "--root", tiny_world / "vidsitu")
    assert found["splits"]["valid"]["missing_videos"] == 0
    found = checked(capsys, "lvu", "--root", tiny_world / "lvu")
    assert found["movies"] == found["movies_present"] == 4


@pytest.mark.parametrize(
    ("data", "shown"),
    [("kinetics", "readable"), ("k400", "readable"), ("vidsitu", "missing videos"), ("lvu", "movies: 4 of 4")],
)
def test_tables_for_people(tiny_world, capsys, data, shown):
    assert main(["check", data, "--root", str(tiny_world / data.replace("k400", "kinetics"))]) == 0
    assert shown in capsys.readouterr().out


def test_bad_files_of_a_folder_are_named(tiny_world, tmp_path, capsys):
    good = sorted((tiny_world / "kinetics" / "clips").glob("*.mp4"))[0]
    shutil.copy(good, tmp_path / "a.mp4")
    shutil.copy(good, tmp_path / "b.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    assert main(["check", "folder", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "unreadable: " in out and "bad.mp4" in out and "the same content: " in out


def test_the_paper_s_241_videos(real_data, tmp_path, capsys):
    split = tmp_path / "valid_without_lvu.json"
    words = ["--against", f"lvu={real_data / 'lvu'}", "--write-split", split]
    found = checked(capsys, "vidsitu", "--root", real_data / "vidsitu", *words)
    shared = found["overlap"]["lvu"]
    assert (shared["videos"], shared["segments"], shared["remaining_segments"]) == (241, 441, 883)
    assert len(json.loads(split.read_text())) == 883


def test_mistakes_are_one_line(tmp_path, capsys):
    for words, code, text in (
        (["lvu", "--root", tmp_path, "--against", "vidsitu=x"], 2, "go with vidsitu, not with lvu"),
        (["vidsitu", "--root", tmp_path, "--against", "lvu"], 2, "--against takes NAME=DIR"),
        (["vidsitu", "--root", tmp_path, "--write-split", "x.json"], 2, "--write-split needs --against"),
        (["kinetics", "--root", tmp_path / "none"], 1, "not found at"),
    ):
        assert main(["check", *map(str, words)]) == code
        captured = capsys.readouterr()
        assert text in captured.err and captured.err.count("\n") == 1 and captured.out == ""


def test_motion_is_written_once(tiny_world, tmp_path, capsys):
    clips = tmp_path / "clips"
    clips.mkdir()
    shutil.copy(sorted((tiny_world / "kinetics" / "clips").glob("*.mp4"))[0], clips / "a.mp4")
    words = ["motion", "--data", "folder", "--root", str(clips), "--output", str(tmp_path / "motion"), "--json"]
    words += ["--fps", "4", "--short-side", "32", "--workers", "0"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == {"written": 1, "present": 0, "failed": {}}
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["present"] == 1
