"""Level 2's speed: masked-event training and extraction, against what a user would write first.

    python benchmarks/bench_txe.py [--full] [--parts gather,step,extract,memory]

Training, at the paper's size with --full (N=5, D=2048, H=1024, K=65,536, batch 256), else at a quarter of it:

- gather: windows a second of the index loader and one gather, against a DataLoader over one .npy a movie;
- step: a whole training step against the same step on resident random tensors, and against the floor, the time
  in which this machine's matrix product does the step's floating point operations.

Extraction, with a tiny backbone, so that decoding counts:

- extract: one sequential pass a movie against decoding every window on its own;
- memory: peak memory of extracting a 30-minute movie against that of a 3-minute one.

Ratios are of the same run on the same machine; the best of several rounds counts. Exit status 1 where an aim is
missed.
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


def best(run: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest round."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def row(name: str, value: str, note: str = "") -> None:
    print(f"  {name:<46} {value:>14}  {note}", flush=True)


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


def bench_gather(folder: Path, size: dict, rounds: int) -> bool:
    """Loading and gathering one epoch; whether it is five times as fast as either DataLoader."""
    reached = True
    movies = 8 * size["batch"]
    store, npy = make_features(folder, movies, size["width"])
    data = open_windows(store, size["batch"])
    ours = best(lambda: one_epoch(data), rounds)
    row("index batches and one gather", f"{movies / ours:,.0f}/s", "windows")
    for workers in (0, 2):
        loader = DataLoader(NpyWindows(npy), size["batch"], shuffle=True, num_workers=workers)
        plain = best(lambda loader=loader: [None for _ in loader], rounds)
        note = f"ratio {plain / ours:.1f} (aim >= 5)"
        row(f"DataLoader over .npy files, {workers} workers", f"{movies / plain:,.0f}/s", note)
        reached &= plain / ours >= 5
    return reached


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


def machine_flops(rounds: int) -> float:
    """Operations a second of a large matrix product."""
    a, b = torch.rand(1024, 2048), torch.rand(2048, 4096)
    return 2 * 1024 * 2048 * 4096 / best(lambda: a @ b, max(rounds, 5))


def bench_step(folder: Path, size: dict, rounds: int) -> bool:
    """A whole step, with loading, against resident tensors (aim: at most 1.5 times) and against the floor."""
    store, npy = make_features(folder, 2 * size["batch"], size["width"])
    data = open_windows(store, size["batch"])
    _, step = make_step(size, data)
    batches = list(data.train_dataloader())
    resident = data.on_after_batch_transfer(dict(batches[0]), 0)
    masked = 2 * size["batch"]  # sizes 1, 2, 3: two events a window on average
    step(resident)
    alone = best(lambda: step(resident), rounds)
    whole = best(lambda: [step(data.on_after_batch_transfer(b, 0)) for b in data.train_dataloader()], rounds) / 2
    loader = DataLoader(NpyWindows(npy), size["batch"])

    def plain() -> None:
        for events in loader:
            step({**resident, "events": events})

    peers = best(plain, rounds) / 2
    floor = step_flops(size, masked) / machine_flops(rounds)
    row("step on resident tensors", f"{alone * 1e3:.0f} ms", f"{size['batch'] / alone:.0f} windows/s")
    row("step with loading", f"{whole * 1e3:.0f} ms", f"ratio to resident {whole / alone:.2f} (aim <= 1.5)")
    row("step with a DataLoader over .npy files", f"{peers * 1e3:.0f} ms", f"ratio to ours {peers / whole:.2f}")
    row("floor: the products alone", f"{floor * 1e3:.0f} ms", f"share of the step {floor / whole:.2f}")
    return whole / alone <= 1.5


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


def bench_extract(folder: Path, rounds: int) -> bool:
    """Movies a second at a stride of 1 s; whether one pass is twice as fast as window by window."""
    weights, clip = tiny_backbone(folder)
    seconds = 60
    videos = [Video(f"m{i}", write_movie(folder / f"m{i}.mp4", seconds)) for i in range(4)]
    count = iter(range(100))

    def ours() -> None:
        extract_command(folder / f"out{next(count)}", weights, videos=videos, accelerator="cpu", progress=False)

    one, each = best(ours, rounds), best(lambda: window_by_window(weights, clip, videos, seconds), rounds)
    row("one pass a movie, written to a store", f"{len(videos) / one:.2f}/s", "60 s movies at a stride of 1 s")
    row("each window on its own, not written", f"{len(videos) / each:.2f}/s", f"ratio {each / one:.1f} (aim >= 2)")
    return each / one >= 2


def peak_memory(weights: str, movie: str, output: str) -> None:
    """Extract one movie and print this process's peak memory in kB."""
    extract_command(Path(output), Path(weights), videos=[Video("m", Path(movie))], accelerator="cpu", progress=False)
    # getrusage would report the parent's peak where that is larger
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), flush=True)


def bench_memory(folder: Path) -> bool:
    """Peak memory by the length of the movie; whether ten times the length takes at most 5 % more."""
    peaks = []
    weights, _ = tiny_backbone(folder)
    for minutes in (3, 30):
        movie = write_movie(folder / f"{minutes}.mp4", minutes * 60)
        words = [str(weights), str(movie), str(folder / f"memory{minutes}")]
        code = f"from bench_txe import peak_memory; peak_memory(*{words!r})"
        place = str(Path(__file__).parent)
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=place)
        peaks.append(int(found.stdout) // 1024)
        row(f"a movie of {minutes} minutes", f"{peaks[-1]} MB", "peak memory")
    return peaks[1] <= 1.05 * peaks[0]


def main() -> int:
    """Run the measurements; 1 where an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the paper's size")
    parser.add_argument("--parts", default="gather,step,extract,memory", help="which measurements")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    size = FULL if args.full else QUARTER
    print(f"{torch.get_num_threads()} threads, sizes {size}")
    parts = {
        "gather": lambda folder: bench_gather(folder, size, args.rounds),
        "step": lambda folder: bench_step(folder, size, args.rounds),
        "extract": lambda folder: bench_extract(folder, args.rounds),
        "memory": bench_memory,
    }
    missed = []
    for name in args.parts.split(","):
        print(f"{name}:")
        with tempfile.TemporaryDirectory() as folder:
            if not parts[name](Path(folder)):
                missed.append(name)
    if missed:
        print(f"aims missed: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
