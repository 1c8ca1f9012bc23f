"""`kuleshov instances`: an instance store from boxes and videos, or from LVU's own files; boxes from videos."""

import argparse
import json
from pathlib import Path
from typing import Any

from kuleshov.core.errors import KuleshovError
from kuleshov.datasets.lvu import CONTAINERS
from kuleshov.video.video_file import Video

SHOWN = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to a parser."""
    parser.add_argument("--boxes", help="CSV video,second,x1,y1,x2,y2,track[,score] in pixels")
    parser.add_argument("--weights", help="a backbone's .safetensors, for the region features of --boxes")
    parser.add_argument("--videos", help="folder of the videos, named <video>.<any container>")
    parser.add_argument("--official-meta", help="LVU's instance_meta_<task>.pkl")
    parser.add_argument("--official-features", help="LVU's folder of <video>.npz")
    parser.add_argument(
        "--detector",
        help="a detector's weights for ultralytics (an extra): find and track people in --videos, and write --boxes's "
        "CSV to --output",
    )
    parser.add_argument("--output", required=True, help="the instance store's folder, or --detector's CSV")
    parser.add_argument("--min-score", type=float, default=0.0, help="leave out boxes below (default: %(default)s)")
    parser.add_argument("--pool", default="max", choices=("max", "mean"), help="over a region (default: %(default)s)")
    parser.add_argument("--dtype", default="fp16", choices=("fp16", "fp32"), help="on disk (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="clips in a pass (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")


def main(arguments: argparse.Namespace) -> int:
    """Write the store, print what is in it, return 0.

    Raises:
        KuleshovError: no source is given whole, or several are.
    """
    from kuleshov.features import instance_sources

    boxes = [arguments.boxes, arguments.weights, arguments.videos]
    official = [arguments.official_meta, arguments.official_features]
    if arguments.detector and arguments.videos and not any([*boxes[:2], *official]):
        manifest = detect(arguments.detector, arguments.videos, arguments.output)
    elif arguments.detector:
        raise KuleshovError("--detector goes with --videos and --output alone: it writes boxes, not a store")
    elif all(boxes) and not any(official):
        manifest = instance_sources.from_boxes(
            arguments.boxes,
            arguments.weights,
            videos_in(arguments.videos),
            arguments.output,
            arguments.min_score,
            arguments.dtype,
            arguments.pool,
            arguments.batch_size,
            arguments.device,
        )
    elif all(official) and not any(boxes):
        manifest = instance_sources.from_official(*official, arguments.output, arguments.dtype)
    else:
        raise KuleshovError("give --boxes, --weights and --videos, or --official-meta and --official-features")
    print(json.dumps(manifest, indent=1, sort_keys=True) if arguments.json else said(manifest))
    return 0


def detect(weights: str, videos: str, output: str) -> dict[str, Any]:
    """Write the boxes of a folder of videos as a CSV."""
    from kuleshov.features.person_tracker import Tracker, write_boxes

    return write_boxes(videos_in(videos), Tracker(weights), output)


def videos_in(folder: str | Path) -> list[Video]:
    """The videos of a folder, their ids the names without ending.

    Raises:
        KuleshovError: it is no folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise KuleshovError(f"no folder of videos at {folder.absolute()}: check --videos")
    return [Video(path.stem, path) for path in sorted(folder.iterdir()) if path.suffix.lower() in CONTAINERS]


def said(manifest: dict[str, Any]) -> str:
    """Lines for a person: how many movies, and which are missing and why."""
    lines = [f"{manifest['movies']} of {manifest['of']} movies have instances"]
    lines += [f"  {one['id']}: {one['reason']}" for one in manifest["missing"][:SHOWN]]
    more = len(manifest["missing"]) - SHOWN
    return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)
