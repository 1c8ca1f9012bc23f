"""Event stores: written movie by movie, killed, continued, damaged, read back."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch

from kuleshov.core import files as manifest
from kuleshov.core.errors import StoreError
from kuleshov.features.event_store import EventStore
from kuleshov.features.event_store_format import event_count
from kuleshov.features.event_store_writer import TORCH, StoreWriter

COUNTS = {"b": 3, "a": 5, "d/e": 1, "c_-": 4}


def features(name: str, width: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(COUNTS[name])
    return torch.randn(COUNTS[name], width, generator=generator)


def write(folder: Path, names=tuple(COUNTS), dtype: str = "fp32", part_bytes: int = 100_000, **settings) -> Path:
    writer = StoreWriter(folder, 6, 2.0, 1.0, dtype, settings, part_bytes)
    for name in names:
        if name not in writer.done:
            writer.add(name, features(name), start=0.5)
    writer.finish({"of": len(COUNTS)})
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_features_come_back(dtype: str, memory: bool, tmp_path: Path):
    store = EventStore(write(tmp_path / "s", dtype=dtype, part_bytes=80), memory=memory)
    assert store.movie_ids == sorted(COUNTS) and len(store) == 4 and len(store.index.parts) > 1
    for name in COUNTS:
        expected = features(name).to(TORCH[dtype]).float()
        assert torch.equal(store.events(name), expected) and store.events(name).dtype == torch.float32
        assert store.times(name) == [0.5 + i for i in range(COUNTS[name])]
    assert (store.width, store.window, store.stride, store.dtype) == (6, 2.0, 1.0, dtype)
    assert "a" in store and "z" not in store and list(store) == sorted(COUNTS)


def test_all_rows_in_one_tensor(tmp_path: Path):
    store = EventStore(write(tmp_path / "s", part_bytes=150))
    rows, offsets = store.tensor()
    assert offsets.tolist() == [0, 5, 8, 12, 13] and rows.shape == (13, 6)
    for number, name in enumerate(store.movie_ids):
        assert torch.equal(rows[offsets[number] : offsets[number + 1]], features(name))
    with pytest.raises(StoreError, match=r"is memory-mapped: use take\(\)"):
        EventStore(tmp_path / "s", memory=False).tensor()


def test_the_store_does_not_depend_on_order_processes_or_interruptions(tmp_path: Path):
    whole = contents(write(tmp_path / "whole", part_bytes=200))
    first = StoreWriter(tmp_path / "parts", 6, 2.0, 1.0, "fp32", {}, 200)
    second = StoreWriter(tmp_path / "parts", 6, 2.0, 1.0, "fp32", {}, 200)
    second.add("d/e", features("d/e"), 0.5)
    first.add("b", features("b"), 0.5)
    # killed here, and run again
    assert StoreWriter(tmp_path / "parts", 6, 2.0, 1.0, "fp32", {}, 200).done == {"b", "d/e"}
    assert contents(write(tmp_path / "parts", part_bytes=200)) == whole


@pytest.mark.parametrize("writes", range(1, 9))
def test_killed_while_packing_it_goes_on(writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = contents(write(tmp_path / "whole", part_bytes=200))
    folder = tmp_path / "killed"
    writer = StoreWriter(folder, 6, 2.0, 1.0, "fp32", {}, 200)
    for name in COUNTS:
        writer.add(name, features(name), 0.5)
    left = iter(range(writes))

    def killed(source, target, real=manifest.os.replace):
        if next(left, None) is None:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("kuleshov.core.files.os.replace", killed)
        try:
            writer.finish({"of": len(COUNTS)})
        except KeyboardInterrupt:
            assert writes < 8
    assert contents(write(folder, part_bytes=200)) == whole


def test_a_full_disk_leaves_a_store_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = StoreWriter(tmp_path / "s", 6, 2.0, 1.0, "fp32")
    writer.add("a", features("a"), 0.5)
    with monkeypatch.context() as patch:
        patch.setattr("kuleshov.core.files.os.fsync", full)
        line = r"cannot write to .*s \(No space left on device\): 1 movies are kept, make room and run the same"
        with pytest.raises(StoreError, match=line):
            writer.add("b", features("b"))
        with pytest.raises(StoreError, match=line):
            writer.finish()
        with pytest.raises(StoreError, match=r"is an unfinished store: run the same extraction again"):
            EventStore(tmp_path / "s")
    assert contents(write(tmp_path / "s")) == contents(write(tmp_path / "whole"))


def test_movies_can_be_added_to_a_finished_store(tmp_path: Path):
    write(tmp_path / "s", names=["a", "c_-"])
    before = (tmp_path / "s" / "part-00000.safetensors").read_bytes()
    store = EventStore(write(tmp_path / "s"))
    assert store.movie_ids == ["a", "c_-", "b", "d/e"]
    assert torch.equal(store.events("b"), features("b"))
    assert (tmp_path / "s" / "part-00000.safetensors").read_bytes() == before
    assert store.manifest["complete"] is True and store.manifest["of"] == 4


def test_damaged_pending_movies_are_done_again(tmp_path: Path):
    writer = StoreWriter(tmp_path / "s", 6, 2.0, 1.0, "fp32")
    writer.add("a", features("a"))
    path = next(writer.pending.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:40])
    assert StoreWriter(tmp_path / "s", 6, 2.0, 1.0, "fp32").done == set()


def test_other_settings_are_refused(tmp_path: Path):
    write(tmp_path / "s", trim="x")
    with pytest.raises(StoreError, match=r"s was written with trim=x, now it is y: name another folder"):
        StoreWriter(tmp_path / "s", 6, 2.0, 1.0, "fp32", {"trim": "y"})
    with pytest.raises(StoreError, match=r"s was written with width=6, now it is 7"):
        StoreWriter(tmp_path / "s", 7, 2.0, 1.0, "fp32", {"trim": "x"})


def test_foreign_folders_are_refused(tmp_path: Path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match=r"has files that are no event store: name an empty folder"):
        StoreWriter(tmp_path / "s", 6, 2.0, 1.0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.full((2, 6), torch.nan), r"features of m are not finite in fp16: not written"),
        (torch.full((2, 6), 1e6), r"features of m are not finite in fp16"),
        (torch.zeros(2, 5), r"features of m have shape \(2, 5\), the store needs \(n, 6\)"),
        (torch.zeros(0, 6), r"features of m have shape \(0, 6\)"),
    ],
)
def test_bad_features_are_refused(rows: torch.Tensor, message: str, tmp_path: Path):
    with pytest.raises(StoreError, match=message):
        StoreWriter(tmp_path / "s", 6, 2.0, 1.0).add("m", rows)


def damage(folder: Path, kind: str) -> None:
    part, index = folder / "part-00000.safetensors", folder / "index.json"
    raw = bytearray(part.read_bytes())
    if kind == "truncated":
        part.write_bytes(raw[:-8])
    elif kind == "short":
        part.write_bytes(raw[:5])
    elif kind == "flipped":
        raw[-1] ^= 1
        part.write_bytes(raw)
    elif kind == "missing":
        part.unlink()
    elif kind == "nan":
        raw[-4:] = b"\xff\xff\xff\xff"
        part.write_bytes(raw)
        text = json.loads(index.read_text())
        text["parts"][part.name]["sha256"] = manifest.sha256_file(part)
        index.write_text(json.dumps(text))
    elif kind == "unlisted":
        text = json.loads(index.read_text())
        text["movies"]["a"]["part"] = "part-00007.safetensors"
        index.write_text(json.dumps(text))
    elif kind == "outside":
        text = json.loads(index.read_text())
        text["movies"]["a"]["events"] = 99
        index.write_text(json.dumps(text))
    elif kind == "format":
        index.write_text('{"format": 9}')
    elif kind == "field":
        index.write_text('{"format": 1}')
    elif kind == "gone":
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", r"part-00000\.safetensors is truncated \(\d+ bytes\): extract again"),
        ("short", r"part-00000\.safetensors is truncated \(5 bytes\)"),
        ("flipped", r"part-00000\.safetensors differs from the checksum in the index: it is damaged"),
        ("missing", r"the index names part-00000\.safetensors, which is not there: extract again"),
        ("nan", r"part-00000\.safetensors: features of movie d/e are not finite: extract again"),
        ("unlisted", r"movie a is in part-00007\.safetensors, which the index does not list"),
        ("outside", r"movie a is outside part-00000\.safetensors's 13 rows"),
        ("format", r"index\.json has format 9, this version reads 1: extract again"),
        ("field", r"index\.json lacks a field or has one too many \('parts'\): extract again"),
        ("gone", r"no event store at .*s: make one with `kuleshov extract`"),
    ],
)
def test_damage_is_named_in_one_line(kind: str, message: str, tmp_path: Path):
    damage(write(tmp_path / "s"), kind)
    with pytest.raises(StoreError, match=message) as error:
        EventStore(tmp_path / "s")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"width": 7}, r"s has width 6, 7 was asked for: name another store or extract again"),
        ({"stride": 2.0}, r"s has stride 1\.0, 2\.0 was asked for"),
        ({"backbone_sha256": "beef"}, r"s has backbone cafe, beef was asked for"),
    ],
)
def test_another_store_than_asked_for_is_refused(asked: dict, message: str, tmp_path: Path):
    write(tmp_path / "s", backbone={"sha256": "cafe"})
    with pytest.raises(StoreError, match=message):
        EventStore(tmp_path / "s", **asked)
    assert EventStore(tmp_path / "s", width=6, stride=1.0, backbone_sha256="cafe").backbone_sha256 == "cafe"


def test_segments_need_enough_events_on_their_grid(tmp_path: Path):
    store = EventStore(write(tmp_path / "s"))
    assert torch.equal(store.segment("a", n=3), features("a")[::2])
    with pytest.raises(StoreError, match=r"movie a has 5 events 1\.0 s apart, 5 events 2\.0 s apart need 9"):
        store.segment("a")
    with pytest.raises(StoreError, match=r"has an event every 1\.0 s, 1\.5 s is no multiple of it"):
        store.segment("a", stride_s=1.5)
    with pytest.raises(StoreError, match=r"has no movie nobody: extract it first"):
        store.events("nobody")


@pytest.mark.parametrize(
    ("duration", "stride", "expected"),
    [(10.0, 2.0, 5), (10.0, 1.0, 9), (1.99, 1.0, 0), (2.0, 1.0, 1), (9.9999, 2.0, 5), (60.0, 1.0, 59), (11.9, 2.0, 5)],
)
def test_event_count(duration: float, stride: float, expected: int):
    assert event_count(duration, 2.0, stride) == expected
