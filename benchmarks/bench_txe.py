"""Level 2's speed: masked-event training and extraction, against what a user would write first.

    python benchmarks/bench_txe.py [--full] [--parts gather,step,extract,memory]

Training, at the paper's size with --full (N=5, D=2048, H=1024, K=65,536, batch 256), else at a quarter of it:

- gather: windows a second of the index loader and one gather, against a DataLoader over one .npy a movie;
- step: a whole training step against the same step on resident random tensors, and against the floor, the time
  in which this machine's matrix product does the step's floating point operations.

Extraction, with a tiny backbone, so that decoding counts:

- extract: one sequential pass a movie against decoding every window on its own;
- memory: peak memory of extracting a 30-minute movie against that of a 3-minute one.

Ratios are of the same run on the same machine. Exit status 1 where an aim is missed.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import torch
from lines import Line, finish, rounds
from torch.utils.data import DataLoader, Dataset

from kuleshov import backbones
from kuleshov.features.extract import extract_command
from kuleshov.features.movie_clips import EventPlan, Grid, center_crop
from kuleshov.features.npy import export_features
from kuleshov.features.store_writer import StoreWriter
from kuleshov.txe.masked_event import MaskedEventPretraining
from kuleshov.txe.window_data import EventWindows
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.reader import VideoReader
from kuleshov.video.video_file import Video

FULL = {"width": 2048, "hidden": 1024, "heads": 16, "feedforward": 2048, "queue": 65_536, "batch": 256}
QUARTER = {"width": 512, "hidden": 256, "heads": 16, "feedforward": 512, "queue": 16_384, "batch": 256}
EVENTS, MOVIE_EVENTS = 5, 60


def rate(run: Callable[[], object], count: float) -> Callable[[], float]:
    """How many a second a run does, of so many."""

    def measured() -> float:
        begin = time.perf_counter()
        run()
        return count / (time.perf_counter() - begin)

    return measured


def make_features(folder: Path, movies: int, width: int) -> tuple[Path, Path]:
    """A store of random features and the same as one .npy a movie."""
    writer = StoreWriter(folder / "store", width, 2.0, 2.0, "fp16")
    for number in range(movies):
        writer.add(f"m{number:05d}", torch.rand(MOVIE_EVENTS, width))
    writer.finish()
    export_features(folder / "store", folder / "npy")
    return folder / "store", folder / "npy"


class NpyWindows(Dataset):
    """The plain way: a file a movie, loaded when asked for, a random window of it."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.npy"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        features = np.load(self.paths[index])
        start = np.random.randint(len(features) - EVENTS + 1)
        return torch.from_numpy(features[start : start + EVENTS].astype(np.float32))


def open_windows(store: Path, batch: int) -> EventWindows:
    data = EventWindows([str(store)], batch_size=batch, val_fraction=0.0)
    data.setup("fit")
    return data


def one_epoch(data: EventWindows) -> None:
    for batch in data.train_dataloader():
        data.on_after_batch_transfer(batch, 0)


def bench_gather(folder: Path, size: dict, number: int) -> list[Line]:
    """Loading and gathering one epoch."""
    movies = 8 * size["batch"]
    store, npy = make_features(folder, movies, size["width"])
    data = open_windows(store, size["batch"])
    ways = {"ours": rate(lambda: one_epoch(data), movies)}
    for workers in (0, 2):
        loader = DataLoader(NpyWindows(npy), size["batch"], shuffle=True, num_workers=workers)
        plain = rate(lambda loader=loader: [None for _ in loader], movies)
        ways[f"a DataLoader over .npy files, {workers} workers"] = plain
    found = rounds(ways, number)
    ours, job = found.pop("ours"), "windows of events, index batches and one gather"
    return [Line(job, "windows/s", ours, peer, theirs, aim=5.0) for peer, theirs in found.items()]


def make_step(size: dict, data: EventWindows) -> tuple[MaskedEventPretraining, Callable[[dict], None]]:
    """A module without a trainer, and one optimizer step on a batch."""
    names = ("hidden", "heads", "feedforward")
    module = MaskedEventPretraining(queue_size=size["queue"], layers=3, **{n: size[n] for n in names})
    module._trainer = SimpleNamespace(datamodule=data)
    module.log = lambda *_, **__: None
    module.setup("fit")
    module.queues[0].enqueue(torch.nn.functional.normalize(torch.rand(size["queue"], size["width"]), dim=1))
    module.queue_rows[0].enqueue(torch.full((size["queue"], 1), -1.0))
    optimizer = torch.optim.AdamW(module.txe.parameters(), lr=1e-4)

    def step(batch: dict) -> None:
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        module.on_after_backward()
        optimizer.step()

    return module, step


def step_flops(size: dict, masked: int) -> float:
    """Floating point operations of a step: forward, and twice as much backward, but once for the queue's side."""
    hidden, width, tokens = size["hidden"], size["width"], size["batch"] * EVENTS
    layer = 4 * hidden**2 + 2 * hidden * size["feedforward"] + 2 * EVENTS * hidden
    encoder = 2 * tokens * (3 * layer + width * hidden) + 2 * masked * hidden * width
    # the features and the queue get no gradient
    backward = 2 * encoder - 2 * tokens * width * hidden
    queue = 2 * masked * size["queue"] * width
    return encoder + backward + 2 * queue


def machine_flops() -> float:
    """Operations a second of a large matrix product."""
    a, b = torch.rand(1024, 2048), torch.rand(2048, 4096)
    return max(rounds({"product": rate(lambda: a @ b, 2 * 1024 * 2048 * 4096)}, 5)["product"])


def bench_step(folder: Path, size: dict, number: int) -> list[Line]:
    """A whole step, with loading, against resident tensors and against the floor."""
    store, npy = make_features(folder, 2 * size["batch"], size["width"])
    data = open_windows(store, size["batch"])
    _, step = make_step(size, data)
    resident = data.on_after_batch_transfer(dict(next(iter(data.train_dataloader()))), 0)
    loader = DataLoader(NpyWindows(npy), size["batch"])
    step(resident)

    def whole() -> None:
        for batch in data.train_dataloader():
            step(data.on_after_batch_transfer(batch, 0))

    def plain() -> None:
        for events in loader:
            step({**resident, "events": events})

    windows = size["batch"]
    alone = "the same on resident tensors"
    peers = {alone: rate(lambda: step(resident), windows), "a DataLoader over .npy files": rate(plain, 2 * windows)}
    found = rounds({"ours": rate(whole, 2 * windows), **peers}, number)
    masked = 2 * windows  # sizes 1, 2, 3: two events a window on average
    floor = [windows * machine_flops() / step_flops(size, masked)] * number
    ours, job = found.pop("ours"), "a step of masked events with loading"
    return [
        Line(job, "windows/s", ours, peer, theirs, floor, 1 / 1.5 if peer == alone else 0.0)
        for peer, theirs in found.items()
    ]


def write_movie(path: Path, seconds: int, rate: int = 8) -> Path:
    """Moving noise, 64 x 64."""
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.options = "yuv420p", {"preset": "ultrafast", "g": "16"}
        image = generator.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        for number in range(seconds * rate):
            frame = av.VideoFrame.from_ndarray(np.roll(image, number, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def tiny_backbone(folder: Path) -> tuple[Path, ClipFormat]:
    clip = ClipFormat(num_frames=8, frame_stride=2, frame_rate=8.0, crop_size=48, short_side=48)
    path = folder / "backbone.safetensors"
    network = backbones.build_backbone({"class_path": "slow_d_r50", "init_args": {"width": 1}})
    backbones.save_backbone(path, network.eval(), clip)
    return path, clip


@torch.inference_mode()
def window_by_window(weights: Path, clip: ClipFormat, videos: list[Video], seconds: int) -> None:
    """The plain way: open the file and decode each window on its own."""
    network, reader, grid = backbones.load_backbone(weights), VideoReader(), Grid(2.0, 1.0, {})
    for video in videos:
        clips, plan = [], EventPlan.of(video, grid, reader)
        for event in range(seconds - 1):
            frames = reader.read(video.path, plan.times(event, grid, clip), clip.short_side)
            clips.append(torch.from_numpy(center_crop(frames, clip.crop_size).copy()).permute(3, 0, 1, 2))
        network(clip.normalize(torch.stack(clips)))


def bench_extract(folder: Path, size: dict, number: int) -> list[Line]:
    """Movies a second at a stride of 1 s."""
    weights, clip = tiny_backbone(folder)
    seconds = 60
    videos = [Video(f"m{i}", write_movie(folder / f"m{i}.mp4", seconds)) for i in range(4)]
    count = iter(range(100))

    def ours() -> None:
        extract_command(folder / f"out{next(count)}", weights, videos=videos, accelerator="cpu", progress=False)

    peer = "each window by itself, not written"
    each = rate(lambda: window_by_window(weights, clip, videos, seconds), len(videos))
    found = rounds({"ours": rate(ours, len(videos)), peer: each}, number)
    job = "extraction of movies of 60 s at a stride of 1 s, one pass a movie"
    return [Line(job, "movies/s", found["ours"], peer, found[peer], aim=2.0)]


def peak_memory(weights: str, movie: str, output: str) -> None:
    """Extract one movie and print this process's peak memory in kB."""
    extract_command(Path(output), Path(weights), videos=[Video("m", Path(movie))], accelerator="cpu", progress=False)
    # getrusage would report the parent's peak where that is larger
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), flush=True)


def bench_memory(folder: Path, size: dict, number: int) -> list[Line]:
    """Peak memory of a movie of 30 minutes against one of 3: ten times the length takes at most 5 % more."""
    peaks = []
    weights, _ = tiny_backbone(folder)
    for minutes in (3, 30):
        movie = write_movie(folder / f"{minutes}.mp4", minutes * 60)
        words = [str(weights), str(movie), str(folder / f"memory{minutes}")]
        code = f"from bench_txe import peak_memory; peak_memory(*{words!r})"
        place = str(Path(__file__).parent)
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=place)
        peaks.append(int(found.stdout) / 1024)
    # as rates, of which more is better
    job, movies = "extraction of a movie of 30 minutes", [1024 / peak for peak in peaks]
    return [Line(job, "movies/GiB", movies[1:], "one of 3 minutes", movies[:1], aim=1 / 1.05)]


PARTS = {"gather": bench_gather, "step": bench_step, "extract": bench_extract, "memory": bench_memory}


def main() -> int:
    """Run the measurements; 1 where an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the paper's size")
    parser.add_argument("--parts", default=",".join(PARTS), help="which measurements")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lines", type=Path, help="write them here instead")
    args = parser.parse_args()
    size, lines = FULL if args.full else QUARTER, []
    print(f"{torch.get_num_threads()} threads, sizes {size}", file=sys.stderr)
    for name in args.parts.split(","):
        with tempfile.TemporaryDirectory() as folder:
            lines += PARTS[name](Path(folder), size, args.rounds)
    return finish(lines, args.lines)


if __name__ == "__main__":
    sys.exit(main())
