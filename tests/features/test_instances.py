import argparse
import json
import pickle

import av
import numpy as np
import pytest
import torch

from kuleshov import backbones
from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError, StoreError
from kuleshov.features import instance_sources, instances_command
from kuleshov.features.instance_store import InstanceStore, InstanceWriter, instances
from kuleshov.features.roi_align import region_features
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.video_file import Video

CLIP = ClipFormat(num_frames=4, frame_stride=2, frame_rate=8, crop_size=32, short_side=32)
HEADER = "video,second,x1,y1,x2,y2,track"


def some(count=5, width=3, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.5, size=(count, 2))
    boxes = np.concatenate([low, low + 0.3], axis=1)
    return instances(rng.normal(size=(count, width)), boxes, rng.integers(0, 9, count), rng.integers(0, 3, count))


def write(folder, movies, dtype="fp32", **options):
    writer = InstanceWriter(folder, dtype)
    for name, movie in movies.items():
        writer.add(name, movie)
    writer.finish({"source": "made up"}, **options)
    return InstanceStore(folder)


def test_what_is_written_is_read(tmp_path):
    movies = {"b_-": some(5), "a": some(7, seed=1), "c": some(1, seed=2)}
    store = write(tmp_path / "store", movies, part_bytes=90)
    assert sorted(store) == ["a", "b_-", "c"] and len(list((tmp_path / "store").glob("part-*"))) == 2
    for name, movie in movies.items():
        found = store.movie(name)
        np.testing.assert_allclose(found.features, movie.features, rtol=1e-6)
        for column in ("boxes", "seconds", "tracks", "shots", "scores"):
            np.testing.assert_array_equal(getattr(found, column), getattr(movie, column))
    assert store.count("a") == 7 and store.count("zz") == 0 and store.width == 3 and "zz" not in store
    assert store.manifest["source"] == "made up" and store.manifest["movies"] == 3
    assert not (tmp_path / "store" / "pending").exists()


def test_instances_are_ordered_by_second_and_keep_their_order_within():
    movie = instances(np.arange(4)[:, None], np.tile([0, 0, 1, 1], (4, 1)), [3, 1, 3, 0], [1, 2, 3, 4])
    assert movie.seconds.tolist() == [0, 1, 3, 3] and movie.tracks.tolist() == [4, 2, 1, 3]
    assert movie.scores.tolist() == [1, 1, 1, 1]


def test_a_killed_writer_goes_on(tmp_path):
    first = InstanceWriter(tmp_path / "store")
    first.add("a", some())
    second = InstanceWriter(tmp_path / "store")
    assert "a" in second and "b" not in second
    with pytest.raises(StoreError, match="an unfinished instance store at"):
        InstanceStore(tmp_path / "store")
    second.add("b", some())
    second.finish({})
    assert sorted(InstanceStore(tmp_path / "store")) == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"boxes": np.zeros((5, 4))}, "a box without area"),
        ({"features": np.full((5, 3), np.nan)}, "not all finite"),
        ({"tracks": np.zeros(4)}, "differ in length"),
    ],
)
def test_impossible_instances_are_refused(change, said):
    movie = some()
    columns = {name: getattr(movie, name) for name in ("features", "boxes", "seconds", "tracks")} | change
    with pytest.raises(StoreError, match=said):
        instances(**columns)


def test_damage_is_named(tmp_path):
    store = write(tmp_path / "store", {"a": some()})
    with pytest.raises(StoreError, match="has no movie zz"):
        store.features("zz")
    part = tmp_path / "store" / "part-00000.safetensors"
    raw = bytearray(part.read_bytes())
    raw[-1] ^= 1
    part.write_bytes(raw)
    with pytest.raises(StoreError, match="part-00000.safetensors differs from the checksum"):
        InstanceStore(tmp_path / "store")
    part.unlink()
    with pytest.raises(StoreError, match="names part-00000.safetensors, which is not there"):
        InstanceStore(tmp_path / "store")
    with pytest.raises(StoreError, match="no instance store at .*kuleshov instances"):
        InstanceStore(tmp_path / "nowhere")
    with pytest.raises(StoreError, match="finished instance store"):
        InstanceWriter(tmp_path / "store")
    with pytest.raises(StoreError, match=r"different widths \[3, 4\]"):
        write(tmp_path / "mixed", {"a": some(), "b": some(width=4)})


@pytest.fixture
def film(tmp_path):
    """Three seconds of 64x48 at 8 fps: a white square moves over noise."""
    folder = tmp_path / "videos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    with av.open(str(folder / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8, width=64, height=48, pix_fmt="yuv420p")
        for frame in range(24):
            pixels = rng.integers(0, 90, size=(48, 64, 3), dtype=np.uint8)
            pixels[10:30, frame : frame + 20] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return folder


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "backbone.safetensors"
    backbones.save(path, backbones.build("slow_d_r50", width=4).eval(), CLIP)
    return path


def boxes(tmp_path, lines, header=HEADER):
    path = tmp_path / "boxes.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_region_features_come_from_the_clip_around_the_second(tmp_path, film, weights):
    lines = [
        "film,0,0,0,32,48,1",
        "film,1,10,10,30,30,1",
        "film,1,0,0,64,48,2",
        "film,2,-9,5,20,30,1",
        "lost,0,0,0,5,5,1",
    ]
    path = boxes(tmp_path, [*lines, "film,2,70,5,90,30,7"])
    manifest = instance_sources.from_boxes(
        path,
        weights,
        [Video("film", film / "film.mp4")],
        tmp_path / "store",
        dtype="fp32",
        batch_size=2,
        backend="pyav",
    )
    assert (manifest["of"], manifest["movies"]) == (2, 1)
    assert manifest["missing"] == [{"id": "lost", "reason": "no video file of this id"}]
    movie = InstanceStore(tmp_path / "store").movie("film")
    assert movie.seconds.tolist() == [0, 1, 1, 2] and movie.tracks.tolist() == [1, 1, 2, 1]
    np.testing.assert_allclose(movie.boxes[3], [0, 5 / 48, 20 / 64, 30 / 48], atol=1e-6)
    extractor = instance_sources.RegionExtractor(weights, backend="pyav")
    np.testing.assert_allclose(extractor.times(2), [2.0, 2.25, 2.5, 2.75])
    frames = extractor.reader.read(film / "film.mp4", extractor.times(1), CLIP.short_side)
    clips = CLIP.normalize(torch.from_numpy(frames).permute(3, 0, 1, 2)[None])
    with torch.inference_mode():
        maps = extractor.network.forward_map(clips)
        expected = region_features(maps, torch.from_numpy(movie.boxes[1:3]), torch.zeros(2, dtype=torch.long))
    np.testing.assert_allclose(movie.features[1:3], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_command(tmp_path, film, weights, capsys):
    parser = argparse.ArgumentParser()
    instances_command.add_arguments(parser)
    path = boxes(tmp_path, ["film,0,0,0,32,48,1,0.9", "film,0,0,0,32,48,2,0.1"], HEADER + ",score")
    words = ["--boxes", str(path), "--weights", str(weights), "--videos", str(film), "--output", str(tmp_path / "s")]
    assert instances_command.main(parser.parse_args([*words, "--min-score", "0.5"])) == 0
    assert capsys.readouterr().out == "1 of 1 movies have instances\n"
    assert InstanceStore(tmp_path / "s").movie("film").scores.tolist() == pytest.approx([0.9])
    with pytest.raises(KuleshovError, match="give --boxes, --weights and --videos, or --official-meta"):
        instances_command.main(parser.parse_args(words[2:]))


@pytest.mark.parametrize(
    ("lines", "header", "said"),
    [
        (["a,0,1,1,2,2"], HEADER, "record 2: 7 columns expected, found 6"),
        (["a,0,1,1,2,x,1"], HEADER, "record 2: numbers expected after the video"),
        (["a,0,1,1,2,2,1", "a,0.5,1,1,2,2,1"], HEADER, "record 3: second and track must be whole"),
        (["a,0,5,1,2,2,1"], HEADER, r"record 2: a box needs x1 < x2 and y1 < y2, found 5,1,2,2"),
        ([], "video;second", "record 1: the header must be 'video,second,x1,y1,x2,y2,track"),
    ],
)
def test_a_broken_box_is_named(tmp_path, lines, header, said):
    with pytest.raises(FormatError, match=said):
        instance_sources.read_boxes(boxes(tmp_path, lines, header))


def official(tmp_path, movie="a"):
    rng = np.random.default_rng(0)
    meta = {
        movie: {4: {"0.1,0.2,0.5,0.9": [1, 30]}, 3: {"0.0,0.0,0.5,0.5": [0, 30], "0.5,0.5,1.0,1.0": [0, 31]}},
        "gone": {0: {}},
    }
    features = {
        second: {box: rng.normal(size=8).astype(np.float32) for box in found} for second, found in meta[movie].items()
    }
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(meta))
    (tmp_path / "features").mkdir(exist_ok=True)
    np.savez(tmp_path / "features" / f"{movie}.npz", a=np.array(features, dtype=object))
    return meta, features


def test_the_official_files_are_converted(tmp_path):
    _, features = official(tmp_path)
    manifest = instance_sources.from_official(tmp_path / "meta.pkl", tmp_path / "features", tmp_path / "s", "fp32")
    assert manifest["missing"] == [{"id": "gone", "reason": "no gone.npz"}]
    movie = InstanceStore(tmp_path / "s").movie("a")
    assert movie.seconds.tolist() == [3, 3, 4] and movie.tracks.tolist() == [30, 31, 30]
    assert movie.shots.tolist() == [0, 0, 1]
    np.testing.assert_allclose(movie.boxes[2], [0.1, 0.2, 0.5, 0.9], rtol=1e-6)
    np.testing.assert_array_equal(movie.features[1], features[3]["0.5,0.5,1.0,1.0"])


class Evil:
    def __reduce__(self):
        return (print, ("run",))


def test_nothing_in_a_foreign_file_is_run(tmp_path, capsys):
    official(tmp_path)
    np.savez(tmp_path / "features" / "a.npz", a=np.array(Evil(), dtype=object))
    with pytest.raises(KuleshovError, match="asks for builtins.print"):
        instance_sources.from_official(tmp_path / "meta.pkl", tmp_path / "features", tmp_path / "s")
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(KuleshovError, match="asks for builtins.print"):
        instance_sources.from_official(tmp_path / "meta.pkl", tmp_path / "features", tmp_path / "t")
    assert "run" not in capsys.readouterr().out.split()


def test_official_files_of_another_form_are_named(tmp_path):
    meta, features = official(tmp_path)
    del features[4]
    np.savez(tmp_path / "features" / "a.npz", a=np.array(features, dtype=object))
    with pytest.raises(FormatError, match="record a: not as LVU's files are .KeyError: 4"):
        instance_sources.from_official(tmp_path / "meta.pkl", tmp_path / "features", tmp_path / "s")
    np.savez(tmp_path / "features" / "a.npz", a=np.zeros(3))
    with pytest.raises(FormatError, match=r"array 'a' is float64 \(3,\), one object was expected"):
        instance_sources.from_official(tmp_path / "meta.pkl", tmp_path / "features", tmp_path / "u")
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(FormatError, match="not a dict of videos"):
        instance_sources.from_official(tmp_path / "meta.pkl", tmp_path / "features", tmp_path / "v")
    with pytest.raises(MissingDataError, match="boxes not found at"):
        instance_sources.read_boxes(tmp_path / "nowhere.csv")


def test_the_json_of_the_command(tmp_path, capsys):
    official(tmp_path)
    parser = argparse.ArgumentParser()
    instances_command.add_arguments(parser)
    words = ["--official-meta", str(tmp_path / "meta.pkl"), "--official-features", str(tmp_path / "features")]
    assert instances_command.main(parser.parse_args([*words, "--output", str(tmp_path / "s"), "--json"])) == 0
    assert json.loads(capsys.readouterr().out)["source"] == "lvu"
