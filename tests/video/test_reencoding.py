"""A file encoded anew shows the same frames at the same times."""

import av
import numpy as np
import pytest

from kuleshov.core.errors import VideoError
from kuleshov.video.metadata import packet_index
from kuleshov.video.reader import VideoReader
from kuleshov.video.reencoding import Encoding, reencode


@pytest.mark.parametrize(
    "suffix, ticks, rate",
    [
        ("mp4", range(60), 30),
        ("mkv", range(50), 24),
        ("ts", range(60), 30),
        ("mp4", [0, 1, 2, 5, 6, 9, 15, 16, 30], 20),
    ],
)
@pytest.mark.parametrize("rotation", [0, 90])
def test_the_same_frames_are_shown_at_the_same_times(tmp_path, write_video, numbers, suffix, ticks, rate, rotation):
    if rotation and suffix != "mp4":
        pytest.skip("only MP4 keeps a rotation here")
    source = write_video(tmp_path / f"a.{suffix}", list(ticks), rate, {"bf": "2"}, rotation)
    made = reencode(source, tmp_path / "new" / "b.mp4", Encoding(short_side=64, gop=8, crf=10))
    times = packet_index(source).times
    assert packet_index(tmp_path / "new" / "b.mp4").times == pytest.approx(times, abs=2e-3)
    frames = VideoReader().read(tmp_path / "new" / "b.mp4", times + 0.004)
    upright = np.rot90(frames, -rotation // 90, axes=(1, 2))
    assert numbers(upright) == list(range(len(times)))
    assert made.psnr > 30 and made.before == source.stat().st_size
    assert made.after == (tmp_path / "new" / "b.mp4").stat().st_size
    with av.open(str(tmp_path / "new" / "b.mp4")) as container:
        keys = [place for place, p in enumerate(container.demux(video=0)) if p.size and p.is_keyframe]
    assert max(np.diff([*keys, len(times)])) <= 8


def test_the_short_side_shrinks_and_never_grows(tmp_path, write_video):
    source = write_video(tmp_path / "a.mp4", range(10), 10)
    for side, expected in ((32, (32, 64)), (100, (64, 128))):
        reencode(source, tmp_path / f"{side}.mp4", Encoding(short_side=side))
        assert VideoReader().read(tmp_path / f"{side}.mp4", [0.0]).shape[1:3] == expected


def test_quality_is_what_was_lost(tmp_path, write_video):
    source = write_video(tmp_path / "a.mp4", range(20), 10)
    fine, coarse = (reencode(source, tmp_path / f"{crf}.mp4", Encoding(64, 16, crf)) for crf in (10, 45))
    assert fine.psnr > coarse.psnr + 5
    ours = VideoReader().read(tmp_path / "45.mp4", np.arange(20) / 10).astype(float)
    lost = np.square(ours - VideoReader().read(source, np.arange(20) / 10)).mean()
    assert coarse.psnr == pytest.approx(10 * np.log10(255**2 / lost), abs=2)


def test_a_file_that_breaks_off_leaves_nothing(tmp_path, real_data):
    with pytest.raises(VideoError, match="its frames cannot be decoded after"):
        reencode(real_data / "videos" / "corrupted.mp4", tmp_path / "out" / "b.mp4", Encoding())
    assert list((tmp_path / "out").iterdir()) == []
