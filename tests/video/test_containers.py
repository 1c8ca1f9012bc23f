"""Every container and codec that can be written here gives the frames asked for; and files as they come in the wild."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from kuleshov.core.errors import VideoError
from kuleshov.video.metadata import packet_index, probe
from kuleshov.video.reader import VideoReader

FRAMES, RATE = 150, 25
LAYOUTS = {".wmv": "asf", ".m2ts": "mpegts", ".ogv": "ogg", ".m4v": "mp4"}
B_FRAMES = {"g": "30", "bf": "2"}
OPTIONS = {
    "libx264": {"preset": "medium", "g": "30"},
    **dict.fromkeys(("mpeg4", "mpeg1video", "mpeg2video"), B_FRAMES),
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "g": "30"},
    "libsvtav1": {"preset": "12", "g": "30"},
}
KINDS = [
    *[(suffix, codec) for suffix in (".mp4", ".mov", ".mkv") for codec in ("libx264", "mpeg4", "mpeg2video", "mjpeg")],
    *[(suffix, codec) for suffix in (".avi", ".wmv") for codec in ("libx264", "mpeg4", "mpeg1video", "wmv2", "mjpeg")],
    *[(suffix, codec) for suffix in (".ts", ".m2ts") for codec in ("libx264", "mpeg4", "mpeg1video", "mpeg2video")],
    *[(".mpg", codec) for codec in ("libx264", "mpeg1video", "mpeg2video")],
    *[(".webm", "libvpx"), (".webm", "libsvtav1"), (".mp4", "libsvtav1"), (".flv", "libx264"), (".flv", "flv")],
    *[(".ogv", "libvpx"), (".3gp", "libx264"), (".m4v", "libx264")],
]


def middles(numbers, rate: float = RATE) -> list[float]:
    return [(number + 0.5) / rate for number in numbers]


@pytest.mark.parametrize("suffix, codec", KINDS)
def test_random_access_gives_what_reading_through_gives(tmp_path, write_video, numbers, suffix, codec):
    path = write_video(
        tmp_path / f"a{suffix}", range(FRAMES), RATE, OPTIONS.get(codec), codec=codec, layout=LAYOUTS.get(suffix)
    )
    asked = [3, 15, 39, 81, 123, 148]
    for backend in ("auto", "pyav"):
        reader = VideoReader(backend)
        assert [numbers(reader.read(path, middles([number])))[0] for number in asked] == asked
        assert numbers(reader.read(path, middles(asked))) == asked
        assert numbers(reader.read(path, middles(range(FRAMES)))) == list(range(FRAMES))
    assert probe(path).duration == pytest.approx(FRAMES / RATE, abs=1.01 / RATE)


def test_what_comes_out_shifted_is_refused_by_name(tmp_path, write_video):
    path = write_video(tmp_path / "a.mpg", range(FRAMES), RATE, B_FRAMES, codec="mpeg4")
    with pytest.raises(VideoError, match="frames of mpeg4 in an MPEG file"):
        probe(path)


def join(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_files_joined_by_cat_are_read_whole(tmp_path, write_video, numbers, suffix):
    parts = [tmp_path / f"{name}{suffix}" for name in "abc"]
    codec = {".ts": "libx264", ".mpg": "mpeg2video"}[suffix]
    for part in parts:
        write_video(part, range(100), RATE, OPTIONS[codec], codec=codec)
    whole = join(tmp_path / f"whole{suffix}", *parts)
    assert probe(whole).duration == pytest.approx(12.0, abs=0.1)
    asked = [0, 99, 110, 199, 205, 299]
    assert numbers(VideoReader().read(whole, middles(asked))) == [number % 100 for number in asked]
    assert numbers(VideoReader().read(whole, middles([250]))) == [50]


@pytest.mark.parametrize("suffix, codec", [(".mkv", "mjpeg"), (".mp4", "mjpeg"), (".mkv", "libx264")])
@pytest.mark.parametrize("cover", [True, False])
def test_a_picture_before_the_film_is_not_the_film(tmp_path, numbers, write_video, suffix, codec, cover):
    film = write_video(tmp_path / f"film{suffix}", range(100), RATE)
    path = tmp_path / f"both{suffix}"
    with av.open(str(film)) as source, av.open(str(path), "w") as container:
        still = container.add_stream(codec, rate=1)
        still.width, still.height, still.pix_fmt = 64, 64, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if cover:
            still.disposition = av.stream.Disposition.attached_pic
        moving = container.add_stream_from_template(source.streams.video[0])
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        picture.pts, picture.time_base = 0, Fraction(1, 1)
        for packet in [*still.encode(picture), *still.encode(None)]:
            container.mux(packet)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = moving
                container.mux(packet)
    assert probe(path).duration == pytest.approx(4.0, abs=0.05)
    assert numbers(VideoReader().read(path, middles([7, 70]))) == [7, 70]


def test_what_cat_cannot_join_is_refused_by_name(tmp_path, write_video):
    part = write_video(tmp_path / "a.mkv", range(100), RATE)
    with pytest.raises(VideoError, match="several files in one"):
        probe(join(tmp_path / "whole.mkv", part, part, part))


@pytest.mark.parametrize("suffix", [".mp4", ".flv"])
def test_what_cat_hides_is_told(tmp_path, write_video, suffix):
    part = write_video(tmp_path / f"a{suffix}", range(100), RATE)
    info = probe(join(tmp_path / f"whole{suffix}", part, part))
    assert info.duration == pytest.approx(4.0, abs=0.05) and "of the file come after its last frame" in info.remark
    assert probe(part).remark == ""


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4"])
def test_a_gap_in_the_clock_is_refused_by_name(tmp_path, write_video, suffix):
    stamps = [*range(10), *range(10**6, 10**6 + 10)]
    path = write_video(tmp_path / f"gap{suffix}", stamps, RATE)
    with pytest.raises(VideoError, match=r"no frame between .* cut it"):
        probe(path)


def test_a_part_without_frames_is_told(tmp_path, write_video):
    whole, hole = range(100), [k for k in range(200) if not 60 <= k < 130]
    assert probe(write_video(tmp_path / "whole.mkv", whole, RATE)).remark == ""
    assert probe(write_video(tmp_path / "hole.mkv", hole, RATE)).remark == "it has no frame between 2.4 and 5.2 s"


def two_sizes(path: Path, codec: str, image) -> Path:
    """50 frames of 128 x 64, then 50 of 64 x 128 whose picture is turned."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for part, (width, height) in enumerate(((128, 64), (64, 128))):
            encoder = av.CodecContext.create(codec, "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base, encoder.framerate = Fraction(1, RATE), RATE
            encoder.options = {"tune": "zerolatency"} if codec == "libx264" else OPTIONS["libvpx"]
            for number in range(50 * part, 50 * part + 50):
                frame = av.VideoFrame.from_ndarray(image(number, width, height), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = stream, Fraction(1, RATE)
                    container.mux(packet)
            for packet in encoder.encode(None):
                packet.stream, packet.time_base = stream, Fraction(1, RATE)
                container.mux(packet)
    return path


@pytest.mark.parametrize("suffix, codec", [(".ts", "libx264"), (".webm", "libvpx"), (".mkv", "libx264")])
@pytest.mark.parametrize("short_side", [None, 32])
def test_frames_that_change_their_size_come_in_the_first(tmp_path, numbers, number_image_of, suffix, codec, short_side):
    path = two_sizes(tmp_path / f"turned{suffix}", codec, number_image_of)
    for backend in ("auto", "pyav"):
        for asked in ([10, 80], [80], [80, 10]):
            frames = VideoReader(backend).read(path, middles(asked), short_side)
            assert frames.shape[1:] == ((64, 128, 3) if short_side is None else (32, 64, 3))
            assert numbers(frames) == asked
    windows = dict(VideoReader().stream(path, [middles([10, 20]), middles([40, 60]), middles([80, 90])]))
    assert [numbers(windows[place]) for place in range(3)] == [[10, 20], [40, 60], [80, 90]]


@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".flv", ".ts", ".avi"])
def test_a_truncated_file_ends_with_its_last_frame(tmp_path, write_video, numbers, suffix):
    codec = "libvpx" if suffix == ".webm" else "libx264"
    options = {**OPTIONS[codec], **({"preset": "ultrafast", "bf": "0"} if codec == "libx264" else {})}
    whole = write_video(tmp_path / f"whole{suffix}", [2 * k for k in range(250)], 50, options, codec=codec)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(0.4 * whole.stat().st_size)])
    info, index = probe(cut), packet_index(cut)
    assert 2.0 < info.duration < 6.0
    assert info.duration == pytest.approx(index.times[-1] + 0.04, abs=0.05)
    assert suffix in (".ts", ".avi") or info.remark.startswith("its header claims 10.")
    last = int(info.duration * RATE + 0.5) - 2
    assert numbers(VideoReader().read(cut, middles([0, last]))) == [0, last]


@pytest.mark.parametrize("name", ["Solaris: the return.mp4", "http:x.mp4", "a b#c?.mp4", "-i.mp4", b"caf\xe9.mp4"])
def test_odd_names_are_only_names(tmp_path, write_video, numbers, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(name)
    write_video(tmp_path / "plain.mp4", range(50), RATE).rename(name)
    assert probe(name).duration == pytest.approx(2.0)
    assert numbers(VideoReader().read(name, middles([7, 40]))) == [7, 40]
    assert numbers(dict(VideoReader().stream(name, [middles([3, 9])]))[0]) == [3, 9]


@pytest.mark.parametrize("rate", [1, 3])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_few_frames_a_second_are_one_file(tmp_path, write_video, numbers, suffix, rate):
    path = write_video(tmp_path / f"a{suffix}", range(20), rate, {"bf": "3"})
    assert probe(path).remark == "" and packet_index(path).fault != "it is several files in one"
    assert numbers(VideoReader().read(path, middles([2, 11, 19], rate))) == [2, 11, 19]
