"""Tar shards: packed, indexed, killed and continued, read from anywhere, and the same clips as from files."""

import io
import shutil
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError, UsageError, VideoError
from kuleshov.datasets.registry import data_set
from kuleshov.datasets.shards import pack_command, sample
from kuleshov.pretraining.clip_data import ClipPairs
from kuleshov.video.bad_files import BadFiles
from kuleshov.video.metadata import probe
from kuleshov.video.reader import VideoReader
from kuleshov.video.shard_member import _fetch, as_url, shard_member


@pytest.fixture(scope="module")
def shards(tiny_world, tmp_path_factory) -> Path:
    """The tiny world's Kinetics clips in shards of a megabyte."""
    output = tmp_path_factory.mktemp("packed")
    packed = pack_command(output, "k400", tiny_world / "kinetics", megabytes=1, progress=False)
    assert packed.failed == {} and f"{packed.splits['train']['videos']} videos in" in str(packed)
    return output


def test_shards_hold_what_the_files_hold(shards, tiny_world):
    for split in ("train", "val"):
        files, _ = data_set("k400").videos(tiny_world / "kinetics", (split,))
        packed, missing = data_set("shards").videos(shards, (split,))
        assert missing == [] and [(one.id, one.label) for one in packed] == [(one.id, one.label) for one in files]
        for file, member in list(zip(files, packed, strict=True))[::7]:
            assert shard_member(member.path).read() == file.path.read_bytes()
            assert probe(member.path) == probe(file.path)


@pytest.mark.parametrize("backend", ["pyav", "decord"])
def test_frames_are_those_of_the_file(shards, tiny_world, backend):
    file = data_set("k400").videos(tiny_world / "kinetics", ("val",))[0][0]
    member = data_set("shards").videos(shards, ("val",))[0][0]
    try:
        reader = VideoReader(backend)
    except KuleshovError as error:
        pytest.skip(str(error))
    times = [0.0, 1.3, 4.9]
    assert np.array_equal(reader.read(member.path, times), reader.read(file.path, times))


def test_pretraining_sees_the_same_clips(shards, tiny_world):
    options = {"batch_size": 2, "num_workers": 0, "num_frames": 4, "crop_size": 32, "short_side": 36, "seed": 3}
    found = []
    for kind, root in (("kinetics", tiny_world / "kinetics"), ("shards", shards)):
        clips = ClipPairs(str(root), kind=kind, **options)
        clips.setup("fit")
        found.append(clips.train_clips[1])
    assert found[0].keys() == found[1].keys()
    for name in found[0].keys() - {"read_s"}:
        assert torch.equal(found[0][name], found[1][name])


def test_shards_behind_a_url(shards):
    memory = fsspec.filesystem("memory")
    for path in shards.iterdir():
        if path.suffix in (".tar", ".csv"):
            memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    here, there = data_set("shards").videos(shards)[0], data_set("shards").videos("memory://bucket")[0]
    assert [one.id for one in here] == [one.id for one in there]
    assert shard_member(there[0].path).shard == f"memory://bucket/{shard_member(here[0].path).shard.split('/')[-1]}"
    assert shard_member(there[0].path).read() == shard_member(here[0].path).read()
    assert as_url(Path("s3://bucket/a.tar")) == "s3://bucket/a.tar" and as_url("/a/b.tar") == "/a/b.tar"


def test_packing_goes_on_after_the_last_whole_shard(shards, tiny_world, tmp_path):
    output = shutil.copytree(shards, tmp_path / "copy")
    kept = {path.name: path.read_bytes() for path in output.glob("*.tar")}
    assert len(kept) >= 2
    first, last = min(kept), max(kept)
    (output / last).unlink()
    stamp = (output / first).stat().st_mtime_ns
    pack_command(output, "k400", tiny_world / "kinetics", megabytes=1, progress=False)
    assert {path.name: path.read_bytes() for path in output.glob("*.tar")} == kept
    assert (output / first).stat().st_mtime_ns == stamp
    with pytest.raises(KuleshovError, match="says other videos or sizes"):
        pack_command(output, "k400", tiny_world / "kinetics", megabytes=2, progress=False)


def test_somebody_else_s_shards(tiny_world, tmp_path):
    video = next((tiny_world / "kinetics" / "clips").iterdir()).read_bytes()
    members = {"a/one.mp4": video, "a/one.cls": b"3", "a/one.json": b"{}", "two.x.mp4": video, "two.txt": b"dance"}
    with tarfile.open(tmp_path / "kinetics-000.tar", "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert pack_command(tmp_path, progress=False).splits["train"]["videos"] == 2
    videos, missing = data_set("shards").videos(tmp_path)
    assert [(one.id, one.label) for one in videos] == [("a/one", 3), ("two", None)] and missing == []
    assert shard_member(videos[1].path).read() == video
    # a shard that is no longer there, and one that was cut
    (tmp_path / "kinetics-000.tar").write_bytes((tmp_path / "kinetics-000.tar").read_bytes()[:5000])
    _fetch.cache_clear()
    with pytest.raises(VideoError, match=r"kinetics-000.tar.*its shard ends before byte"):
        probe(videos[1].path)
    listed = BadFiles(5)
    listed.add(VideoError(videos[1].path, "cut"))
    assert list(listed.reasons.values()) == ["cut"]
    (tmp_path / "kinetics-000.tar").unlink()
    with pytest.raises(MissingDataError, match="all 2 are missing: pack videos with `kuleshov pack`"):
        data_set("shards").videos(tmp_path)


def test_the_check_reads_shards(shards):
    found = data_set("shards").check(shards)
    train = found["splits"]["train"]
    assert train["readable"] == train["there"] == train["listed"] > 10
    assert train["unreadable"] == {} and train["duplicates"] == []


def test_mistakes_are_one_line(tiny_world, tmp_path):
    with pytest.raises(MissingDataError, match="tar shards not found at .*--root to pack"):
        pack_command(tmp_path, progress=False)
    with pytest.raises(MissingDataError, match="index of shards not found at .*train.shards.csv: make it with"):
        data_set("shards").videos(tmp_path, ("train",))
    with pytest.raises(UsageError, match="vidsitu's videos are parts of them: choose k400, lvu or folder"):
        pack_command(tmp_path / "new", "vidsitu", tiny_world / "vidsitu", progress=False)
    with pytest.raises(UsageError, match="s3://bucket: shards behind a URL cannot be linked"):
        sample(Path("s3://bucket"), tmp_path / "sample", 2)
    with pytest.raises(UsageError, match="--megabytes has to be a number above 0"):
        pack_command(tmp_path, megabytes=0)
    (tmp_path / "train.shards.csv").write_text("a,b\n")
    with pytest.raises(FormatError, match="expected the columns shard,offset"):
        data_set("shards").videos(tmp_path, ("train",))
    (tmp_path / "train.shards.csv").write_text("shard,offset,size,id,label,suffix\na.tar,x,1,a,,.mp4\n")
    with pytest.raises(FormatError, match="expected shard,offset.*, got"):
        data_set("shards").videos(tmp_path, ("train",))
    (tmp_path / "b.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(FormatError, match="b.tar.*it is no whole tar file"):
        pack_command(tmp_path, progress=False)


def test_a_video_that_cannot_be_read_is_named(tiny_world, tmp_path, monkeypatch):
    read = Path.read_bytes
    bad = data_set("k400").videos(tiny_world / "kinetics", ("train",))[0][3].path

    def refuse(path: Path) -> bytes:
        if path == bad:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(VideoError, match=f"{bad.name}.*it cannot be packed .*[Pp]ermission"):
        pack_command(tmp_path / "new", "k400", tiny_world / "kinetics", progress=False)
    assert not list((tmp_path / "new").glob("*.tar"))
