"""Write a contact sheet of the generated movies' stories: frames of each event, with its true verb."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kuleshov gallery`."""
    parser.add_argument("--root", type=Path, required=True, help="a generated world")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    parser.add_argument("--rows", type=int, default=8, help="number of stories")
    parser.add_argument("--split", default="valid", help="train or valid")


def run(args: argparse.Namespace) -> int:
    """Write the sheet and print its path."""
    from kuleshov.synthetic import gallery

    gallery(args.root, args.output, rows=args.rows, split=args.split)
    print(args.output)
    return 0
