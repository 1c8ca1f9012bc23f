"""Write the generated movies and their annotations.

The same seed gives the same world. Killed and run again, it goes on where it stopped.
"""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kuleshov world`."""
    parser.add_argument("--root", type=Path, required=True, help="folder to write; must be empty, or this world's")
    parser.add_argument("--movies", type=int, required=True, help="number of long movies; the rest follows from it")
    parser.add_argument("--seed", type=int, default=0, help="decides the stories and everything else")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one a core)")


def run(args: argparse.Namespace) -> int:
    """Write the world and print what is in it."""
    from kuleshov.synthetic import generate

    print(json.dumps(generate(args.root, movies=args.movies, seed=args.seed, workers=args.workers)))
    return 0
