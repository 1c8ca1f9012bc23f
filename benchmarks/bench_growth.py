"""How cost grows: each job at a size, ten and a hundred times it.

    python benchmarks/bench_growth.py [--rounds 3] [--parts extraction,store,...]

Seconds of processor time, the best of the rounds, and peak memory (MB) of extraction, each in a process of its own.
The last column is the growth from ten to a hundred times, as a power of the size: 1 is linear, 0 does not grow. Exit
status 1 where a time grows faster than the power 1.3, or memory by more than a tenth.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from bench_lvu import movies_of
from bench_scoring import valid_set
from bench_txe import QUARTER, make_features, make_step, open_windows, tiny_backbone, write_movie

from kuleshov.core.results import Result
from kuleshov.datasets.kinetics import read_list
from kuleshov.datasets.lvu import LVU_TASKS, LvuRow
from kuleshov.features.feature_store import EventStore
from kuleshov.features.store_writer import StoreWriter
from kuleshov.metrics.role_metrics import score_roles
from kuleshov.metrics.verb_metrics import score_verbs
from kuleshov.report.lineage import ResultSource
from kuleshov.report.results_table import build_table
from kuleshov.tasks.lvu.evaluate_lvu import score_movies
from kuleshov.tasks.lvu.movie_samples import SampleMaker, collate
from kuleshov.tasks.lvu.scene_head import SpanPool
from kuleshov.txe.contextualizer import Contextualizer

TIMES, MOST_POWER, MOST_MEMORY = (1, 10, 100), 1.3, 1.1
Job = Callable[[], object]


def extraction(times: int, folder: Path) -> list[str]:
    """Extraction of a movie of half a minute, five, fifty: peak memory."""
    weights, _ = tiny_backbone(folder)
    return [str(weights), str(write_movie(folder / "movie.mp4", 30 * times)), str(folder / "store")]


def store(times: int, folder: Path) -> Job:
    """A store of 100 movies, 1,000, 10,000, of 60 events: written, packed and opened."""
    rows = torch.rand(60, 32)

    def run() -> None:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            with StoreWriter(Path(place) / "s", 32, 2.0, 1.0) as writer:
                writer.begin(names := [f"movie{number}" for number in range(100 * times)])
                for name in names:
                    writer.record(name, rows)
                writer.left(names)
                writer.finish()
            EventStore(Path(place) / "s").events(names[-1])

    return run


def txe(times: int, folder: Path) -> Job:
    """An epoch of masked-event pretraining on 64 movies, 640, 6,400, at a small width."""
    size = {**QUARTER, "width": 64, "hidden": 32, "feedforward": 64, "queue": 1024, "batch": 64}
    data = open_windows(make_features(folder, 64 * times, 64)[0], size["batch"])
    _, step = make_step(size, data)

    def run() -> None:
        for batch in data.train_dataloader():
            step(data.on_after_batch_transfer(batch, 0))

    return run


def lvu(times: int, folder: Path) -> Job:
    """The scene head's evaluation of 2 movies of 180 s, 20, 200."""
    contextualizer = Contextualizer("scratch", 64, hidden=32, layers=3, heads=4, feedforward=64).eval()
    pool, (movies, features) = SpanPool(32, "attention"), movies_of(2 * times, 180, 64)
    maker = SampleMaker(features, None, margin=8)

    @torch.no_grad()
    def run() -> None:
        for movie in movies:
            batch = collate([maker(movie, movie.ends, None, False)])
            pool(contextualizer.contextualize_padded(batch["events"], batch["length"], step=2), batch)

    return run


def lvu_scores(times: int, folder: Path) -> Job:
    """LVU's figures of 1,000 movies of 20 classes, 10,000 of 200, 100,000 of 2,000."""
    task = LVU_TASKS["genre"]
    rows = [LvuRow(str(number), "", number % (20 * times), "") for number in range(1000 * times)]
    predicted = {row.video_id: number % (15 * times) for number, row in enumerate(rows)}
    return lambda: score_movies(task, {"train": rows, "test": rows}, "test", predicted)


def roles(times: int, folder: Path) -> Job:
    """VidSitu's figures of roles of 13 segments, 133, 1,330."""
    predictions, references, _ = valid_set(round(13.3 * times))
    return lambda: score_roles(predictions, references)


def verbs(times: int, folder: Path) -> Job:
    """VidSitu's figures of verbs of 100 segments and 20 verbs, 1,000 and 200, 10,000 and 2,000."""
    rng, shape = np.random.default_rng(0), (100 * times, 5)
    predicted = rng.integers(0, 20 * times, (*shape, 5)).tolist()
    annotated = rng.integers(0, 20 * times, (*shape, 10)).tolist()
    return lambda: score_verbs(predicted, annotated)


def report(times: int, folder: Path) -> Job:
    """The report's table of 5 rows, two tasks and 2 seeds, 20, 200."""
    measured = [
        (ResultSource("run"), Result("Acc@1", 50.0 + seed % 7, task, "valid", 10, 10, "a", seed, row))
        for task in ("verbs", "relations")
        for row in ("trivial", "backbone", "scratch", "pretrained", "ceiling")
        for seed in range(2 * times)
    ]
    return lambda: build_table(measured, all_metrics=True)


def kinetics(times: int, folder: Path) -> Job:
    """Reading a list of 240 videos, 2,400, 24,000, that are on disk."""
    names = [f"{number}.mp4" for number in range(240 * times)]
    for name in names:
        (folder / name).touch()
    (folder / "train.csv").write_text("".join(f"{name} 0\n" for name in names))
    return lambda: read_list(folder / "train.csv")


JOBS = {job.__name__: job for job in (store, txe, lvu, lvu_scores, roles, verbs, report, kinetics)}


def seconds(job: Callable[[int, Path], Job], times: int, rounds: int) -> float:
    """Processor seconds of a job at so many times its size, the best of the rounds."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        run = job(times, Path(folder))
        for _ in range(rounds):
            started = time.process_time()
            run()
            found.append(time.process_time() - started)
    return min(found)


def memory(times: int) -> float:
    """Peak megabytes of extracting a movie."""
    with tempfile.TemporaryDirectory() as folder:
        code = f"from bench_txe import peak_memory; peak_memory(*{extraction(times, Path(folder))!r})"
        words, place = [sys.executable, "-c", code], str(Path(__file__).parent)
        return int(subprocess.run(words, capture_output=True, text=True, check=True, cwd=place).stdout) / 1024


def main() -> int:
    """Measure and print; 1 where a cost grows faster than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", default=",".join(["extraction", *JOBS]), help="which jobs")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"{'job':<14}{'x 1':>10}{'x 10':>10}{'x 100':>10}   power")
    missed = []
    for name in args.parts.split(","):
        if name == "extraction":
            found = [memory(times) for times in TIMES]
            grown, unit = found[2] <= MOST_MEMORY * found[0], "MB"
        else:
            found = [seconds(JOBS[name], times, args.rounds) for times in TIMES]
            grown, unit = found[2] <= found[1] * 10**MOST_POWER, "s"
        what = (extraction if name == "extraction" else JOBS[name]).__doc__
        power = math.log10(found[2] / found[1])
        figures = "".join(f"{value:>10.4g}" for value in found)
        print(f"{name:<14}{figures} {unit:<3}{power:5.2f}   {what}", flush=True)
        missed += [] if grown else [name]
    if missed:
        print(f"these grow faster than they may: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
