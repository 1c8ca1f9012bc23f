"""Extraction by processes that come, go and are killed: `kuleshov extract --join` with 1, 2 and 4 of them.

    python benchmarks/bench_join.py [--movies 24] [--seconds 60] [--kills 4]

Each number of processes fills a store twice: undisturbed, and with processes killed at random moments, another taking
each one's place. Printed are seconds from the first commit to the packed store (a process takes as long to start
everywhere), how many movies were begun but not committed by those that were killed, and whether the store's parts are
those of one process to the bit. Exit status 1 where a movie was committed twice or a part differs.
"""

import argparse
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from bench_txe import tiny_backbone, write_movie
from lines import Line, finish

from kuleshov.features.extract import extract_command
from kuleshov.features.feature_store import EventStore
from kuleshov.features.store_writer import StoreWriter
from kuleshov.features.team import Team
from kuleshov.video.video_file import Video


def member(weights: Path, movies: list[Path], output: Path, log: Path) -> None:
    """Extract beside the others, and write down what was claimed and committed."""
    torch.set_num_threads(1)
    record, claim = StoreWriter.record, Team.claim

    def note(*words: str) -> None:
        with log.open("a") as file:
            file.write(" ".join([*words, repr(time.time())]) + "\n")

    def watched_record(self, name, *given, **columns):
        record(self, name, *given, **columns)
        note("done", name)

    def watched_claim(self, *given):
        for video in claim(self, *given):
            note("claimed", video.id)
            yield video

    StoreWriter.record, Team.claim = watched_record, watched_claim
    videos = [Video(path.stem, path) for path in movies]
    extract_command(output, weights, videos=videos, join=True, accelerator="cpu", progress=False)


def fill(processes: int, kills: int, given: tuple, seed: int) -> tuple[float, int, int]:
    """Fill a store: seconds from the first commit on, movies begun in vain, movies committed twice."""
    context, rng = multiprocessing.get_context("spawn"), random.Random(seed)

    def start():
        process = context.Process(target=member, args=given)
        process.start()
        return process

    running, log = [start() for _ in range(processes)], given[-1]
    while not log.exists():
        time.sleep(0.05)
    for _ in range(kills):
        time.sleep(rng.uniform(0.2, 3.0))
        running.pop(rng.randrange(len(running))).kill()
        running.append(start())
    for process in running:
        process.join()
    lines = [line.split() for line in log.read_text().splitlines()]
    done = [name for what, name, _ in lines if what == "done"]
    first = min(float(moment) for what, _, moment in lines if what == "done")
    claimed = sum(what == "claimed" for what, _, _ in lines)
    return time.time() - first, claimed - len(done), len(done) - len(set(done))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--movies", type=int, default=24)
    parser.add_argument("--seconds", type=int, default=60, help="of a movie")
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--lines", type=Path, help="write them here instead")
    args = parser.parse_args()
    wrong, lines = False, []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        weights, _ = tiny_backbone(folder)
        movies = [write_movie(folder / f"m{number}.mp4", args.seconds) for number in range(args.movies)]
        expected = None
        for processes in (1, 2, 4):
            for kills in (0, args.kills):
                output, log = folder / f"store-{processes}-{kills}", folder / f"log-{processes}-{kills}"
                seconds, vain, twice = fill(processes, kills, (weights, movies, output, log), seed=processes)
                parts = {name: part.sha256 for name, part in EventStore(output).index.parts.items()}
                expected = expected or parts
                same = parts == expected and len(EventStore(output)) == args.movies
                wrong |= not same or twice > 0
                title = f"{processes} processes, {kills} killed: {seconds:6.1f} s"
                verdict = "the same" if same else "ANOTHER"
                print(
                    f"{title}, {vain} movies begun in vain, {twice} done twice, {verdict} store",
                    file=sys.stderr,
                    flush=True,
                )
                job = f"extraction by {processes} processes, {kills} killed"
                lines.append(Line(job, "movies/s", [args.movies / seconds]))
    return finish(lines, args.lines) | int(wrong)


if __name__ == "__main__":
    sys.exit(main())
