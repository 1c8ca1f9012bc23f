"""Describe a movie event by event: verbs with their probabilities, roles, and how each event leads to the next.

Reads the networks of a finished run (row `pretrained`, seed 0) and any video of two seconds or more.
"""

import argparse
import json
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kuleshov describe`."""
    parser.add_argument("video", type=Path, metavar="VIDEO", help="any video file")
    parser.add_argument(
        "--run", type=Path, default=Path("runs"), help="a tables run, or the folder of all runs (its newest one)"
    )
    parser.add_argument("--verbs", type=int, default=3, help="verbs an event")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print the description."""
    from dataclasses import asdict

    from kuleshov.report.describe import as_text, describe
    from kuleshov.report.hierarchy import load_hierarchy

    hierarchy = load_hierarchy(args.run)
    for name in ("relations", "roles"):
        if getattr(hierarchy, name) is None:
            print(f"the run leads to no train-{name}: {name} are left out", file=sys.stderr)
    events = describe(args.video, hierarchy, max(1, args.verbs))
    if args.json:
        found = {"video": str(args.video), "events": [asdict(event) for event in events]}
        print(json.dumps(found, ensure_ascii=False))
    else:
        print(as_text(events))
    return 0
