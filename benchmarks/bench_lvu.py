"""LVU at the paper's size: windows a second, and what encoding each event once saves in evaluation.

    python benchmarks/bench_lvu.py [--seconds 180] [--movies 1] [--floor 10] [--small]

A movie of 180 s has 121 windows of 60 s, one second apart; the naive way contextualizes every window anew. The
Object Transformer has to attend within each window, so only its projections are shared. Rates are of processor time;
exits with 1 where the scene head's ratio is below the floor or the two ways disagree.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from lines import Line, finish
from torch import Tensor

from kuleshov.tasks.lvu.movie_samples import NO_INSTANCES, MovieTokens, SampleMaker, collate
from kuleshov.tasks.lvu.object_transformer import ObjectTransformerEncoder
from kuleshov.tasks.lvu.scene_head import SpanPool
from kuleshov.tasks.lvu.spans import span_ends
from kuleshov.txe.contextualizer import Contextualizer


def movies_of(count: int, seconds: int, width: int) -> tuple[list[MovieTokens], Tensor]:
    """Movies with an event a second, and their features."""
    made = []
    for number in range(count):
        places = np.arange(1, seconds)
        rows = range(number * (seconds - 1), (number + 1) * (seconds - 1))
        made.append(MovieTokens(str(number), 0, rows, places, NO_INSTANCES, span_ends(places)))
    return made, torch.randn(count * (seconds - 1), width)


def timed(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Processor seconds of one run after one to warm up, and its value."""
    run()
    start = time.process_time()
    value = run()
    return time.process_time() - start, value


@torch.no_grad()
def evaluation(
    movies: list[MovieTokens], maker: SampleMaker, contextualizer: Contextualizer, pool: SpanPool, every: int
) -> tuple[float, float, bool]:
    """Seconds a window of both ways (the naive one on every `every`-th window), and whether they agree."""

    def once() -> Tensor:
        batch = collate([maker(movie, movie.ends, None, False) for movie in movies])
        events = contextualizer.contextualize_padded(batch["events"], batch["length"], step=2)
        return pool(events, batch)

    def naive() -> Tensor:
        pooled = []
        for movie in movies:
            for end in movie.ends[::every]:
                batch = collate([maker(movie, np.array([end]), None, False)])
                events = contextualizer.contextualize_padded(batch["events"], batch["length"], step=2)
                pooled.append(pool(events, batch))
        return torch.cat(pooled)

    (fast, one), (slow, other) = timed(once), timed(naive)
    windows = sum(len(movie.ends) for movie in movies)
    same = torch.cat([part[::every] for part in one.split([len(movie.ends) for movie in movies])])
    return fast / windows, slow / len(other), torch.allclose(same, other, atol=1e-4)


def training(movies: list[MovieTokens], maker: SampleMaker, contextualizer: Contextualizer, pool: SpanPool) -> float:
    """Seconds a window of training TxE and the pool, batch 4."""
    chosen = [movies[k % len(movies)] for k in range(4)]
    batch = collate([maker(movie, movie.ends[:1], None, False) for movie in chosen])

    def step() -> Tensor:
        events = contextualizer.contextualize_padded(batch["events"], batch["length"], step=2)
        pooled = pool(events, batch)
        pooled.square().mean().backward()
        return pooled

    return timed(step)[0] / 4


def object_transformer(encoder: ObjectTransformerEncoder, windows: int, train: bool) -> float:
    """Seconds a window of 254 instances."""
    batch = {
        "movie": torch.arange(windows),
        "turn": torch.zeros(windows, dtype=torch.long),
        "features": torch.randn(windows * 254, encoder.arguments["instance_width"]),
        "row": torch.arange(windows * 254).view(windows, 254),
        "boxes": torch.rand(windows, 254, 5),
        "ids": torch.randint(4, 64, (windows, 254, 7)),
        "action": torch.zeros(windows, 254, dtype=torch.long),
        "other": torch.zeros(windows, 254, dtype=torch.long),
    }

    def run() -> Tensor:
        with torch.set_grad_enabled(train):
            _, pooled = encoder(batch)
            if train:
                pooled.square().mean().backward()
        return pooled

    return timed(run)[0] / windows


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=180, help="length of a movie")
    parser.add_argument("--movies", type=int, default=1)
    parser.add_argument("--floor", type=float, default=10.0, help="least ratio of the naive way to ours")
    parser.add_argument("--every", type=int, default=20, help="the naive way on every n-th window only")
    parser.add_argument("--small", action="store_true", help="small networks, to try it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lines", type=Path, help="write them here instead")
    options = parser.parse_args()
    torch.manual_seed(0)
    width, hidden = (64, 32) if options.small else (2048, 1024)
    sizes = {"hidden": hidden, "layers": 3, "heads": 4 if options.small else 16, "feedforward": 2 * hidden}
    contextualizer, pool = Contextualizer("scratch", width, **sizes).eval(), SpanPool(hidden, "attention")
    movies, features = movies_of(options.movies, options.seconds, width)
    maker = SampleMaker(features, None, margin=8)
    found = [evaluation(movies, maker, contextualizer, pool, options.every) for _ in range(options.rounds)]
    ours, naive, same = ([values[place] for values in found] for place in range(3))
    job = "scene head over a movie's windows of 60 s"
    rates = [1 / taken for taken in ours], "every window anew", [1 / taken for taken in naive]
    lines = [Line(f"{job}, evaluation", "windows/s", *rates, aim=options.floor)]
    trained = [1 / training(movies, maker, contextualizer, pool) for _ in range(options.rounds)]
    lines.append(Line(f"{job}, training", "windows/s", trained))
    geometry = (32, 3, 4, 64) if options.small else (768, 3, 12, 3072)
    encoder = ObjectTransformerEncoder(width, None, *geometry).eval()
    for train in (True, False):
        taken = [object_transformer(encoder, 4, train) for _ in range(options.rounds)]
        job = f"Object Transformer, {'training' if train else 'evaluation'}"
        lines.append(Line(job, "windows/s", [1 / one for one in taken]))
    if not all(same):
        print("the scene head's two ways disagree", file=sys.stderr)
    return finish(lines, options.lines) | int(not all(same))


if __name__ == "__main__":
    sys.exit(main())
