"""Write an event store as `.npy` files: `<id>.npy` (N, D), or VidSitu's `<segment>_feats.npy` (5, D)."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kuleshov export-features`."""
    add = parser.add_argument
    add("store", type=Path, metavar="STORE", help="folder of the event store")
    add("--output", type=Path, required=True, metavar="DIR", help="folder of the .npy files")
    add("--vidsitu", action="store_true", help="five events a segment, one in two seconds, <segment>_feats.npy")


def run(args: argparse.Namespace) -> int:
    """Export and print how many files were written."""
    from kuleshov.features.event_store import EventStore
    from kuleshov.features.npy import export_npy, export_vidsitu

    store = EventStore(args.store)
    count = (export_vidsitu if args.vidsitu else export_npy)(store, args.output)
    print(f"{count} files in {args.output}")
    return 0
