"""Flow edges: what moves against its surroundings stands out, what the camera does alike everywhere does not."""

import cv2
import numpy as np
import pytest

from kuleshov.core.errors import KuleshovError
from kuleshov.video import optical_flow as motion
from kuleshov.video.metadata import probe
from kuleshov.video.reader import VideoReader
from kuleshov.video.video_file import Video


@pytest.fixture
def texture():
    rng = np.random.default_rng(0)
    return cv2.resize(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8), (160, 160), interpolation=cv2.INTER_CUBIC)


def test_edges_of_a_field_in_closed_form():
    rows, columns = np.mgrid[0:8, 0:8].astype(np.float32)
    flow = np.stack([0.3 * columns + 0.4 * rows, 1.2 * rows], axis=2)
    edges = motion.flow_edges(flow, maximum=2.0)
    # |grad u| = 0.5, |grad v| = 1.2, both 1.3; of 2.0 in 8 bits
    assert edges.dtype == np.uint8 and edges.shape == (8, 8, 3)
    np.testing.assert_array_equal(edges[4, 4], np.round(np.array([0.5, 1.2, 1.3]) / 2 * 255))
    assert (motion.flow_edges(10 * flow, 2.0)[..., 2] == 255).all()


def test_a_constant_translation_has_no_edges(texture):
    pan = motion.motion_frames(np.stack([texture[20:84, 20:84], texture[22:86, 23:87]])[None], 1.0)[0]
    flow = motion.optical_flow(texture[20:84, 20:84], texture[22:86, 23:87])
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), [-3, -2], atol=0.2)
    assert np.median(pan[12:-12, 12:-12]) < 25


def test_a_moving_pattern_on_a_static_background_is_outlined(texture):
    first = texture[:96, :96].copy()
    second = first.copy()
    patch = texture[100:132, 100:132]
    first[32:64, 30:62] = patch
    second[32:64, 34:66] = patch
    edges = motion.motion_frames(np.stack([first, second])[None], 1.0)[0, ..., 2].astype(float)
    border = np.zeros((96, 96), bool)
    border[26:70, 24:72] = True
    border[40:56, 40:56] = False
    assert edges[border].mean() > 10 * edges[~border & (np.indices((96, 96)).min(0) >= 0)][:500].mean()
    assert edges[45:51, 45:51].mean() < 0.5 * edges[border].mean()


def test_small_frames_work():
    frames = np.random.default_rng(0).integers(0, 256, (1, 2, 32, 32, 3), dtype=np.uint8)
    assert motion.motion_frames(frames, 1.0).shape == (1, 32, 32, 3)


def test_kept_motion_is_the_same(monkeypatch):
    pairs = np.random.default_rng(0).integers(0, 256, (3, 2, 32, 32, 3), dtype=np.uint8)
    plain = motion.motion_frames(pairs, 1.0)
    memo = motion.MotionMemo(2 * 32 * 32 * 3)
    np.testing.assert_array_equal(motion.motion_frames(pairs, 1.0, memo), plain)
    assert memo.used == 2 * 32 * 32 * 3
    # what is kept is not computed again; of another cut-off it is
    monkeypatch.setattr(motion, "optical_flow", None)
    np.testing.assert_array_equal(motion.motion_frames(pairs[:2], 1.0, memo), plain[:2])
    with pytest.raises(TypeError):
        motion.motion_frames(pairs[:1], 2.0, memo)
    with pytest.raises(TypeError):
        motion.motion_frames(pairs[2:], 1.0, memo)


@pytest.fixture
def settings():
    return motion.MotionSettings(fps=8.0, short_side=32, maximum=1.0)


def test_precomputed_motion_is_what_the_loader_computes(tmp_path, video_folder, settings):
    videos = [Video("a/one", video_folder / "v0.mp4"), Video("two", video_folder / "v1.mp4", 1.0, 3.0)]
    summary = motion.precompute(videos, tmp_path, settings)
    assert summary.written == ["a/one", "two"] and summary.failed == {}
    times = np.arange(16) / 8
    pairs = VideoReader("pyav").read(videos[1].path, 1.0 + np.stack([times, times + 1 / 8], 1).ravel(), 32)
    expected = motion.motion_frames(pairs.reshape(16, 2, *pairs.shape[1:]), 1.0)
    found = VideoReader().read(motion.motion_path(tmp_path, "two"), times)
    np.testing.assert_array_equal(found, expected)
    assert abs(probe(motion.motion_path(tmp_path, "a/one")).duration - 6.0) < 0.13


def test_precompute_goes_on_where_it_stopped_and_names_failures(tmp_path, video_folder, settings):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing")
    output = tmp_path / "motion"
    motion.precompute([Video("v0", video_folder / "v0.mp4")], output, settings)
    before = motion.motion_path(output, "v0").stat().st_mtime_ns
    videos = [Video("v0", video_folder / "v0.mp4"), Video("bad", bad), Video("v1", video_folder / "v1.mp4")]
    summary = motion.precompute(videos, output, settings, workers=1)
    assert (summary.written, summary.present) == (["v1"], ["v0"])
    assert summary.failed["bad"].startswith("it cannot be opened (")
    assert motion.motion_path(output, "v0").stat().st_mtime_ns == before
    assert sorted(p.name for p in output.iterdir()) == ["motion.json", "v0.mkv", "v1.mkv"]


def test_other_settings_and_escaping_ids_are_refused(tmp_path, video_folder, settings):
    motion.precompute([Video("v0", video_folder / "v0.mp4")], tmp_path, settings)
    with pytest.raises(KuleshovError, match="motion.json was made with other settings"):
        motion.precompute([Video("v0", video_folder / "v0.mp4")], tmp_path, motion.MotionSettings(fps=4.0))
    with pytest.raises(KuleshovError, match=r"'\.\./x' is no name for a file"):
        motion.motion_path(tmp_path, "../x")
