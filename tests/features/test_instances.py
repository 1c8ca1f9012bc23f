"""Instances from boxes and videos, and from LVU's own files."""

import pickle
import shutil

import av
import numpy as np
import pytest
import torch

from kuleshov import backbones
from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError, UsageError
from kuleshov.features.feature_store import InstanceStore
from kuleshov.features.instances import instances_command, read_boxes
from kuleshov.features.region_features import RegionExtractor, region_features
from kuleshov.video.clip_format import ClipFormat

CLIP = ClipFormat(num_frames=4, frame_stride=2, frame_rate=8, crop_size=32, short_side=32)
HEADER = "video,second,x1,y1,x2,y2,track"


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
    spec = {"class_path": "slow_d_r50", "init_args": {"width": 4}}
    backbones.save_backbone(path, backbones.build_backbone(spec).eval(), CLIP)
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
    given = {"boxes": path, "weights": weights, "videos": film, "dtype": "fp32", "accelerator": "cpu"}
    summary = instances_command(tmp_path / "store", batch_size=2, **given)
    assert (summary.of, summary.movies, summary.rows) == (2, 1, 4)
    assert summary.missing == [{"id": "lost", "reason": "no video file of this id"}]
    store = InstanceStore(tmp_path / "store")
    assert store.manifest["source"] == "boxes" and store.backbone_sha256 and store.manifest["pool"] == "max"
    movie = store.movie("film")
    assert movie.seconds.tolist() == [0, 1, 1, 2] and movie.tracks.tolist() == [1, 1, 2, 1]
    np.testing.assert_allclose(movie.boxes[3], [0, 5 / 48, 20 / 64, 30 / 48], atol=1e-6)
    extractor = RegionExtractor(backbones.load_backbone(weights), backend="pyav")
    np.testing.assert_allclose(extractor.times(2), [2.0, 2.25, 2.5, 2.75])
    frames = extractor.reader.read(film / "film.mp4", extractor.times(1), CLIP.short_side)
    clips = CLIP.normalize(torch.from_numpy(frames).permute(3, 0, 1, 2)[None])
    with torch.inference_mode():
        maps = extractor.network.forward_map(clips)
        expected = region_features(maps, torch.from_numpy(movie.boxes[1:3]), torch.zeros(2, dtype=torch.long))
    np.testing.assert_allclose(movie.features[1:3], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_command(tmp_path, film, weights, command):
    path = boxes(tmp_path, ["film,0,0,0,32,48,1,0.9", "film,0,0,0,32,48,2,0.1"], HEADER + ",score")
    words = ["--boxes", path, "--weights", weights, "--videos", film, "--output", tmp_path / "s"]
    summary = command(instances_command, *words, "--min_score", "0.5", "--accelerator", "cpu")
    assert str(summary) == f"1 instances of 1 of 1 movies in {tmp_path / 's'}"
    assert InstanceStore(tmp_path / "s").movie("film").scores.tolist() == pytest.approx([0.9])
    for given in ({"weights": weights, "videos": film}, {"boxes": path, "weights": weights, "official_meta": path}):
        with pytest.raises(UsageError, match="--boxes, --weights and --videos"):
            instances_command(tmp_path / "t", **given)
    with pytest.raises(KuleshovError, match="no folder of videos at .*nowhere"):
        instances_command(tmp_path / "t", boxes=path, weights=weights, videos=tmp_path / "nowhere")


@pytest.mark.slow
def test_two_processes_write_the_same_store(tmp_path, film, weights):
    shutil.copy(film / "film.mp4", film / "other.mp4")
    path = boxes(tmp_path, ["film,0,0,0,32,48,1", "other,1,10,10,30,30,1", "lost,0,0,0,5,5,1"])
    made = [tmp_path / "one", tmp_path / "two"]
    for devices, folder in enumerate(made, 1):
        options = {"weights": weights, "videos": film, "accelerator": "cpu", "devices": devices}
        assert instances_command(folder, boxes=path, **options).movies == 2
    first, second = ({file.name: file.read_bytes() for file in folder.glob("[!.]*")} for folder in made)
    assert first == second


def test_a_backbone_without_maps_is_refused():
    network = torch.nn.Flatten()
    network.clip, network.feature_width = CLIP, 3
    with pytest.raises(KuleshovError, match="Flatten has no forward_map") as error:
        RegionExtractor(network)
    assert "\n" not in str(error.value)


def test_regions_run_on_a_gpu_where_there_is_one(tmp_path, film, weights, monkeypatch):
    """`auto` is the default: the device that extraction takes is the extractor's."""
    used = []

    def extractor(network, pool, device, **options):
        used.append(device)
        return RegionExtractor(network, pool, device="cpu", **options)

    monkeypatch.setattr("kuleshov.features.region_features.RegionExtractor", extractor)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    path = boxes(tmp_path, ["film,0,0,0,32,48,1"])
    instances_command(tmp_path / "s", boxes=path, weights=weights, videos=film)
    assert used == [torch.device("cuda:0")]


@pytest.mark.parametrize(
    ("lines", "header", "said"),
    [
        (["a,0,1,1,2,2"], HEADER, "record 2: 7 columns expected, found 6"),
        (["a,0,1,1,2,x,1"], HEADER, "record 2: numbers expected after the video"),
        (["a,0,1,1,2,2,1", "a,0.5,1,1,2,2,1"], HEADER, "record 3: second, track and shot must be whole"),
        (["a,0,5,1,2,2,1"], HEADER, r"record 2: a box needs x1 < x2 and y1 < y2, found 5,1,2,2"),
        ([], "video;second", "record 1: the header must be 'video,second,x1,y1,x2,y2,track"),
    ],
)
def test_a_broken_box_is_named(tmp_path, lines, header, said):
    with pytest.raises(FormatError, match=said):
        read_boxes(boxes(tmp_path, lines, header))


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


def convert(tmp_path, store):
    files = {"official_meta": tmp_path / "meta.pkl", "official_features": tmp_path / "features"}
    return instances_command(tmp_path / store, **files)


def test_the_official_files_are_converted(tmp_path, command):
    _, features = official(tmp_path)
    words = ["--official_meta", tmp_path / "meta.pkl", "--official_features", tmp_path / "features"]
    summary = command(instances_command, *words, "--output", tmp_path / "s", "--dtype", "fp32")
    assert summary.missing == [{"id": "gone", "reason": "no gone.npz"}]
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
        convert(tmp_path, "s")
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(KuleshovError, match="asks for builtins.print"):
        convert(tmp_path, "t")
    assert "run" not in capsys.readouterr().out.split()


def test_official_files_of_another_form_are_named(tmp_path):
    meta, features = official(tmp_path)
    del features[4]
    np.savez(tmp_path / "features" / "a.npz", a=np.array(features, dtype=object))
    with pytest.raises(FormatError, match="record a: not as LVU's files are .KeyError: 4"):
        convert(tmp_path, "s")
    np.savez(tmp_path / "features" / "a.npz", a=np.zeros(3))
    with pytest.raises(FormatError, match=r"array 'a' is float64 \(3,\), one object was expected"):
        convert(tmp_path, "u")
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(FormatError, match="not a dict of videos"):
        convert(tmp_path, "v")
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"b": {}}))
    with pytest.raises(MissingDataError, match="region features not found at"):
        convert(tmp_path, "v")
    with pytest.raises(MissingDataError, match="boxes not found at"):
        read_boxes(tmp_path / "nowhere.csv")
