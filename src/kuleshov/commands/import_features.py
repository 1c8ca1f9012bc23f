"""Make an event store of `.npy` features: VidSitu's `<segment>_feats.npy` (5, D), or plain `<id>.npy` (N, D).

The files do not say when their events are: for plain ones the stride has to be given. Killed and run again, it
goes on where it stopped.
"""

import argparse
from pathlib import Path

from kuleshov.core.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kuleshov import-features`."""
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="where the .npy files are")
    add("--output", type=Path, required=True, metavar="DIR", help="folder of the event store")
    add("--vidsitu", action="store_true", help="files are <segment>_feats.npy: five events, one in two seconds")
    add("--stride", type=float, default=None, help="seconds between the beginnings of two events")
    add("--window", type=float, default=2.0, help="seconds of an event")
    add("--start", type=float, default=0.0, help="second at which the first event begins")
    add("--suffix", default="", help="what follows the movie's id in a file's name, before .npy")
    add("--dtype", default="fp32", choices=("bf16", "fp16", "fp32"), help="precision on disk")


def run(args: argparse.Namespace) -> int:
    """Import and print what is in the store.

    Raises:
        UsageError: no stride for files that do not imply it.
    """
    from kuleshov.features.event_store import EventStore
    from kuleshov.features.npy import VIDSITU_SUFFIX, import_npy

    stride, suffix = args.stride, args.suffix
    if args.vidsitu:
        stride, suffix = stride or 2.0, suffix or VIDSITU_SUFFIX
    if stride is None:
        raise UsageError(".npy files do not say when their events are: give --stride SECONDS, or --vidsitu")
    import_npy(args.folder, args.output, args.window, stride, args.start, suffix, args.dtype)
    store = EventStore(args.output)
    print(f"{len(store)} movies, {int(store.offsets[-1])} events of width {store.width} in {args.output}")
    return 0
