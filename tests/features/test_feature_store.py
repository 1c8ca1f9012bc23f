"""Stores of events and instances: written movie by movie, killed, continued, damaged, read back."""

import errno
import json
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kuleshov.core import files
from kuleshov.core.errors import KuleshovError, StoreError, UsageError
from kuleshov.features.feature_store import TORCH, EventStore, InstanceStore, instances
from kuleshov.features.store_index import event_count
from kuleshov.features.store_writer import StoreWriter

COUNTS = {"b": 3, "a": 5, "d/e": 1, "c_-": 4}


def features(name: str, width: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(COUNTS[name])
    return torch.randn(COUNTS[name], width, generator=generator)


def some(count: int = 5, width: int = 3, seed: int = 0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.5, size=(count, 2))
    boxes = np.concatenate([low, low + 0.3], axis=1)
    return instances(rng.normal(size=(count, width)), boxes, rng.integers(0, 9, count), rng.integers(0, 3, count))


def open_events(folder: Path, part_bytes: int = 100_000, lock: bool = True, **settings) -> StoreWriter:
    return StoreWriter(folder, 6, 2.0, 1.0, settings.pop("dtype", "fp32"), settings, part_bytes, lock=lock)


def write(folder: Path, names=tuple(COUNTS), part_bytes: int = 100_000, **settings) -> Path:
    with open_events(folder, part_bytes, **settings) as writer:
        for name in writer.begin(names):
            writer.add(name, features(name), start=0.5)
        writer.finish({"note": 1})
    return folder


def write_instances(folder: Path, movies: dict, part_bytes: int = 100_000) -> InstanceStore:
    with StoreWriter(folder, 3, dtype="fp32", part_bytes=part_bytes, kind="instances") as writer:
        for name in writer.begin(movies):
            writer.add(name, **vars(movies[name]))
        writer.finish()
    return InstanceStore(folder)


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
    rows = torch.tensor([[12, 0], [5, 5]])
    copy = pickle.loads(pickle.dumps(store))
    assert torch.equal(copy.take(rows), torch.cat([features(n) for n in sorted(COUNTS)]).to(TORCH[dtype])[rows])


@pytest.mark.parametrize("memory", [True, False])
def test_rows_that_are_not_there_are_refused(tmp_path: Path, memory: bool):
    store = EventStore(write(tmp_path / "s"), memory=memory)
    for index in (torch.tensor([-1]), [0, 13]):
        with pytest.raises(StoreError, match="s has rows 0 to 12, not"):
            store.take(index)
    assert store.take([]).shape == (0, 6) and torch.equal(store.take([0, 1]).float(), store["a"][:2])
    with pytest.raises(UsageError, match="--n has to be a number above 0"):
        store.segment("a", 0)
    with pytest.raises(StoreError, match="a movie is asked for by its name, not by slice"):
        store[0:2]


def test_all_rows_in_one_tensor(tmp_path: Path):
    store = EventStore(write(tmp_path / "s", part_bytes=150))
    rows, offsets = store.to_torch()
    assert offsets.tolist() == [0, 5, 8, 12, 13] and rows.shape == (13, 6)
    for number, name in enumerate(store.movie_ids):
        assert torch.equal(rows[offsets[number] : offsets[number + 1]], features(name))
    with pytest.raises(StoreError, match=r"memory-mapped.*take\(\)"):
        EventStore(tmp_path / "s", memory=False).to_torch()


def test_a_store_is_read_as_a_mapping(tmp_path: Path):
    store = EventStore(write(tmp_path / "s", dtype="fp16"))
    assert repr(store) == f"<13 events of 4 movies in {tmp_path / 's'}: width 6, fp16, 2 s every 1 s>"
    assert len(store) == 4 and list(store) == sorted(COUNTS) and "a" in store
    assert torch.equal(store["a"], features("a").half().float())
    with pytest.raises(StoreError, match=r"has no movie 'd/f' among its 4: did you mean d/e\?"):
        store["d/f"]


def test_rows_as_a_data_frame(tmp_path: Path):
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = EventStore(write(tmp_path / "s")).to_pandas()
    assert frame.shape == (13, 6) and frame.index.names == ["movie", "start"]
    assert (frame.loc["a"].to_numpy() == features("a").numpy()).all() and frame.loc["a"].index[:2].tolist() == [
        0.5,
        1.5,
    ]


def test_without_pandas_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        EventStore(write(tmp_path / "s")).to_pandas()


def test_instances_come_back(tmp_path: Path):
    movies = {"b_-": some(5), "a": some(7, seed=1), "c": some(1, seed=2)}
    store = write_instances(tmp_path / "s", movies, part_bytes=90)
    assert list(store) == ["a", "b_-", "c"] and len(store.index.parts) == 2
    for name, movie in movies.items():
        found = store.movie(name)
        np.testing.assert_allclose(found.features, movie.features, rtol=1e-6)
        for column in ("boxes", "seconds", "tracks", "shots", "scores"):
            np.testing.assert_array_equal(getattr(found, column), getattr(movie, column))
            assert getattr(found, column).dtype == getattr(movie, column).dtype
    assert store.count("a") == 7 and store.count("zz") == 0 and store.width == 3 and "zz" not in store
    assert not (tmp_path / "s" / "pending").exists()
    with pytest.raises(StoreError, match="instances.*events was asked for"):
        EventStore(tmp_path / "s")
    with pytest.raises(StoreError, match="columns of d are {} for 2 instances"):
        StoreWriter(tmp_path / "s", 3, dtype="fp32", kind="instances").add("d", np.zeros((2, 3)))


def test_instances_are_ordered_by_second_and_keep_their_order_within():
    movie = instances(np.arange(4)[:, None], np.tile([0, 0, 1, 1], (4, 1)), [3, 1, 3, 0], [1, 2, 3, 4])
    assert movie.seconds.tolist() == [0, 1, 3, 3] and movie.tracks.tolist() == [4, 2, 1, 3]
    assert movie.scores.tolist() == [1, 1, 1, 1] and movie.shots.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": np.zeros((5, 4))}, "a box without area"),
        ({"features": np.full((5, 3), np.nan)}, "not all finite"),
        ({"tracks": np.zeros(4)}, "differ in length"),
    ],
)
def test_impossible_instances_are_refused(change: dict, message: str):
    movie = some()
    columns = {name: getattr(movie, name) for name in ("features", "boxes", "seconds", "tracks")} | change
    with pytest.raises(StoreError, match=message):
        instances(**columns)


def test_the_store_does_not_depend_on_order_processes_or_interruptions(tmp_path: Path):
    whole = contents(write(tmp_path / "whole", part_bytes=200))
    folder = tmp_path / "parts"
    first, second = (open_events(folder, 200, lock=False) for _ in range(2))
    second.add("d/e", features("d/e"), 0.5)
    first.add("b", features("b"), 0.5)
    # killed here, and run again
    assert open_events(folder, 200, lock=False).done == {"b", "d/e"}
    with pytest.raises(StoreError, match="unfinished"):
        EventStore(folder)
    assert contents(write(folder, part_bytes=200)) == whole


@pytest.mark.parametrize("writes", range(1, 6))
def test_killed_while_packing_it_goes_on(writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = contents(write(tmp_path / "whole", part_bytes=200))
    folder = tmp_path / "killed"
    writer = open_events(folder, 200)
    for name in writer.begin(COUNTS):
        writer.add(name, features(name), 0.5)
    left = iter(range(writes))

    def killed(source, target, real=files.os.replace):
        if next(left, None) is None:
            raise KeyboardInterrupt
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("kuleshov.core.files.os.replace", killed)
        try:
            writer.finish({"note": 1})
        except KeyboardInterrupt:
            assert writes < 5
    writer.close()
    assert contents(write(folder, part_bytes=200)) == whole


def test_a_full_disk_leaves_a_store_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with open_events(tmp_path / "s") as writer, monkeypatch.context() as patch:
        writer.add("a", features("a"), 0.5)
        patch.setattr("kuleshov.core.files.os.fsync", full)
        message = r"cannot write to .*s \(No space left on device\): 1 movies are kept, make room and run the same"
        with pytest.raises(StoreError, match=message):
            writer.add("b", features("b"))
        with pytest.raises(StoreError, match=message):
            writer.finish()
    assert contents(write(tmp_path / "s")) == contents(write(tmp_path / "whole"))


def test_one_process_owns_a_store_while_it_is_written(tmp_path: Path):
    with open_events(tmp_path / "s") as owner:
        with pytest.raises(StoreError, match=r"s is being written by another process"):
            open_events(tmp_path / "s")
        open_events(tmp_path / "s", lock=False).add("a", features("a"), 0.5)
        owner.finish()
        with open_events(tmp_path / "s") as second:
            assert second.done == {"a"}
    with open_events(tmp_path / "s"):
        pass


def test_movies_can_be_added_to_a_finished_store(tmp_path: Path):
    write(tmp_path / "s", names=["a", "c_-"])
    before = (tmp_path / "s" / "part-00000.safetensors").read_bytes()
    store = EventStore(write(tmp_path / "s"))
    assert store.movie_ids == ["a", "c_-", "b", "d/e"]
    assert torch.equal(store.events("b"), features("b"))
    assert (tmp_path / "s" / "part-00000.safetensors").read_bytes() == before
    assert store.manifest["complete"] is True and store.manifest["of"] == 4


def test_complete_means_that_every_movie_asked_for_is_there_or_has_a_reason(tmp_path: Path):
    with open_events(tmp_path / "s") as writer:
        assert writer.begin(["a", "b", "c_-"]) == ["a", "b", "c_-"]
        writer.add("a", features("a"))
        writer.record("b", "no such file")
        manifest = writer.finish()
    assert manifest["complete"] is False and (manifest["movies"], manifest["of"], manifest["rows"]) == (1, 3, 5)
    assert manifest["missing"] == [{"id": "b", "reason": "no such file"}]
    with open_events(tmp_path / "s") as writer:
        # what failed is tried again, and its reason forgotten
        assert writer.begin(["a", "b", "c_-"]) == ["b", "c_-"]
        writer.add("c_-", features("c_-"))
        assert writer.finish(missing=[{"id": "b", "reason": "gone"}])["complete"] is True
    with open_events(tmp_path / "s") as writer:
        writer.begin(["a", "d/e"])
    # killed while adding to a complete store
    assert EventStore(tmp_path / "s").manifest["complete"] is False
    with open_events(tmp_path / "t") as writer:
        writer.begin(["a", "b"])
        writer.record("a", torch.full((2, 6), torch.inf))
        with pytest.raises(StoreError, match=r"none of 2 movies.*not finite in fp32"):
            writer.finish()


def test_damaged_pending_movies_are_done_again(tmp_path: Path):
    writer = open_events(tmp_path / "s", lock=False)
    writer.add("a", features("a"))
    path = next(writer.pending.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:40])
    assert open_events(tmp_path / "s").done == set()


def test_other_settings_and_foreign_folders_are_refused(tmp_path: Path):
    write(tmp_path / "s", trim="x")
    with pytest.raises(StoreError, match=r"s was written with trim=x, now it is y"):
        open_events(tmp_path / "s", trim="y")
    assert not (tmp_path / "s" / "pending").exists()
    with pytest.raises(StoreError, match=r"s was written with width=6, now it is 7"):
        StoreWriter(tmp_path / "s", 7, 2.0, 1.0, "fp32", {"trim": "x"})
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match=r"t has files that are no store"):
        open_events(tmp_path / "t")
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.full((2, 6), torch.nan), r"features of m are not finite in fp16"),
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
    raw, text = bytearray(part.read_bytes()), json.loads(index.read_text())
    if kind in ("truncated", "short"):
        part.write_bytes(raw[: -8 if kind == "truncated" else 5])
        text["parts"][part.name]["sha256"] = files.sha256_file(part)
    elif kind == "flipped":
        raw[-1] ^= 1
        part.write_bytes(raw)
    elif kind == "missing":
        part.unlink()
    elif kind == "width":
        text["width"] = 7
    elif kind == "unlisted":
        text["movies"]["a"]["part"] = "part-00007.safetensors"
    elif kind == "elsewhere":
        text["parts"]["../part.safetensors"] = text["parts"].pop(part.name)
    elif kind == "outside":
        text["movies"]["a"]["rows"] = 99
    elif kind == "format":
        text["format"] = 1
    elif kind == "field":
        del text["parts"]
    index.write_text(json.dumps(text))
    if kind == "gone":
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", r"part-00000\.safetensors is damaged"),
        ("short", r"part-00000\.safetensors is damaged"),
        ("flipped", r"part-00000\.safetensors differs from the checksum"),
        ("missing", r"names part-00000\.safetensors, which is not there"),
        ("width", r"part-00000\.safetensors holds features torch.float32 \(13, 6\), the index says fp32 \(13, 7\)"),
        ("unlisted", r"movie a is outside the 0 rows of part-00007\.safetensors"),
        ("elsewhere", r"index\.json names the part '\.\./part\.safetensors', which lies outside"),
        ("outside", r"movie a is outside the 13 rows of part-00000\.safetensors"),
        ("format", r"index\.json has format 1, this version reads 2: extract again"),
        ("field", r"index\.json lacks a field .*parts"),
        ("gone", r"no store of events at .*s: make one with `kuleshov extract`"),
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
        ({"width": 7}, r"s has width 6, 7 was asked for"),
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
    with pytest.raises(StoreError, match=r"has no movie 'nobody' among its 4: extract it first"):
        store.events("nobody")


@pytest.mark.parametrize(
    ("duration", "stride", "expected"),
    [(10.0, 2.0, 5), (10.0, 1.0, 9), (1.99, 1.0, 0), (2.0, 1.0, 1), (9.9999, 2.0, 5), (60.0, 1.0, 59), (11.9, 2.0, 5)],
)
def test_event_count(duration: float, stride: float, expected: int):
    assert event_count(duration, 2.0, stride) == expected


@pytest.mark.parametrize("value", [None, -1, "x", [], {}, True, float("nan")])
@pytest.mark.parametrize(
    "place", ["width", "dtype", "window", "stride", "parts", "movies", "rows", "row", "part", "sha256"]
)
def test_an_index_of_wrong_types_is_one_line(place: str, value, tmp_path: Path):
    path = write(tmp_path / "s") / "index.json"
    index = json.loads(path.read_text())
    owners = (index, next(iter(index["parts"].values())), next(iter(index["movies"].values())))
    next(owner for owner in owners if place in owner)[place] = value
    path.write_text(json.dumps(index))
    if (place, value) in (("parts", {}), ("movies", {})) or (place in ("window", "stride") and value is True):
        return
    with pytest.raises(StoreError) as error:
        EventStore(tmp_path / "s")
    assert "\n" not in str(error.value)


def test_a_store_in_the_place_of_a_file_is_one_line(tmp_path: Path):
    (tmp_path / "s").write_text("")
    with pytest.raises(KuleshovError, match="cannot write"):
        open_events(tmp_path / "s")
    store = write(tmp_path / "[red] {x}")
    (store / "manifest.json").write_text("[1]")
    with pytest.raises(KuleshovError, match="holds a list, a dict was expected"):
        EventStore(store)
