"""Encoding a data set anew: every video once, whatever is killed, and lists that read as the old ones."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kuleshov.cli import main
from kuleshov.core.errors import KuleshovError, MissingDataError, UsageError
from kuleshov.datasets.kinetics import read_kinetics
from kuleshov.datasets.prepare import Prepared, prepare_command
from kuleshov.video.reader import VideoReader

from ..video.conftest import read_numbers, write_numbered


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train: six videos of two classes, one damaged; val: one."""
    root = tmp_path_factory.mktemp("k400")
    for number in range(7):
        split, label = ("val", "cook") if number == 6 else ("train", "cook" if number % 2 else "juggle")
        (root / split / label).mkdir(parents=True, exist_ok=True)
        write_numbered(root / split / label / f"a b{number}.mp4", range(number, number + 40), 8)
    (root / "train" / "cook" / "damaged.mp4").write_bytes(b"no video" * 50)
    return root


def prepared(root: Path, output: Path, **options):
    return prepare_command("k400", root, output, **{"short_side": 64, "workers": 2, "progress": False, **options})


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "prepared.jsonl"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_the_new_data_set_reads_as_the_old_one(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    words = ["prepare", "k400", "--root", root, "--output", tmp_path / "new", "--short-side", 64, "--gop", 8, "--json"]
    assert main([str(word) for word in words]) == 0
    made = Prepared(**json.loads(capsys.readouterr().out))
    assert (made.videos, made.of, made.missing) == (7, 8, 0) and made.psnr >= made.least_psnr > 25
    assert made.failed.keys() == {"cook/damaged"} and "left out cook/damaged: it cannot be opened" in str(made)
    assert made.after == sum(path.stat().st_size for path in (tmp_path / "new").rglob("*.mp4"))
    for split in ("train", "val"):
        old, new = read_kinetics(root, split), read_kinetics(tmp_path / "new", split)
        whole = [video for video in old.videos if video.id != "cook/damaged"]
        assert new.classes == old.classes and [v.label for v in new.videos] == [v.label for v in whole]
        for before, after in zip(whole, new.videos, strict=True):
            frames = VideoReader().read(after.path, np.arange(40) / 8)
            assert read_numbers(frames) == read_numbers(VideoReader().read(before.path, np.arange(40) / 8))


def test_what_is_done_is_not_done_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = prepared(root, tmp_path / "new")
    journal = tmp_path / "new" / "prepared.jsonl"
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "new").rglob("*.mp4")}
    lines = journal.read_text().splitlines()
    # the last line is torn, as a kill leaves it
    journal.write_text("\n".join(lines)[:-10])
    assert prepared(root, tmp_path / "new") == first
    again = [path for path, time in times.items() if path.stat().st_mtime_ns != time]
    assert [path.relative_to(tmp_path / "new").as_posix() for path in again] == [json.loads(lines[-1])["path"]]
    with pytest.raises(KuleshovError, match="other settings: choose another folder"):
        prepared(root, tmp_path / "new", crf=30)


@pytest.mark.slow
@pytest.mark.parametrize("files", [0, 2, 5])
def test_killed_at_any_moment_it_goes_on(root: Path, tmp_path: Path, files: int):
    prepared(root, tmp_path / "whole")
    words = ["prepare", "k400", "--root", root, "--output", tmp_path / "new", "--short-side", "64", "--workers", "2"]
    process = subprocess.Popen([sys.executable, "-m", "kuleshov", *map(str, words)], stderr=subprocess.DEVNULL)
    begun = time.monotonic()
    while len(list((tmp_path / "new").rglob("*.mp4"))) < files or not (tmp_path / "new" / "prepared.json").exists():
        assert time.monotonic() - begun < 60 and process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    left = tmp_path / "new" / "train" / "00" / ".a.mp4.x.tmp"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"half")
    while True:
        # the workers die a moment after it
        try:
            made = prepared(root, tmp_path / "new")
            break
        except KuleshovError as error:
            assert "is being written by another process" in str(error) and time.monotonic() - begun < 60
    assert made.videos == 7 and contents(tmp_path / "new") == contents(tmp_path / "whole")


def test_impossible_requests_are_named(root: Path, tmp_path: Path):
    for options in ({"short_side": 63}, {"crf": 52}, {"gop": 0}, {"workers": 0}):
        with pytest.raises(UsageError, match=f"--{next(iter(options)).replace('_', '-')} has to be"):
            prepared(root, tmp_path / "new", **options)
    with pytest.raises(UsageError, match="lvu has none: choose k400"):
        prepare_command("lvu", root, tmp_path / "new")
    with pytest.raises(UsageError, match="name another folder"):
        prepared(root, root)
    with pytest.raises(MissingDataError):
        prepared(tmp_path / "nothing", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "train" / "x").mkdir(parents=True)
    (tmp_path / "train" / "x" / "a.mp4").write_bytes(b"no video")
    with pytest.raises(KuleshovError, match="none of 1 videos can be read, the first x/a: it cannot be opened"):
        prepared(tmp_path, tmp_path / "new")
