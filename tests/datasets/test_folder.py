"""Finding videos, and telling what of them can be read."""

import os
import sys

import pytest

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError
from kuleshov.datasets import folder


@pytest.fixture
def tree(tmp_path):
    for name in ("b.mp4", "a.MKV", "sub/c.webm", "sub/.hidden.mp4", ".git/d.mp4", "notes.md"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "tree"


def test_a_folder_is_searched_with_all_below(tree):
    found = folder.find_videos(tree)
    assert [video.id for video in found] == ["a", "b", "sub/c"]
    assert found[2].path == tree / "sub" / "c.webm"


def test_files_patterns_and_folders_together_name_a_file_once(tree):
    found = folder.find_videos([str(tree / "b.mp4"), str(tree / "*.mp4"), str(tree / "sub"), tree])
    assert [video.id for video in found] == ["a", "b", "c"]


def test_a_list_is_relative_to_itself(tree):
    (tree / "list.txt").write_text("# chosen\nb.mp4\n\nsub/c.webm\n")
    assert [video.id for video in folder.find_videos(tree / "list.txt")] == ["b", "c"]
    (tree / "list.txt").write_text("b.mp4\ngone.mp4\n")
    with pytest.raises(MissingDataError, match=r"gone\.mp4: it is named in .*list\.txt, line 2"):
        folder.find_videos(tree / "list.txt")


def test_links_are_followed_and_what_is_no_file_is_named(tree, tmp_path, caplog):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "e.mp4").write_bytes(b"e")
    (tree / "linked").symlink_to(elsewhere, target_is_directory=True)
    (tree / "f.mp4").symlink_to(elsewhere / "e.mp4")
    (tree / "sub" / "round").symlink_to(tree, target_is_directory=True)
    (tree / "broken.mp4").symlink_to(tree / "nothing.mp4")
    (tree / "folder.mp4").mkdir()
    os.mkfifo(tree / "pipe.mp4")
    assert [video.id for video in folder.find_videos([str(tree)])] == ["a", "b", "f", "sub/c"]
    text = " ".join(caplog.messages)
    assert "3 left out" in text and "round is a folder that was read before" in text
    assert "broken.mp4 (a broken link)" in text and "folder.mp4 (a folder)" in text and "pipe.mp4 (no reg" in text
    (tree / "f.mp4").unlink()
    assert [video.id for video in folder.find_videos([str(tree)])] == ["a", "b", "linked/e", "sub/c"]
    caplog.clear()
    assert [video.id for video in folder.find_videos([str(tree / "*.mp4")])] == ["b"]
    assert "broken.mp4 (a broken link)" in caplog.text


def test_names_that_are_not_utf8_get_ids_that_are(tree):
    (tree / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"x")
    (tree / "Solaris: é.mp4").write_bytes(b"y")
    assert [video.id for video in folder.find_videos(tree)] == ["Solaris: é", "a", "b", r"caf\xe9", "sub/c"]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lists_as_other_programs_write_them(tree, ends, mark):
    (tree / 'say "hi", you.mp4').write_bytes(b"x")
    lines = ['"say ""hi"", you.mp4"', "b.mp4", 'say "hi", you.mp4', '"sub/c.webm"', ""]
    (tree / "list.csv").write_text(mark + ends.join(lines), newline="")
    assert [video.id for video in folder.find_videos(tree / "list.csv")] == ["b", "c", 'say "hi", you']


def test_same_names_keep_their_endings_or_are_refused(tree):
    (tree / "b.avi").write_bytes(b"x")
    assert [video.id for video in folder.find_videos(tree)] == ["a", "b.avi", "b.mp4", "sub/c"]
    (tree / "other").mkdir()
    (tree / "other" / "b.mp4").write_bytes(b"y")
    with pytest.raises(KuleshovError, match=r"two videos have the id b\.mp4: .*tree/b\.mp4 and .*other/b\.mp4"):
        folder.find_videos([tree / "b.mp4", tree / "other" / "b.mp4"])


def test_what_is_not_there_is_told(tmp_path, tree):
    with pytest.raises(MissingDataError, match=r"videos not found at .*gone: name a file, a folder"):
        folder.find_videos(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="none below this folder ends in"):
        folder.find_videos(tmp_path / "empty")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="not UTF-8 text"):
        folder.find_videos(tmp_path / "list.txt")


@pytest.fixture
def movies(tmp_path, write_clip):
    for name, seconds in (("good", 3), ("short", 1)):
        write_clip(tmp_path / "movies" / f"{name}.mp4", seconds)
    (tmp_path / "movies" / "copy.mp4").write_bytes((tmp_path / "movies" / "good.mp4").read_bytes())
    (tmp_path / "movies" / "bad.mp4").write_bytes(b"nothing")
    return tmp_path / "movies"


def checked(path, **options):
    return folder.check(path, **options)["splits"]["files"]


def test_check_tells_readable_short_and_doubled_files(movies):
    report = checked(movies, least_seconds=2.0)
    assert (report["listed"], report["there"], report["readable"]) == (4, 4, 3)
    assert list(report["unreadable"]) == [str(movies / "bad.mp4")]
    assert report["unreadable"][str(movies / "bad.mp4")].startswith("it cannot be opened")
    assert report["short"] == {str(movies / "short.mp4"): 1.0}
    assert report["duplicates"] == [[str(movies / "copy.mp4"), str(movies / "good.mp4")]]
    assert report["seconds"] == pytest.approx(7.0)


def stand_in(monkeypatch, tmp_path, on_bad):
    """Replace the examining process by one that does `on_bad` at a path with `bad` in it."""
    script = tmp_path / "stand_in.py"
    script.write_text(
        "import json, os, signal, sys\n"
        "for path in json.load(sys.stdin):\n"
        f"    if 'bad' in path: {on_bad}\n"
        "    print(json.dumps(dict(path=path, reason=None, seconds=3.0, remark='', sha256=path)), flush=True)\n"
    )
    monkeypatch.setattr("kuleshov.datasets.file_check._COMMAND", (sys.executable, str(script)))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_kills_its_process_is_only_one_more_bad_file(movies, monkeypatch, tmp_path, workers):
    stand_in(monkeypatch, tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    report = checked(movies, workers=workers)
    assert report["unreadable"] == {str(movies / "bad.mp4"): "it crashes the decoder"}
    assert report["readable"] == 3


def test_a_process_that_fails_for_itself_is_not_blamed_on_files(movies, monkeypatch, tmp_path):
    stand_in(monkeypatch, tmp_path, "raise ImportError('no such module')")
    with pytest.raises(KuleshovError, match=r"failed before .*bad\.mp4: ImportError: no such module"):
        folder.check(movies, workers=1)


def test_real_videos_are_told_apart(real_data):
    report = checked(real_data / "videos")
    assert (report["listed"], report["readable"]) == (8, 7)
    assert [path.split("/")[-1] for path in report["unreadable"]] == ["corrupted.mp4"]
    # 10, 9.5, 10.381, 1.067, 10.01, 0.125 and 0.1
    assert report["seconds"] == pytest.approx(41.168, abs=0.01)
    assert [path.split("/")[-1] for path in report["short"]] == ["part_0.mp4", "unordered.mov", "video_90.mov"]
