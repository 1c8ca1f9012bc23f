"""How fast two views of a video are read, against what a user would pick instead, as ratios of one run.

Writes its own videos, then reads each with every way in turn; a rate is videos a second of processor time, of which
a busy machine takes little. Peers: PySlowFast's way, written out here (seek to the key frame before the clip, decode it
with PyAV, turn every frame to RGB, pick, scale, crop), the same with the whole file, decord's own way (the frames of
both clips by number, picked, scaled and cropped alike), and pytorchvideo's EncodedVideo where it is installed
(docs/backbones.md says how). All end with float clips in [0, 1], which with us is the device's part: `loader alone` is
without it; colors are changed later, on the device, which bench_backbone.py measures. `prepared` are the same videos
after `kuleshov prepare`. No file's index is remembered from read to read, as none is in a large data set. Ratios are
over the fastest peer on the files as they are, round by round. The floor is decoding alone: the frames that are shown,
and those that they lean on.

    python benchmarks/bench_video.py            # table; exit status 1 where a ratio is missed
    python benchmarks/bench_video.py --json --reads 300     # and whether memory stays flat
"""

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import cv2
import numpy as np
import torch
from lines import Line, finish

from kuleshov.video import metadata
from kuleshov.video.augmentation import ClipAugmentation, cvrl_views
from kuleshov.video.clip_datasets import TwoClips
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.decoders import PyAVDecoder, import_decord
from kuleshov.video.frame_source import FrameSource
from kuleshov.video.reader import Backend, reader_version
from kuleshov.video.reencoding import Encoding, reencode
from kuleshov.video.video_file import Video


@dataclass(frozen=True)
class Setting:
    """One size at which all ways are compared; `least` holds the least ratios over the fastest peer."""

    name: str
    width: int
    height: int
    fps: int
    seconds: int
    clip: ClipFormat
    size: int
    short_side: int
    least: dict[str, float]


SETTINGS = (
    Setting("16x4 at 224", 340, 256, 30, 10, ClipFormat(16, 4, 30.0), 224, 256, {"ours": 2.0}),
    Setting("demo, 8x2 at 48", 64, 64, 8, 6, ClipFormat(8, 2, 8.0), 48, 64, {"ours, cached": 3.0}),
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


def decoded(path: Path, start: float, end: float) -> torch.Tensor:
    """RGB frames (T, H, W, 3) from `start` to `end` seconds, by PyAV as PySlowFast's loader reads them."""
    margin = 1024  # PySlowFast's, in ticks: seeking in a stream is imprecise
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        # one thread, as all ways here
        stream.thread_type = "NONE"
        first, last = int(start / stream.time_base), int(end / stream.time_base)
        container.seek(max(first - margin, 0), any_frame=False, backward=True, stream=stream)
        frames = {}
        for frame in container.decode(stream):
            if first <= frame.pts <= last:
                frames[frame.pts] = frame
            elif frame.pts > last:
                break
        arrays = [frames[pts].to_rgb(threads=1).to_ndarray() for pts in sorted(frames)]
    return torch.from_numpy(np.stack(arrays))


def finishing(setting: Setting) -> Callable[[list[torch.Tensor]], torch.Tensor]:
    """What the peers do with two clips' frames (T, H, W, 3): pick evenly, scale the short side, crop, flip."""
    rng = np.random.default_rng(0)

    def clip(frames: torch.Tensor) -> torch.Tensor:
        picked = frames[torch.linspace(0, len(frames) - 1, setting.clip.num_frames).long()]
        picked = picked.permute(0, 3, 1, 2).float() / 255
        height, width = picked.shape[-2:]
        scale = setting.short_side / min(height, width)
        size = (round(height * scale), round(width * scale))
        scaled = torch.nn.functional.interpolate(picked, size=size, mode="bilinear")
        top, left = (int(rng.integers(0, side - setting.size + 1)) for side in size)
        cropped = scaled[:, :, top : top + setting.size, left : left + setting.size]
        return (cropped.flip(-1) if rng.random() < 0.5 else cropped).transpose(0, 1)

    def finish(clips: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([clip(frames) for frames in clips])

    return finish


def pyslowfast_reading(setting: Setting, whole: bool) -> Callable[[Path], torch.Tensor]:
    """Two clips of a file, each decoded by itself, or both picked from the whole file."""
    rng, finish = np.random.default_rng(0), finishing(setting)
    span = setting.clip.last_frame_seconds

    def read(path: Path) -> torch.Tensor:
        starts = rng.uniform(0, setting.seconds - span - 1 / setting.fps, 2)
        if not whole:
            return finish([decoded(path, start, start + span) for start in starts])
        frames = decoded(path, 0.0, setting.seconds)
        firsts = [int(start * setting.fps) for start in starts]
        return finish([frames[first : first + int(span * setting.fps) + 1] for first in firsts])

    return read


def decord_reading(setting: Setting) -> Callable[[Path], torch.Tensor] | None:
    """Two clips by decord's `get_batch`, where it is installed."""
    decord = import_decord()
    if decord is None:
        return None
    rng, finish = np.random.default_rng(0), finishing(setting)
    step, span = round(setting.clip.frame_seconds * setting.fps), setting.clip.last_frame_seconds

    def read(path: Path) -> torch.Tensor:
        reader = decord.VideoReader(str(path), num_threads=1)
        firsts = (rng.uniform(0, setting.seconds - span - 1 / setting.fps, 2) * setting.fps).astype(int)
        places = np.concatenate([first + step * np.arange(setting.clip.num_frames) for first in firsts])
        frames = torch.from_numpy(reader.get_batch(places).asnumpy())
        return finish(list(frames.chunk(2)))

    return read


def our_reading(
    setting: Setting, paths: list[Path], backend: Backend, cache: int, device_part: bool = True
) -> Callable[[Path], object]:
    """`TwoClips` with CVRL's views: both clips in one pass, only the frames needed decoded."""
    videos, augment = [Video(path.stem, path) for path in paths], ClipAugmentation()
    source = FrameSource(paths, setting.short_side, backend, cache)
    data = TwoClips(videos, source, cvrl_views(setting.size), setting.clip)
    place = {path: number for number, path in enumerate(paths)}

    for path in paths:
        source.duration(path)

    def read(path: Path) -> object:
        metadata._indices.clear()
        sample = data[place[path]]
        return augment(torch.stack([sample["clip_a"], sample["clip_b"]])) if device_part else sample

    return read


def pytorchvideo_reading(setting: Setting) -> Callable[[Path], object] | None:
    """Two clips by pytorchvideo's EncodedVideo, where it is installed."""
    if importlib.util.find_spec("pytorchvideo") is None:
        return None
    from pytorchvideo.data.encoded_video import EncodedVideo

    rng, finish = np.random.default_rng(0), finishing(setting)

    def read(path: Path) -> object:
        video = EncodedVideo.from_path(str(path), decode_audio=False)
        starts = rng.uniform(0, setting.seconds - setting.clip.last_frame_seconds - 1 / setting.fps, 2)
        clips = [video.get_clip(start, start + setting.clip.last_frame_seconds)["video"] for start in starts]
        return finish([clip.permute(1, 2, 3, 0) for clip in clips])

    return read


def decoding(setting: Setting) -> Callable[[Path], object]:
    """What no way can do without: the frames of two clips, decoded and thrown away."""
    rng = np.random.default_rng(0)
    step, span = setting.clip.frame_seconds, setting.clip.last_frame_seconds

    def read(path: Path) -> None:
        starts = rng.uniform(0, setting.seconds - span - 1 / setting.fps, 2)
        times = np.sort(np.concatenate([start + step * np.arange(setting.clip.num_frames) for start in starts]))
        decoder = PyAVDecoder(path, None, times)
        decoder._convert = lambda frame: frame
        for second in times:
            decoder.at(second)
        decoder.close()

    return read


def compare(ways: dict[str, Callable[[Path], object]], paths: list[Path], rounds: int) -> dict[str, list[float]]:
    """Videos a second of processor time of each way, in each of the rounds in which the ways take turns."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for read in ways.values():
        for path in paths:
            read(path)
    for _ in range(rounds):
        for name, read in ways.items():
            started = time.process_time()
            for path in paths:
                read(path)
            rates[name].append(len(paths) / (time.process_time() - started))
    return rates


PEERS = ("PySlowFast's, clips", "PySlowFast's, whole file", "decord's own", "pytorchvideo")
# clips that CVRL on eight A100 takes a second (estimate_pretraining.py)
WANTED = 1700


def measure(setting: Setting, folder: Path, paths: list[Path], rounds: int) -> list[dict]:
    """One row a way: videos a second and ratio over the fastest peer (least, median, most), share of the floor."""
    made = {path: folder / "prepared" / f"{path.stem}.mp4" for path in paths}
    for path, target in made.items():
        reencode(path, target, Encoding(setting.short_side))
    ready = list(made.values())

    def prepared(read: Callable[[Path], object]) -> Callable[[Path], object]:
        return lambda path: read(made[path])

    ways: dict[str, Callable[[Path], object] | None] = {
        PEERS[0]: pyslowfast_reading(setting, whole=False),
        PEERS[1]: pyslowfast_reading(setting, whole=True),
        PEERS[2]: decord_reading(setting),
        PEERS[3]: pytorchvideo_reading(setting),
        "ours": our_reading(setting, paths, "auto", 0),
        "ours, decord": our_reading(setting, paths, "decord", 0) if import_decord() else None,
        "ours, loader alone": our_reading(setting, paths, "auto", 0, device_part=False),
        "PySlowFast's, prepared": prepared(pyslowfast_reading(setting, whole=False)),
        "ours, prepared": prepared(our_reading(setting, ready, "auto", 0)),
        "loader alone, prepared": prepared(our_reading(setting, ready, "auto", 0, device_part=False)),
        "ours, cached": our_reading(setting, paths, "auto", 10**9),
    }
    floors = {"floor": decoding(setting), "floor, prepared": prepared(decoding(setting))}
    rates = compare({**{name: way for name, way in ways.items() if way is not None}, **floors}, paths, rounds)
    shutil.rmtree(folder / "prepared")
    fastest = max((name for name in PEERS if name in rates), key=lambda name: statistics.median(rates[name]))
    rows = []
    for name in ways:
        row = {"setting": setting.name, "way": name, "least": setting.least.get(name), "rate": None}
        if name in rates:
            floor = rates["floor, prepared" if "prepared" in name else "floor"]
            job, limit = f"two views of a video, {setting.name}, {name}", () if "cached" in name else floor
            if name not in PEERS and "PySlowFast" not in name:
                aim = setting.least.get(name, 0.0)
                row["line"] = Line(job, "videos/s", rates[name], fastest, rates[fastest], limit, aim)
            row |= {"rate": spread(rates[name]), "ratio": spread(paired(rates[name], rates[fastest]))}
            row |= {"of_floor": None if "cached" in name else statistics.median(paired(rates[name], floor))}
        rows.append(row)
    return rows


def paired(ours: list[float], others: list[float]) -> list[float]:
    """Ratios round by round."""
    return [one / other for one, other in zip(ours, others, strict=True)]


def spread(values: list[float]) -> list[float]:
    """Least, median, most."""
    return [min(values), statistics.median(values), max(values)]


def resident() -> float:
    """Megabytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory(setting: Setting, folder: Path, reads: int) -> dict:
    """Megabytes held by a process that has read `reads` samples, and ten times as many."""
    paths = write_videos(folder, setting, 4)
    read, held = our_reading(setting, paths, "auto", 0), []
    for count in (reads, 9 * reads):
        for number in range(count):
            read(paths[number % len(paths)])
        held.append(resident())
    return {"setting": setting.name, "reads": reads, "before": held[0], "after": held[1]}


def report(rows: list[dict]) -> None:
    """Print the table."""
    print(f"two views of a video, {reader_version()}, {torch.get_num_threads()} thread(s); least, median, most")
    for row in rows:
        title = f"{row['setting']:<18}{row['way']:<26}"
        if row["rate"] is None:
            print(f"{title}skipped: not installed (docs/backbones.md says how)")
            continue
        least = "" if row["least"] is None else f"   at least {row['least']:.1f}"
        figures = "{:8.1f} {:7.1f} {:7.1f} videos/s".format(*row["rate"])
        figures += " {:7.2f} {:6.2f} {:6.2f} x".format(*row["ratio"])
        floor = "" if row["of_floor"] is None else f" {row['of_floor']:6.0%} of the floor"
        cores = "" if "demo" in row["setting"] else f" {WANTED / row['rate'][1]:5.0f} cores for {WANTED}/s"
        print(f"{title}{figures}{floor}{cores}{least}")


def main() -> int:
    """Run the comparison; 1 where a ratio is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=6, help="videos a setting")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the ways take turns")
    parser.add_argument(
        "--reads", type=int, default=0, help="and measure the memory after so many and ten times as many reads"
    )
    parser.add_argument("--files", type=Path, nargs="+", help="videos of 10 s, 30 frames a second, to be read")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--lines", type=Path, help="write the lines of our ways here instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.files:
            given = [(replace(SETTINGS[0], name="your files", least={}), arguments.files)]
        else:
            given = [(setting, write_videos(Path(folder), setting, arguments.videos)) for setting in SETTINGS]
        rows = [row for one, paths in given for row in measure(one, Path(folder), paths, arguments.rounds)]
        held = memory(SETTINGS[0], Path(folder), arguments.reads) if arguments.reads else None
    lines = [row.pop("line") for row in rows if "line" in row]
    if arguments.lines:
        return finish(lines, arguments.lines)
    if arguments.json:
        print(json.dumps({"rows": rows, "memory": held}))
    else:
        report(rows)
        if held:
            print(
                f"memory after {held['reads']} reads {held['before']:.0f} MB, after ten times as many "
                f"{held['after']:.0f} MB"
            )
    missed = [row for row in rows if row["least"] is not None and row["ratio"][1] < row["least"]]
    for row in missed:
        text = f"{row['setting']}, {row['way']}: {row['ratio'][1]:.2f} x is below {row['least']:.1f} x"
        print(text, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
