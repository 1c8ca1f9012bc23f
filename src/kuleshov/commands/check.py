"""Check a data set: what is there, what can be read, what it shares with another.

`kuleshov check vidsitu --root VIDSITU --against lvu=LVU --write-split valid_without_lvu.json` finds the source
videos that VidSitu's valid split shares with LVU and writes the segments that remain.
"""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kuleshov check`."""
    names = ("k400", "kinetics", "vidsitu", "lvu", "folder")
    parser.add_argument("data", choices=names, help="data set; k400 and kinetics are one")
    parser.add_argument("--root", type=Path, required=True, help="its folder")
    parser.add_argument(
        "--against", action="append", default=[], metavar="NAME=DIR", help="another data set: lvu or vidsitu"
    )
    parser.add_argument("--videos", type=Path, default=None, help="folder of the videos, where they lie elsewhere")
    parser.add_argument("--write-split", type=Path, default=None, metavar="FILE", help="segments that are not shared")
    parser.add_argument("--least-seconds", type=float, default=2.0, help="shorter files are told (kinetics, folder)")
    parser.add_argument("--workers", type=int, default=2, help="processes that open files (kinetics, folder)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Check and print."""
    from kuleshov.core.errors import UsageError
    from kuleshov.report.checks import check, print_report
    from kuleshov.report.render import terminal

    against = {}
    for word in args.against:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise UsageError(f"--against takes NAME=DIR, such as lvu=data/lvu, not {word!r}")
        against[name] = folder
    data = "kinetics" if args.data == "k400" else args.data
    report = check(data, args.root, against, args.videos, args.write_split, args.least_seconds, args.workers)
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        print_report(data, report, terminal())
    return 0
