"""Convert PySlowFast, Caffe2, pytorchvideo or Lightning weights into .safetensors with a manifest.

Prints what was matched, missing, unexpected and ignored. Nothing in the file is executed.
"""

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kuleshov import-weights`."""
    parser.add_argument("file", type=Path, metavar="FILE", help=".pyth, .pkl, .pth or .ckpt file")
    parser.add_argument("--output", type=Path, required=True, metavar="W", help="file to write (.safetensors)")
    parser.add_argument("--architecture", default=None, help="slow_d_r50, slow_r50 or i3d_r50; found from the shapes")
    parser.add_argument(
        "--inflate", default=None, choices=("center", "mean"), help="make Slow-D of Slow weights: how conv1 grows"
    )
    parser.add_argument("--prefix", default=None, help="what stands before the keys, where there are several networks")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Convert and print the report."""
    from kuleshov.backbones.import_weights import import_weights

    report = import_weights(args.file, args.output, args.architecture, args.inflate, args.prefix)
    print(json.dumps(report.to_dict()) if args.json else "\n".join(report.lines()))
    return 0
