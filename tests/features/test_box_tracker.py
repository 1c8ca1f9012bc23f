"""The tracker through a stand-in of ultralytics' interface: no weights are at hand in the tests."""

import sys
from types import ModuleType, SimpleNamespace

import av
import numpy as np
import pytest
import torch

from kuleshov import cli
from kuleshov.core.errors import KuleshovError, MissingDataError, UsageError, VideoError
from kuleshov.features.box_tracker import Tracker
from kuleshov.features.instances import instances_command, read_boxes
from kuleshov.features.shots import shots_of


class WhiteSquares:
    """Finds the bright part of a frame; a track is a frame's number since tracks were forgotten."""

    expected = None  # classes that are asked for

    def __init__(self, weights):
        self.seen = 0

    def track(self, frame, persist, tracker, classes, verbose):
        assert frame.dtype == np.uint8 and frame.flags["C_CONTIGUOUS"]
        assert (tracker, classes, verbose) == ("bytetrack.yaml", WhiteSquares.expected, False)
        self.seen = self.seen + 1 if persist else 1
        # the square is red, and comes as blue, green, red
        y, x = np.nonzero((frame[:, :, 2] > 200) & (frame[:, :, 0] < 100))
        if not len(x):
            return [SimpleNamespace(boxes=SimpleNamespace(id=None, xyxy=None, conf=None))]
        box = torch.tensor([[x.min(), y.min(), x.max() + 1, y.max() + 1], [5, 5, 5, 9]]).float()
        found = {"xyxy": box, "id": torch.tensor([self.seen, 99]), "conf": torch.tensor([0.75, 0.5])}
        return [SimpleNamespace(boxes=SimpleNamespace(**found))]


@pytest.fixture
def ultralytics(monkeypatch):
    module = ModuleType("ultralytics")
    module.YOLO = WhiteSquares
    monkeypatch.setitem(sys.modules, "ultralytics", module)


def film(path, seconds, red, cut=None):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, width=64, height=48, pix_fmt="yuv420p")
        stream.options = {"qp": "0"}
        for frame in range(8 * seconds):
            pixels = np.zeros((48, 64, 3), np.uint8)
            if cut is not None and frame >= cut:
                pixels[30:, :, 1:] = 190
            if red:
                pixels[10:30, frame : frame + 20, 0] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_boxes_of_videos(ultralytics, tmp_path, command):
    folder, weights, output = tmp_path / "videos", tmp_path / "w.pt", tmp_path / "boxes.csv"
    folder.mkdir()
    weights.write_bytes(b"x")
    film(folder / "a.mp4", 2, True)
    film(folder / "b.mp4", 1, True)
    film(folder / "dark.mp4", 1, False)
    (folder / "torn.mp4").write_bytes(b"no video")
    summary = command(instances_command, "--detector", weights, "--videos", folder, "--output", output)
    assert (summary.kind, summary.rows, summary.movies, summary.of) == ("boxes", 3, 2, 4)
    reasons = {one["id"]: one["reason"] for one in summary.missing}
    assert reasons.keys() == {"dark", "torn"} and reasons["dark"] == "nothing was found"
    assert "3 boxes of 2 of 4 movies" in str(summary) and "left out dark: nothing" in str(summary)
    found = read_boxes(output)
    assert sorted(found) == ["a", "b"]
    assert found["a"]["seconds"].tolist() == [0, 1]
    # the fifth frame of each second; the tracks of a film begin anew, the box without an area is left out
    assert found["a"]["tracks"].tolist() == [5, 13] and found["b"]["tracks"].tolist() == [5]
    np.testing.assert_allclose(found["a"]["boxes"][:, 0], [4, 12], atol=2)
    assert found["a"]["scores"].tolist() == [0.75, 0.75]


def test_classes_and_shots(ultralytics, tmp_path, monkeypatch):
    pytest.importorskip("scenedetect", reason="the extra `shots` is not installed")
    folder, weights, output = tmp_path / "videos", tmp_path / "w.pt", tmp_path / "boxes.csv"
    folder.mkdir()
    weights.write_bytes(b"x")
    film(folder / "a.mp4", 5, True, cut=24)
    monkeypatch.setattr(WhiteSquares, "expected", [0, 2])
    words = ("--detector", weights, "--videos", folder, "--output", output, "--classes", 0, 2, "--shots")
    assert cli.command("instances", list(map(str, words))) == 0
    assert output.read_text().startswith("video,second,x1,y1,x2,y2,track,score,shot\n")
    assert read_boxes(output)["a"]["shots"].tolist() == [0, 0, 0, 1, 1]
    assert shots_of(folder / "a.mp4", np.array([0, 2, 3])).tolist() == [0, 0, 1]
    (folder / "torn.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match="no shots were found"):
        shots_of(folder / "torn.mp4", np.array([0]))


def test_mistakes_are_named(monkeypatch, ultralytics, tmp_path):
    weights, given = tmp_path / "w.pt", {"videos": tmp_path, "output": tmp_path / "boxes.csv"}
    with pytest.raises(UsageError, match="--detector and --videos"):
        instances_command(detector=weights, weights=weights, **given)
    with pytest.raises(MissingDataError, match="detector weights"):
        instances_command(detector=weights, **given)
    with pytest.raises(KuleshovError, match="at least one frame a second"):
        Tracker(weights, rate=0)
    weights.write_bytes(b"x")
    with pytest.raises(KuleshovError, match="no boxes in any of 0 videos"):
        instances_command(detector=weights, **given)
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(KuleshovError, match=r"ultralytics.*kuleshov\[detector\]"):
        instances_command(detector=weights, **given)
