"""How fast two augmented views of a video are read, against plain ways of doing it, as ratios of one run.

Writes its own videos, then reads each with every way in turn, so that a busy machine slows all alike.

    python benchmarks/bench_video.py            # table; exit status 1 where a floor is missed
    python benchmarks/bench_video.py --json
"""

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import cv2
import numpy as np
import torch

from kuleshov.core.types import Video
from kuleshov.video.augment import ClipAugmentation, cvrl_views
from kuleshov.video.clips import ClipShape, TwoClips
from kuleshov.video.reader import Backend, reader_version
from kuleshov.video.source import FrameSource


@dataclass(frozen=True)
class Setting:
    """One size at which all ways are compared; `floors` are the least ratios over the plain way."""

    name: str
    width: int
    height: int
    fps: int
    seconds: int
    clip: ClipShape
    size: int
    short_side: int
    floors: dict[str, float]


SETTINGS = (
    Setting("16x4 at 224", 340, 256, 30, 10, ClipShape(16, 4, 30.0), 224, 256, {"ours": 1.0}),
    Setting(
        "demo, 8x2 at 48", 64, 64, 8, 6, ClipShape(8, 2, 8.0), 48, 64, {"ours": 1.0, "ours, cached": 4.0}
    ),
)


def write_videos(folder: Path, setting: Setting, count: int) -> list[Path]:
    """Moving texture, so that there is something to code; x264 with its usual key frames and B-frames."""
    paths = []
    for number in range(count):
        rng = np.random.default_rng(number)
        noise = rng.integers(0, 256, (setting.height // 8 + 40, setting.width // 8 + 40, 3), dtype=np.uint8)
        texture = cv2.resize(noise, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
        paths.append(folder / f"{setting.width}x{setting.height}-{number}.mp4")
        with av.open(str(paths[-1]), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(setting.fps))
            stream.width, stream.height, stream.pix_fmt = setting.width, setting.height, "yuv420p"
            stream.options = {"preset": "veryfast"}
            for step in range(setting.fps * setting.seconds):
                shift = step % 300
                image = texture[shift : shift + setting.height, shift : shift + setting.width]
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return paths


def plain_reading(setting: Setting, whole: bool) -> Callable[[Path], torch.Tensor]:
    """The way of PySlowFast's loader: decode a span (or all) to RGB, then pick frames, scale and crop."""
    views = [ClipAugmentation() for _ in range(2)]
    rng = np.random.default_rng(0)
    step = setting.clip.frame_stride * setting.fps / setting.clip.fps
    span = int((setting.clip.num_frames - 1) * step) + 1

    def decode(path: Path, first: int | None) -> torch.Tensor:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            # one thread, as all ways here
            stream.thread_type = "NONE"
            frames = []
            for number, frame in enumerate(container.decode(stream)):
                if first is None or number >= first:
                    frames.append(torch.from_numpy(frame.to_rgb().to_ndarray()))
                if first is not None and len(frames) == span:
                    break
        return torch.stack(frames)

    def clip(frames: torch.Tensor) -> torch.Tensor:
        picked = frames[torch.linspace(0, len(frames) - 1, setting.clip.num_frames).long()]
        picked = picked.permute(0, 3, 1, 2).float() / 255
        scaled = torch.nn.functional.interpolate(picked, size=(setting.short_side,) * 2, mode="bilinear")
        top, left = rng.integers(0, setting.short_side - setting.size + 1, 2)
        return scaled[:, :, top : top + setting.size, left : left + setting.size].transpose(0, 1)

    def read(path: Path) -> torch.Tensor:
        total = setting.fps * setting.seconds
        starts = rng.integers(0, total - span, 2)
        if whole:
            frames = decode(path, None)
            clips = [clip(frames[start : start + span]) for start in starts]
        else:
            clips = [clip(decode(path, int(start))) for start in starts]
        return torch.stack([view(one[None])[0] for view, one in zip(views, clips, strict=True)])

    return read


def our_reading(
    setting: Setting, paths: list[Path], backend: Backend, cache: int
) -> Callable[[Path], object]:
    """`TwoClips` with CVRL's views: both clips in one pass, only the frames needed converted."""
    videos = [Video(path.stem, path) for path in paths]
    source = FrameSource(paths, setting.short_side, backend, cache)
    data = TwoClips(videos, source, cvrl_views(setting.size), setting.clip)
    place = {path: number for number, path in enumerate(paths)}
    return lambda path: data[place[path]]


def pytorchvideo_reading(setting: Setting) -> Callable[[Path], object] | None:
    """Two clips by pytorchvideo's EncodedVideo, where it is installed."""
    if importlib.util.find_spec("pytorchvideo") is None:
        return None
    from pytorchvideo.data.encoded_video import EncodedVideo

    rng = np.random.default_rng(0)

    def read(path: Path) -> object:
        video = EncodedVideo.from_path(str(path), decode_audio=False)
        starts = rng.uniform(0, setting.seconds - setting.clip.span, 2)
        return [video.get_clip(start, start + setting.clip.span) for start in starts]

    return read


def compare(ways: dict[str, Callable[[Path], object]], paths: list[Path], rounds: int) -> dict[str, float]:
    """Videos per second of each way: the median over rounds in which the ways take turns."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for read in ways.values():
        for path in paths:
            read(path)
    for _ in range(rounds):
        for name, read in ways.items():
            started = time.perf_counter()
            for path in paths:
                read(path)
            rates[name].append(len(paths) / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


def measure(setting: Setting, folder: Path, count: int, rounds: int) -> list[dict]:
    """One row a way: videos per second, ratio over the plain span reading, floor."""
    paths = write_videos(folder, setting, count)
    ways: dict[str, Callable[[Path], object] | None] = {
        "plain, span": plain_reading(setting, whole=False),
        "plain, whole file": plain_reading(setting, whole=True),
        "pytorchvideo": pytorchvideo_reading(setting),
        "ours": our_reading(setting, paths, "auto", 0),
        "ours, pyav": our_reading(setting, paths, "pyav", 0),
        "ours, cached": our_reading(setting, paths, "auto", 10**9),
    }
    present = {name: way for name, way in ways.items() if way is not None}
    rates = compare(present, paths, rounds)
    rows = []
    for name in ways:
        rate = rates.get(name)
        ratio = rate / rates["plain, span"] if rate else None
        floor = setting.floors.get(name)
        rows.append({"setting": setting.name, "way": name, "rate": rate, "ratio": ratio, "floor": floor})
    return rows


def report(rows: list[dict]) -> None:
    """Print the table."""
    print(f"two views of a video, {reader_version()}, {torch.get_num_threads()} thread(s)")
    for row in rows:
        if row["rate"] is None:
            print(f"{row['setting']:<18}{row['way']:<20}skipped: not installed")
            continue
        floor = "" if row["floor"] is None else f"   floor {row['floor']:.1f}"
        print(f"{row['setting']:<18}{row['way']:<20}{row['rate']:8.1f} videos/s {row['ratio']:6.2f} x{floor}")


def main() -> int:
    """Run the comparison; 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=6, help="videos a setting")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the ways take turns")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for setting in SETTINGS
            for row in measure(setting, Path(folder), arguments.videos, arguments.rounds)
        ]
    if arguments.json:
        print(json.dumps(rows))
    else:
        report(rows)
    missed = [row for row in rows if row["floor"] is not None and row["ratio"] < row["floor"]]
    for row in missed:
        text = f"{row['setting']}, {row['way']}: {row['ratio']:.2f} x is below the floor {row['floor']:.1f} x"
        print(text, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
