"""Score a frozen backbone on labeled videos: k-NN and a linear probe, nothing of the network is trained.

Beside all videos, groups of classes are scored by themselves, and clips whose middle frame is held still: what
is missing there is what the network sees in the motion. With --untrained the same network starts at random.
"""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kuleshov probe`."""
    parser.add_argument("--weights", type=Path, required=True, metavar="W", help="backbone (.safetensors)")
    parser.add_argument(
        "--untrained",
        default=None,
        choices=("default", "zero-gamma"),
        help="score its shape at random instead: usual start, or residual blocks that start as shortcuts",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the untrained weights")
    parser.add_argument("--bank", type=Path, required=True, help="labeled list that the probes learn from")
    parser.add_argument("--queries", type=Path, required=True, help="labeled list that they are scored on")
    parser.add_argument("--group", nargs="*", default=[], metavar="NAME=LABEL,..", help="classes to score apart")
    parser.add_argument(
        "--classes", type=Path, default=None, help="class names, one a line, whose first words --group may use"
    )
    parser.add_argument("--limit", type=int, default=None, help="at most so many videos of each list")
    parser.add_argument("--neighbors", type=int, default=20, help="that vote in the k-NN probe")
    parser.add_argument("--batch-size", type=int, default=32, help="clips in a batch")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ..")
    parser.add_argument("--output", type=Path, default=None, help="results file (.jsonl) to append to")
    parser.add_argument("--row", default="", help="row of the results; the weights' method by default")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(args: argparse.Namespace) -> int:
    """Score, append, and print the figures."""
    from dataclasses import asdict, replace

    import torch

    from kuleshov.backbones import load
    from kuleshov.core.progress import progress_bar
    from kuleshov.core.results import append_results
    from kuleshov.datasets.registry import data_set
    from kuleshov.pretraining.class_groups import class_groups
    from kuleshov.pretraining.probing import probe, untrained
    from kuleshov.video.video_file import evenly

    groups = class_groups(args.group, args.classes)
    network = load(args.weights)
    row = args.row or (f"random {args.untrained}" if args.untrained else network.manifest.get("method", ""))
    if args.untrained:
        network = untrained(network, args.untrained, args.seed)
    lists = [data_set("kinetics").videos(path, ["val"])[0] for path in (args.bank, args.queries)]
    lists = [evenly(videos, args.limit) for videos in lists]
    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    options = {"neighbors": args.neighbors, "batch_size": args.batch_size, "workers": args.workers}
    batches = sum(-(-len(videos) // args.batch_size) for videos in lists)
    with progress_bar("batches", batches) as advance:
        results = probe(network, *lists, groups, random=bool(args.untrained), device=device, advance=advance, **options)
    results = [result if result.row else replace(result, row=row, seed=args.seed) for result in results]
    if args.output is not None:
        append_results(args.output, results)
    if args.json:
        print(json.dumps([asdict(result) for result in results]))
        return 0
    for result in results:
        print(f"{result.row:<20}{result.task:<28}{result.value:6.2f}  (n {result.n})")
    return 0
