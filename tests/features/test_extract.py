"""Extraction from real files: the right frames, once each, and nothing lost whatever happens."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from kuleshov import backbones
from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError, StoreError, UsageError, VideoError
from kuleshov.features.extract import extract_command, read_durations
from kuleshov.features.feature_store import EventStore
from kuleshov.features.movie_clips import EventPlan, Grid, center_crop, decode_movies, movie_clips
from kuleshov.features.store_writer import StoreWriter
from kuleshov.video.clip_datasets import EventClips
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.frame_source import FrameSource
from kuleshov.video.metadata import VideoInfo
from kuleshov.video.reader import VideoReader
from kuleshov.video.video_file import Video

from ..distributed import on_ranks

CLIP = ClipFormat(num_frames=4, frame_stride=4, frame_rate=8.0, crop_size=32, short_side=36)
RATE = 8


def write_movie(path: Path, seconds: float, seed: int) -> Path:
    """Slowly changing noise, 48 x 36 pixels, 8 frames a second."""
    generator = np.random.default_rng(seed)
    count = round(seconds * RATE)
    coarse = generator.integers(0, 255, (count, 6, 8, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 48, 36, "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "10"}
        for image in coarse:
            frame = av.VideoFrame.from_ndarray(np.kron(image, np.ones((6, 6, 1), np.uint8)), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = backbones.build_backbone({"class_path": "slow_d_r50", "init_args": {"width": 1}}).eval()
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    backbones.save_backbone(path, network, CLIP, method="none")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three movies, one too short, one that is no video."""
    folder = tmp_path_factory.mktemp("movies")
    for name, seconds, seed in (("long", 9.0, 0), ("exact", 4.0, 1), ("under_score-x", 6.5, 2), ("tiny", 1.5, 3)):
        write_movie(folder / f"{name}.mp4", seconds, seed)
    (folder / "broken.mp4").write_bytes(b"this is no video at all" * 9)
    return folder


def videos(folder: Path, *names: str) -> list[Video]:
    return [Video(name, folder / f"{name}.mp4") for name in names]


def run(weights: Path, chosen: list[Video], output: Path, **options) -> EventStore:
    settings = {"dtype": "fp32", "batch_size": 3, "progress": False, "accelerator": "cpu", **options}
    extract_command(output, weights, videos=chosen, **settings)
    return EventStore(output)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@torch.no_grad()
def test_features_are_those_of_each_window_by_itself(weights: Path, folder: Path, tmp_path: Path):
    store = run(weights, videos(folder, "long", "exact"), tmp_path / "s")
    network, reader = backbones.load_backbone(weights), VideoReader("pyav")
    assert {name: len(store.events(name)) for name in store} == {"exact": 3, "long": 8}
    for name in store:
        for event, begin in enumerate(store.times(name)):
            assert begin == event
            # four frames half a second apart from the event's beginning on: 2 s around its center
            frames = reader.read(folder / f"{name}.mp4", begin + np.arange(4) * 0.5, short_side=36)
            clip = torch.from_numpy(frames[:, 2:34, 8:40].copy()).permute(3, 0, 1, 2)[None]
            expected = network(CLIP.normalize(clip))[0]
            torch.testing.assert_close(store.events(name)[event], expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(store.events("long")[0], store.events("long")[4], atol=1e-3)


def test_bad_movies_are_named_and_cost_nothing_else(
    weights: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    chosen = videos(folder, "broken", "exact", "gone", "tiny")
    data = SimpleNamespace(name="some", videos=lambda root: (chosen, ["lost"]))
    monkeypatch.setattr("kuleshov.datasets.registry.data_set", lambda name: data)
    summary = extract_command(tmp_path / "s", weights, data="some", root=folder, accelerator="cpu", progress=False)
    assert (summary.movies, summary.of, summary.rows) == (1, 5, 3)
    reasons = {failure["id"]: failure["reason"] for failure in summary.missing}
    assert reasons.keys() == {"broken", "gone", "tiny", "lost"}
    assert reasons["tiny"] == "too short: 1.50 s, an event takes 2 s"
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert manifest["missing"] == summary.missing and manifest["complete"] is True
    assert (manifest["movies"], manifest["of"]) == (1, 5)
    assert manifest["backbone"].keys() == {"class_path", "init_args", "clip", "sha256", "trained"}
    assert manifest["backbone"]["sha256"] and "av" in manifest["decoder"]


def test_nothing_but_bad_movies_is_an_error(weights: Path, folder: Path, tmp_path: Path):
    with pytest.raises(KuleshovError, match=r"none of 1 movies gave features \(first: too short"):
        run(weights, videos(folder, "tiny"), tmp_path / "s")
    with pytest.raises(KuleshovError, match="the list of videos is empty"):
        run(weights, [], tmp_path / "s")
    with pytest.raises(KuleshovError, match="two videos have the id long"):
        run(weights, videos(folder, "long", "exact", "long"), tmp_path / "s")


def test_batches_threads_order_and_kills_change_no_bit(
    weights: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    chosen = videos(folder, "long", "under_score-x", "exact")
    whole = contents(run(weights, chosen, tmp_path / "whole").folder)
    run(weights, chosen[::-1], tmp_path / "threads", threads=3)
    assert contents(tmp_path / "threads") == whole
    done = []

    def add(self, name, features, start=0.0, remark="", real=StoreWriter.add):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(name)
        real(self, name, features, start, remark)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "add", add)
        with pytest.raises(KeyboardInterrupt):
            run(weights, chosen, tmp_path / "killed")
    decoded = []

    def watch(self, path, windows, short_side=None, real=VideoReader.stream):
        decoded.append(Path(path).stem)
        return real(self, path, windows, short_side)

    monkeypatch.setattr(VideoReader, "stream", watch)
    run(weights, chosen, tmp_path / "killed")
    assert contents(tmp_path / "killed") == whole
    assert decoded == [name for name in ("long", "under_score-x", "exact") if name not in done]


@pytest.mark.slow
def test_two_processes_write_the_same_store(weights: Path, folder: Path, tmp_path: Path):
    chosen = videos(folder, "long", "under_score-x", "exact", "broken")
    whole = contents(run(weights, chosen, tmp_path / "whole").folder)
    run(weights, chosen, tmp_path / "two", devices=2)
    assert contents(tmp_path / "two") == whole
    if not torch.cuda.is_available():
        with pytest.raises(KuleshovError, match="^no CUDA device") as error:
            run(weights, chosen, tmp_path / "none", devices=2, accelerator="cuda")
        assert "\n" not in str(error.value)


def extract_on_rank(rank: int, weights: str, folder: str, output: str) -> list[str]:
    """Extract as torchrun's rank of two does; the movies that this rank was given are in another order on each."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    added, add = [], StoreWriter.add

    def watch(self, name, *arguments, **columns):
        added.append(name)
        add(self, name, *arguments, **columns)

    StoreWriter.add = watch
    chosen = videos(Path(folder), "under_score-x", "long", "broken", "exact")
    ordered = chosen[rank:] + chosen[:rank]
    extract_command(Path(output), Path(weights), videos=ordered, dtype="fp32", batch_size=3, progress=False)
    return added


@pytest.mark.slow
def test_ranks_share_the_list_of_rank_0(weights: Path, folder: Path, tmp_path: Path):
    chosen = videos(folder, "under_score-x", "long", "broken", "exact")
    whole = contents(run(weights, chosen, tmp_path / "whole").folder)
    run(weights, videos(folder, "exact"), tmp_path / "ranks")
    added = on_ranks(2, extract_on_rank, str(weights), str(folder), str(tmp_path / "ranks"))
    # without the movie that was done before, the first and third on rank 0, the second on rank 1
    assert added == [["under_score-x"], ["long"]]
    store = EventStore(tmp_path / "ranks")
    assert store.manifest["complete"] is True and sorted(store) == ["exact", "long", "under_score-x"]
    assert {one["id"] for one in store.manifest["missing"]} == {"broken"}
    for name, events in ((name, EventStore(tmp_path / "whole").events(name)) for name in store):
        assert torch.equal(store.events(name), events)
    assert set(whole) == {"index.json", "manifest.json", "part-00000.safetensors", ".lock"}


class MeanColor(torch.nn.Module):
    """A backbone that is no 3D ResNet: the mean color of a clip through a linear layer, with a 4D parameter."""

    def __init__(self, width: int = 5, depth: int | None = None) -> None:
        super().__init__()
        self.feature_width, self.clip = depth or width, CLIP
        self.layer = torch.nn.Linear(3, width)
        self.scale = torch.nn.Parameter(torch.ones(1, 3, 1, 1))

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.layer((clips.mean(2) * self.scale).mean((2, 3)))


def test_any_module_is_a_backbone(folder: Path, tmp_path: Path):
    named = {"class_path": f"{__name__}.MeanColor", "init_args": {"width": 7}}
    torch.manual_seed(0)
    store = run(None, videos(folder, "exact"), tmp_path / "s", backbone=named)
    assert store.width == 7 and len(store.events("exact")) == 3
    facts = store.manifest["backbone"]
    assert facts["class_path"].endswith("MeanColor") and facts["init_args"] == {"width": 7} and facts["sha256"]
    with pytest.raises(StoreError, match=r"was written with backbone\."):
        run(None, videos(folder, "exact"), tmp_path / "s", backbone=named)  # other random weights
    named["init_args"]["depth"] = 9
    with pytest.raises(KuleshovError, match=r"MeanColor gives .*7.*9"):
        run(None, videos(folder, "exact"), tmp_path / "t", backbone=named)


def test_spans_and_trims_move_and_shorten_the_grid(weights: Path, folder: Path, tmp_path: Path):
    table = tmp_path / "durations.csv"
    table.write_text("videoid,duration\nlong,5.2\n")
    span = Video("span", folder / "long.mp4", start=3.0, end=8.0)
    store = run(weights, [*videos(folder, "long"), span], tmp_path / "s", durations=table)
    whole = run(weights, videos(folder, "long"), tmp_path / "whole")
    assert len(store.events("long")) == 4 and len(store.events("span")) == 4
    torch.testing.assert_close(store.events("long"), whole.events("long")[:4], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(store.events("span"), whole.events("long")[3:7], atol=1e-5, rtol=1e-5)
    with pytest.raises(StoreError, match="was written with trim="):
        run(weights, videos(folder, "long"), tmp_path / "s")


def test_clips_of_sixteen_by_four_stand_where_vidsitu_has_them():
    clip, grid = ClipFormat(), Grid(2.0, 2.0, {})
    plan = EventPlan(5, 10.0, 20.0)
    for event, center in enumerate((30, 90, 150, 210, 270)):
        frames = np.clip(np.arange(center - 32, center + 32, 4), 0, None) / 30
        assert plan.times(event, grid, clip) == pytest.approx(np.minimum(10 + frames, 19.999))


class Film:
    """A file of so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.info = VideoInfo(seconds, 40, 40, 0)

    def probe(self, path):
        return self.info


@pytest.mark.parametrize(
    "seconds, stride, events, padded",
    [
        *[(10.0, 2.0, 5, 0), (9.9, 2.0, 5, 0.1), (9.04, 2.0, 5, 0.96), (9.0, 2.0, 4, 0), (10.9, 2.0, 5, 0)],
        *[(10.0, 1.0, 9, 0), (10.04, 1.0, 9, 0), (9.9, 1.0, 9, 0.1), (9.4, 1.0, 9, 0.6), (9.0, 1.0, 8, 0)],
        *[(2.0, 1.0, 1, 0), (3.5, 1.0, 3, 0.5), (11.2, 0.5, 21, 0.8)],
    ],
)
def test_a_movie_has_the_events_of_which_more_than_half_is_there(seconds, stride, events, padded):
    plan = EventPlan.of(Video("a", Path("a.mp4")), Grid(2.0, stride, {}), Film(seconds))
    assert plan.events == events and plan.times(events - 1, Grid(2.0, stride, {}), ClipFormat()).max() < seconds
    assert plan.remark == (f"its last event is padded by {padded:.2f} s" if padded else "")


@pytest.mark.parametrize("seconds, remark", [(70.0, ""), (69.1, "its last event is padded by 0.90 s")])
def test_a_segment_has_all_its_events(seconds, remark):
    segment = Video("s", Path("s.mp4"), 60.0, 70.0)
    plan = EventPlan.of(segment, Grid(2.0, 2.0, {}), Film(seconds))
    assert (plan.events, plan.remark) == (5, remark)
    for short in (69.0, 60.0, 4.0):
        with pytest.raises(VideoError, match=f"60 to 70 s are not in it: it ends at {short:.2f} s"):
            EventPlan.of(segment, Grid(2.0, 2.0, {}), Film(short))


def test_what_falls_short_is_counted_and_named(weights: Path, folder: Path, tmp_path: Path):
    whole = write_movie(tmp_path / "whole.mkv", 20.0, 5)
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: int(0.4 * whole.stat().st_size)])
    outside = Video("outside", folder / "exact.mp4", 60.0, 70.0)
    nearly = Video("nearly", write_movie(tmp_path / "nearly.mp4", 9.875, 6), 0.0, 10.0)
    chosen = [Video("cut", tmp_path / "cut.mkv"), *videos(folder, "exact"), outside, nearly]
    found = extract_command(tmp_path / "s", weights, videos=chosen, progress=False, stride=2.0)
    store = EventStore(tmp_path / "s")
    assert set(store) == {"cut", "exact", "nearly"} and len(store.events("nearly")) == 5
    length = VideoReader.probe(tmp_path / "cut.mkv").duration
    assert 3 < length < 13 and len(store.events("cut")) == int((length + 1) // 2)
    assert store.manifest["missing"] == [{"id": "outside", "reason": "60 to 70 s are not in it: it ends at 4.00 s"}]
    assert f"its header claims 20.0 s, its frames end at {length:.1f} s" in store.manifest["remarks"]["cut"]
    assert store.manifest["remarks"]["nearly"] == "its last event is padded by 0.12 s"
    assert "exact" not in store.manifest["remarks"] and "nearly: its last event" in str(found)


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_names_that_are_not_utf8_are_extracted(weights: Path, folder: Path, tmp_path: Path, locale):
    (tmp_path / "videos").mkdir()
    for name in (b"caf\xe9.mp4", "naïve: a film.mp4".encode(), b"broken\xff.mp4"):
        content = (folder / ("broken.mp4" if name.startswith(b"broken") else "exact.mp4")).read_bytes()
        (tmp_path / "videos" / os.fsdecode(name)).write_bytes(content)
    words = ["extract", "--weights", weights, "--videos", "videos", "--output", "store", "--accelerator", "cpu"]
    command = [sys.executable, "-m", "kuleshov", *map(str, words)]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **locale}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert sorted(EventStore(tmp_path / "store")) == [r"caf\xe9", "naïve: a film"]
    assert rb"left out broken\xff" in done.stdout and b"Traceback" not in done.stderr


class Endless:
    """A source of frames that counts how many windows were taken."""

    taken = 0

    def probe(self, path):
        return VideoInfo(36_000.0, 40, 40, 0)

    def stream(self, path, windows, short_side=None):
        for number, _ in enumerate(windows):
            Endless.taken = number + 1
            yield number, np.zeros((4, 40, 40, 3), np.uint8)


def test_a_movie_is_never_decoded_far_ahead(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kuleshov.features.movie_clips.VideoReader", lambda backend: Endless())
    hours = Video("long", Path("x"), start=0.0, end=36_000.0)
    items = decode_movies([hours], Grid(2.0, 1.0, {}), CLIP, ahead=5)
    first = next(items)
    assert (first.event, first.events, first.frames.shape) == (0, 35_999, (4, 32, 32, 3))
    for _ in range(10):
        next(items)
    # eleven taken, five waiting, one in the thread's hand, and one being made
    assert Endless.taken <= 18
    items.close()


def test_a_bug_in_a_decoding_thread_is_raised(monkeypatch: pytest.MonkeyPatch):
    class Broken(Endless):
        def stream(self, path, windows, short_side=None):
            raise ZeroDivisionError("a bug")

    monkeypatch.setattr("kuleshov.features.movie_clips.VideoReader", lambda backend: Broken())
    with pytest.raises(ZeroDivisionError, match="a bug"):
        list(decode_movies([Video("x", Path("x"), 0.0, 9.0)], Grid(2.0, 1.0, {}), CLIP))


def test_a_crop_larger_than_the_frames_is_refused():
    with pytest.raises(KuleshovError, match=r"frames of 20x10 are smaller than the crop of 16"):
        center_crop(np.zeros((2, 10, 20, 3), np.uint8), 16)


@pytest.mark.parametrize("text", ["a,b", "a,-1", ",3", "a"])
def test_broken_durations_are_named(text: str, tmp_path: Path):
    (tmp_path / "d.csv").write_text(f"videoid,duration\nx,3\n\n{text}\n")
    with pytest.raises(FormatError, match=r"d\.csv, record 4: expected"):
        read_durations(tmp_path / "d.csv")
    with pytest.raises(MissingDataError, match="durations table not found at"):
        read_durations(tmp_path / "none.csv")


@pytest.mark.parametrize("header", ["videoid,duration\n", "\ufeffvideoid,duration\r\n", '"videoid","duration"\n', ""])
def test_durations_are_a_csv_with_or_without_a_header(header: str, tmp_path: Path):
    (tmp_path / "d.csv").write_text(f'{header}"a, b",3\nc, 2.5\n', encoding="utf-8")
    assert read_durations(tmp_path / "d.csv") == {"a, b": 3.0, "c": 2.5}


def test_lvus_own_table_is_read(real_data: Path):
    table = read_durations(real_data / "lvu" / "lvu_1.0" / "lvu_durations.csv")
    assert table["PK0i_dyx230"] == 83.0 and len(table) > 9000


def test_the_command_extracts_a_folder(weights: Path, folder: Path, tmp_path: Path, command):
    words = ["--weights", weights, "--videos", f'["{folder}"]', "--output", tmp_path / "s", "--accelerator", "cpu"]
    summary = command(extract_command, *words, "--npy", tmp_path / "npy", "--dtype", "fp32", "--batch_size", 4)
    assert (summary.rows, summary.movies, summary.of) == (16, 3, 5) and EventStore(tmp_path / "s").dtype == "fp32"
    text = str(summary)
    assert text.startswith("16 events of 3 of 5 movies in")
    assert "left out tiny: too short" in text and "left out broken:" in text
    assert np.load(tmp_path / "npy" / "long.npy").shape == (8, 32)
    with pytest.raises(UsageError, match="--data lvu needs --root"):
        extract_command(tmp_path / "t", data="lvu", weights=weights)
    with pytest.raises(UsageError, match="--videos and --data"):
        extract_command(tmp_path / "t", weights=weights)
    with pytest.raises(UsageError, match="--stride"):
        extract_command(tmp_path / "t", weights=weights, videos=[str(folder)], stride=0.0)


def test_a_data_sets_segments_are_extracted(weights: Path, tiny_world: Path, tmp_path: Path, command):
    words = ["--weights", weights, "--data", "vidsitu", "--root", tiny_world / "vidsitu", "--stride", 2]
    command(extract_command, *words, "--output", tmp_path / "s", "--accelerator", "cpu")
    store = EventStore(tmp_path / "s")
    splits = [json.loads(p.read_text()) for p in (tiny_world / "vidsitu" / "split_files").glob("*.json")]
    assert set(store.movie_ids) == {name for split in splits for name in split}
    assert all(len(store.times(name)) == 5 for name in store)


def test_real_movies_are_extracted(weights: Path, real_data: Path, tmp_path: Path):
    extract_command(tmp_path / "s", weights, videos=[real_data / "videos"], stride=0.5, accelerator="cpu")
    store = EventStore(tmp_path / "s")
    assert {"demo", "flipping_a_pancake", "test_video_structuralize"} <= set(store.movie_ids)
    assert "part_0" in {failure["id"] for failure in store.manifest["missing"]}


@pytest.fixture
def tiny_disk(tmp_path: Path):
    """A file system of 64 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small tmpfs takes root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_a_store_that_goes_on(weights: Path, folder: Path, tmp_path: Path, tiny_disk: Path):
    chosen = videos(folder, "long", "under_score-x", "exact")
    (tiny_disk / "ballast").write_bytes(bytes(52_000))
    with pytest.raises(StoreError, match=r"cannot write to .*\(No space left on device\).*make room and run the same"):
        run(weights, chosen, tiny_disk / "s")
    (tiny_disk / "ballast").unlink()
    store = run(weights, chosen, tiny_disk / "s")
    assert contents(store.folder) == contents(run(weights, chosen, tmp_path / "whole").folder)


@pytest.mark.parametrize("options", [{"stride": 0.0}, {"stride": np.nan}, {"window": -1.0}, {"batch_size": 0}])
def test_impossible_options_are_named(options: dict, tmp_path: Path):
    with pytest.raises(UsageError, match="^--(stride|window|batch-size) has to be a number above 0"):
        extract_command(tmp_path / "s", tmp_path / "w.safetensors", videos=[tmp_path], **options)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("size", [(96, 40), (40, 96), (64, 64)])
def test_squashed_frames_are_those_that_the_tuning_reads(tmp_path: Path, size):
    path, generator = tmp_path / "wide.mp4", np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for _ in range(80):
            coarse = generator.integers(0, 255, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
            image = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    video, clip = Video("a", path, 0.0, 10.0), ClipFormat(4, 2, 8.0, 32, 48, framing="squash")
    found = [one.frames for one in movie_clips(video, Grid(2.0, 2.0, {}), clip, VideoReader())]
    tuned = EventClips([video], FrameSource([path], 32, "pyav"), 32, clip)[0]["clips"]
    for event in range(5):
        assert np.array_equal(found[event], tuned[event].permute(1, 2, 3, 0).numpy())
    cropped = next(movie_clips(video, Grid(2.0, 2.0, {}), replace(clip, framing="crop"), VideoReader())).frames
    assert cropped.shape == found[0].shape and (size == (64, 64) or not np.array_equal(cropped, found[0]))
    assert ClipFormat.from_dict(clip.to_dict()) == clip
    before = {key: value for key, value in clip.to_dict().items() if key != "framing"}
    assert ClipFormat.from_dict(before).framing == "crop"


def test_the_framing_is_an_option_and_part_of_the_store(weights: Path, folder: Path, tmp_path: Path):
    run(weights, videos(folder, "exact"), tmp_path / "s", framing="squash")
    assert EventStore(tmp_path / "s").manifest["backbone"]["clip"]["framing"] == "squash"
    with pytest.raises(StoreError, match=r"was written with backbone\."):
        run(weights, videos(folder, "long"), tmp_path / "s")


def test_another_film_of_the_same_name_is_refused(tmp_path: Path, weights: Path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, other = write_movie(tmp_path / "a" / "01.mp4", 4, 0), write_movie(tmp_path / "b" / "01.mp4", 6, 1)
    assert extract_command(tmp_path / "s", weights, videos=[first], progress=False).movies == 1
    assert extract_command(tmp_path / "s", weights, videos=iter([first]), progress=False).movies == 1
    with pytest.raises(StoreError, match=r"s has 01 of another file \(\d+ bytes, not \d+\): rename it"):
        extract_command(tmp_path / "s", weights, videos=[other], progress=False)


def test_a_stride_below_any_frame_s_is_refused(tmp_path: Path, weights: Path):
    with pytest.raises(UsageError, match="--stride has to be 0.01 s or more, not 1e-09"):
        extract_command(tmp_path / "s", weights, videos=[tmp_path], stride=1e-9)
    assert not (tmp_path / "s").exists()
