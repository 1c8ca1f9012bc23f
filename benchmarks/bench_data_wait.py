"""How long a training step waits for its clips, where the step is a sleep as long as a GPU's would be.

    python benchmarks/bench_data_wait.py [--workers 2] [--gpu-cores 8] [--batch 8] [--steps 20] [--rounds 3]

CVRL's loader (`ClipPairs`, two 16 x 4 clips of 224), a process a core, gives batches to a loop that sleeps. The sleep
is the share of eight A100's step (1,700 videos a second, estimate_pretraining.py) that falls on this many cores, where
a machine has `gpu-cores` of them a GPU. Beside it: how many videos a second the loader gives when nobody sleeps, and
the wait with a step that takes 70 % of those. On files as they are, and after `kuleshov prepare`; least, median and
most of the rounds.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from bench_video import SETTINGS, WANTED, spread, write_videos

from kuleshov.pretraining.clip_data import ClipPairs
from kuleshov.video.reencoding import Encoding, reencode

GPUS = 8
# names of each file
COPIES = 200


def batches(paths: list[Path], batch: int, workers: int) -> Iterator[object]:
    """Batches of CVRL's loader, of one long epoch: each file has many names."""
    names = [path.with_stem(f"{path.stem}-{number}") for path in paths for number in range(COPIES)]
    for name in names:
        os.link(name.with_stem(name.stem.rpartition("-")[0]), name)
    listed = paths[0].parent / "list.csv"
    listed.write_text("".join(f"{name.name} 0\n" for name in names))
    data = ClipPairs(str(listed), batch_size=batch, num_workers=workers)
    data.setup("fit")
    for video in data.videos:
        # as from the second epoch on
        data.source.duration(video.path)
    yield from data.train_dataloader()


def waiting(source: Iterator[object], steps: int, sleep: float) -> tuple[float, float]:
    """Share of the time that a loop of steps waits for batches, and batches a second."""
    waited, begun = 0.0, time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        next(source)
        waited += time.perf_counter() - asked
        time.sleep(sleep)
    total = time.perf_counter() - begun
    return waited / total, steps / total


def main() -> int:
    """Measure and print: what is reached depends on who else uses the cores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="loader processes")
    parser.add_argument("--gpu-cores", type=int, default=8, help="cores a GPU")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    gpu = args.batch * GPUS * args.gpu_cores / (WANTED * args.workers)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_videos(Path(folder), SETTINGS[0], 8)
        ready = [Path(folder) / "prepared" / path.name for path in paths]
        for path, target in zip(paths, ready, strict=True):
            reencode(path, target, Encoding())
        for name, files in (("as they are", paths), ("prepared", ready)):
            source = batches(files, args.batch, args.workers)
            waiting(source, args.steps, 0.0)
            shares: dict[str, list[float]] = {"a GPU's step": [], "a step at 70 %": []}
            rates = []
            for _ in range(args.rounds):
                # what lies ready from before says nothing of the rate
                waiting(source, 2 * args.workers, 0.0)
                rate = waiting(source, args.steps, 0.0)[1]
                rates.append(args.batch * rate)
                for kind, sleep in zip(shares, (gpu, 1 / (0.7 * rate)), strict=True):
                    shares[kind].append(waiting(source, args.steps, sleep)[0])
            given = "{:.0f} {:.0f} {:.0f}".format(*spread(rates))
            print(
                f"{name}: {args.workers} processes give {given} videos/s; a GPU's step is {gpu * 1e3:.0f} ms",
                flush=True,
            )
            for kind, found in shares.items():
                print(
                    f"  {kind:<16} waits {{:6.1%}} {{:6.1%}} {{:6.1%}} of its time".format(*spread(found)), flush=True
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
