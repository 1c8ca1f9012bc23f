"""Compute the motion input of MoDist once: edges of the optical flow, one lossless video a movie.

Without it MoDist computes the flow while it loads clips. Killed and run again, it goes on where it stopped.
"""

import argparse
import json
import sys
from pathlib import Path

SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kuleshov motion`."""
    parser.add_argument("--data", default="kinetics", choices=("kinetics", "vidsitu", "lvu", "folder"), help="data set")
    parser.add_argument("--root", type=Path, required=True, help="its folder, or a list of videos")
    parser.add_argument("--split", default="train", help="split of kinetics, vidsitu or lvu")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the motion files")
    parser.add_argument("--fps", type=float, default=30.0, help="flow steps a second")
    parser.add_argument("--short-side", type=int, default=256, help="pixels of the frames' shorter side")
    parser.add_argument("--maximum", type=float, default=2.0, help="gradient of the flow that is stored as 255")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> int:
    """Compute and print the summary."""
    from kuleshov.report.checks import find
    from kuleshov.video.optical_flow import MotionSettings, precompute

    settings = MotionSettings(args.fps, args.short_side, args.maximum)
    found = precompute(find(args.data, args.root, args.split), args.output, settings, args.workers)
    for name, reason in list(found.failed.items())[:SHOWN]:
        print(f"left out {name}: {reason}", file=sys.stderr)
    if args.json:
        print(json.dumps({"written": len(found.written), "present": len(found.present), "failed": found.failed}))
    else:
        print(
            f"{len(found.written)} videos' motion written to {args.output}, {len(found.present)} were there, "
            f"{len(found.failed)} failed"
        )
    return 0 if found.written or found.present else 1
