"""A sample is laid out as the whole, and small."""

from pathlib import Path

import pytest

from kuleshov.core.errors import KuleshovError, UsageError
from kuleshov.datasets.kinetics import read_kinetics
from kuleshov.datasets.lvu import LVU_SPLITS, Lvu
from kuleshov.datasets.registry import DATA_SETS
from kuleshov.datasets.sample import sample_command, varied
from kuleshov.datasets.shards import pack_command
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.video.shard_member import shard_member


def test_labels_that_were_not_met_come_first():
    items = list(zip("aabac", range(5), strict=True))
    assert varied(items, 3) == [0, 2, 4] and varied(items, 4) == [0, 2, 4, 1] and varied(items, 9) == [0, 2, 4, 1, 3]


@pytest.mark.parametrize("name", DATA_SETS)
def test_all_of_a_sample_is_there(tiny_world: Path, tmp_path: Path, name: str):
    entry = DATA_SETS[name]
    whole = entry.locate(None, tiny_world)
    if name == "shards":
        whole = tmp_path / "packed"
        pack_command(whole, "k400", tiny_world / "kinetics", progress=False)
    found = sample_command(name, whole, tmp_path / "sample", 2)
    videos, missing = entry.videos(tmp_path / "sample")
    files = [Path(shard_member(video.path).shard) if shard_member(video.path) else video.path for video in videos]
    assert videos and not missing and all(file.is_symlink() for file in files)
    assert len(videos) <= len(entry.videos(whole)[0]) and str(found).startswith(f"{tmp_path / 'sample'}: ")
    entry.check(tmp_path / "sample")


def test_annotations_are_those_of_the_whole(tiny_world: Path, tmp_path: Path):
    for name in ("k400", "vidsitu", "lvu"):
        sample_command(name, DATA_SETS[name].locate(None, tiny_world), tmp_path / name, 2)
    clips = read_kinetics(tmp_path / "k400", "train").videos
    assert len({clip.label for clip in clips}) == len(clips) == 2
    part, whole = VidSitu(tmp_path / "vidsitu"), VidSitu(tiny_world / "vidsitu")
    for split in ("train", "valid"):
        assert part.segments(split) == whole.segments(split)[:2]
        assert part.annotations(split) == {name: whole.annotations(split)[name] for name in part.segments(split)}
    assert part.verbs("valid") == {name: whole.verbs("valid")[name] for name in part.segments("valid")}
    part, whole = Lvu(tmp_path / "lvu"), Lvu(tiny_world / "lvu")
    for task in whole.tasks:
        for split in LVU_SPLITS:
            assert 0 < len(part.rows(task, split)) <= 2 and set(part.rows(task, split)) <= set(whole.rows(task, split))
    boxes = (tmp_path / "lvu" / "boxes.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in boxes[1:]} == {video.id for video in part.videos()[0]}


def test_segments_without_any_video_are_those_of_features(tiny_world: Path, tmp_path: Path):
    root = tmp_path / "vidsitu"
    root.mkdir()
    for folder in ("split_files", "vseg_ann_files", "vinfo_files"):
        (root / folder).symlink_to(tiny_world / "vidsitu" / folder)
    sample_command("vidsitu", root, tmp_path / "sample", 3)
    assert len(VidSitu(tmp_path / "sample").segments("train")) == 3


def test_a_count_below_one_is_refused(tiny_world: Path, tmp_path: Path):
    with pytest.raises(KuleshovError, match="count"):
        sample_command("lvu", tiny_world / "lvu", tmp_path / "sample", 0)


def test_a_data_set_without_videos_is_refused(tmp_path: Path):
    (tmp_path / "train.csv").write_text("a.mp4 0\n")
    with pytest.raises(KuleshovError, match="videos of k400 not found"):
        sample_command("k400", tmp_path, tmp_path / "sample", 2)


def test_a_sample_never_takes_a_file_s_place(tmp_path: Path):
    films = tmp_path / "films"
    films.mkdir()
    (films / "a.mp4").write_bytes(b"a")
    with pytest.raises(UsageError, match="--output is --root"):
        sample_command("folder", films, films / ".." / "films")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.mp4").write_bytes(b"mine")
    with pytest.raises(KuleshovError, match=r"out/a\.mp4 is there already"):
        sample_command("folder", films, tmp_path / "out")
    assert (films / "a.mp4").read_bytes() == b"a" and (tmp_path / "out" / "a.mp4").read_bytes() == b"mine"


def test_videos_of_one_name_stay_several(tmp_path: Path):
    for label in ("run", "jump"):
        (tmp_path / "k400" / "train" / label).mkdir(parents=True)
        (tmp_path / "k400" / "train" / label / "1.mp4").write_text(label)
    sample_command("k400", tmp_path / "k400", tmp_path / "sample", 2)
    found = read_kinetics(tmp_path / "sample", "train").videos
    assert sorted((video.path.read_text(), video.label) for video in found) == [("jump", 0), ("run", 1)]
