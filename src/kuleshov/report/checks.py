"""What of a data set is there, readable, and overlapping with another: as plain values and as tables."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kuleshov.core.errors import UsageError
from kuleshov.datasets import folder as folders
from kuleshov.datasets import kinetics, lvu_check, vidsitu_check
from kuleshov.datasets.lvu import Lvu
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.video.video_file import Video

NAMED = 10


def find(data: str, root: Path, split: str) -> list[Video]:
    """A data set's videos that are on disk.

    Raises:
        KuleshovError: the data set is not there, or broken.
    """
    if data == "vidsitu":
        return VidSitu(root).videos(split)
    if data == "lvu":
        return Lvu(root).videos(splits=(split,))[0]
    if data == "folder":
        return folders.find_videos(root)
    read = kinetics.read_list(root) if root.is_file() else kinetics.read_kinetics(root, split)
    return read.videos


def check(
    data: str,
    root: Path,
    against: Mapping[str, str] | None = None,
    videos: Path | None = None,
    write_split: Path | None = None,
    least_seconds: float = 2.0,
    workers: int = 2,
) -> dict[str, Any]:
    """Check one data set.

    Args:
        data: kinetics, vidsitu, lvu or folder.
        root: its folder.
        against: data set -> its folder; what VidSitu's valid split shares with it.
        videos: folder of the videos, where they lie elsewhere.
        write_split: file for VidSitu's segments that the other data sets do not hold.
        least_seconds: files below this are told as short (kinetics, folder).
        workers: processes that open files (kinetics, folder).

    Raises:
        UsageError: an argument that the data set does not take.
        KuleshovError: the data set is not there, or broken.
    """
    if data != "vidsitu" and (against or write_split):
        raise UsageError(f"--against and --write-split go with vidsitu, not with {data}")
    if data == "vidsitu":
        if write_split and not against:
            raise UsageError("--write-split needs --against: it writes what the other data set does not hold")
        return vidsitu_check.check(root, against, videos, write_split)
    if data == "lvu":
        return lvu_check.check(root, videos)
    if data == "folder":
        return {"files": asdict(folders.check(root, least_seconds, workers))}
    return {name: asdict(one) for name, one in kinetics.check(root, videos, least_seconds, workers).items()}


def print_report(data: str, report: Mapping[str, Any], console: Console) -> None:
    """Print a check's result as tables and sentences."""
    if data == "vidsitu":
        _print_vidsitu(report, console)
    elif data == "lvu":
        header, rows = lvu_check.table(dict(report))
        _print_table(console, header, rows)
        console.print(f"movies: {report['movies_present']} of {report['movies']} in {report['videos']}", markup=False)
        if report["missing_tasks"]:
            console.print(f"tasks without a folder: {', '.join(report['missing_tasks'])}", markup=False)
    else:
        _print_files(report, console)


def _print_vidsitu(report: Mapping[str, Any], console: Console) -> None:
    columns = list(dict.fromkeys(name for counts in report["splits"].values() for name in counts))
    rows = [[split, *(str(counts.get(name, "")) for name in columns)] for split, counts in report["splits"].items()]
    _print_table(console, ["split", *(name.replace("_", " ") for name in columns)], rows)
    for name, shared in report["overlap"].items():
        console.print(
            f"valid shares {shared['videos']} videos ({shared['segments']} segments) with {name}; "
            f"{shared['remaining_segments']} segments of {shared['remaining_videos']} videos remain",
            markup=False,
        )
    if "reduced_split" in report:
        reduced = report["reduced_split"]
        console.print(
            f"wrote {reduced['segments']} segments to {reduced['path']} (ids {reduced['sample_ids_sha256'][:8]})",
            markup=False,
        )


def _print_files(report: Mapping[str, Any], console: Console) -> None:
    columns = ("listed", "there", "readable", "short", "duplicates")
    rows = []
    for name, files in report.items():
        counts = [files[c] if isinstance(files[c], int) else len(files[c]) for c in columns]
        rows.append([name, *map(str, counts), f"{files['seconds'] / 3600:.2f}"])
    _print_table(console, ["split", *columns, "hours"], rows)
    for name, files in report.items():
        told = [f"missing: {path}" for path in files["missing"]]
        told += [f"unreadable: {path}: {reason}" for path, reason in files["unreadable"].items()]
        told += [f"short: {path}: {seconds:.2f} s" for path, seconds in files["short"].items()]
        told += [f"the same content: {', '.join(group)}" for group in files["duplicates"]]
        for line in told[:NAMED]:
            console.print(f"{name}: {line}", markup=False)
        if len(told) > NAMED:
            console.print(f"{name}: and {len(told) - NAMED} more (--json names all)", markup=False)


def _print_table(console: Console, header: list[str], rows: list[list[str]]) -> None:
    table = Table()
    for number, column in enumerate(header):
        table.add_column(escape(column), justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
