"""Score a perfect observer of the generated world: what no method can be expected to beat.

It knows the grammar and everything on screen, and of events off screen only what follows from their neighbors.
Lines with row=ceiling are appended to the results file.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kuleshov ceiling`."""
    parser.add_argument("--root", type=Path, required=True, help="a generated world")
    parser.add_argument("--output", type=Path, required=True, help="results file (.jsonl) to append to")
    parser.add_argument("--split", default="valid", help="split to score")
    parser.add_argument("--predictions", type=Path, default=None, help="folder to write its predictions to")


def run(args: argparse.Namespace) -> int:
    """Score, append, and print the figures."""
    from kuleshov.core.results import append_results
    from kuleshov.report.ceiling import measure

    results = measure(args.root, args.split, args.predictions)
    append_results(args.output, results)
    for result in results:
        print(f"{result.task} {result.metric}: {result.value:.2f} (n {result.n} of {result.of})")
    return 0
