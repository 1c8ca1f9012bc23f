"""Which of many video files can be read: each is opened in another process, so that a crash costs only that process.

`python -m kuleshov.datasets.file_check` reads a JSON list of paths and writes one JSON line a file.
"""

import hashlib
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from kuleshov.core.errors import KuleshovError, VideoError, one_line
from kuleshov.core.files import sha256_file
from kuleshov.core.processes import end_with_parent
from kuleshov.video.shard_member import shard_member
from kuleshov.video.video_file import Video

_COMMAND = (sys.executable, "-P", "-m", "kuleshov.datasets.file_check")
_NAMED = 10


def check_files(
    splits: Mapping[str, tuple[Sequence[Video], Sequence[str]]], least_seconds: float = 2.0, workers: int = 2
) -> dict[str, Any]:
    """Open every file: split -> how many are `listed`, `there` and `readable`, their `seconds`, and what is wrong.

    Wrong are `missing` (names), `unreadable` (path -> reason), `partial` (path -> what lacks), `short` (path ->
    seconds), and `duplicates` (groups of paths with the same content).

    Args:
        splits: split -> (videos that are there, names of those that are not).
        least_seconds: files below this count as short.
        workers: processes.
    """
    checked = {name: _check_split(*found, least_seconds, workers) for name, found in splits.items()}
    table, notes = [], []
    for name, files in checked.items():
        counts = {key: files[key] for key in ("listed", "there", "readable")}
        counts |= {key: len(files[key]) for key in ("partial", "short", "duplicates")}
        table.append({"split": name, **counts, "hours": files["seconds"] / 3600})
        wrong = [f"missing: {path}" for path in files["missing"]]
        wrong += [f"unreadable: {path}: {reason}" for path, reason in files["unreadable"].items()]
        wrong += [f"partial: {path}: {remark}" for path, remark in files["partial"].items()]
        wrong += [f"short: {path}: {seconds:.2f} s" for path, seconds in files["short"].items()]
        wrong += [f"the same content: {', '.join(group)}" for group in files["duplicates"]]
        notes += [f"{name}: {line}" for line in wrong[:_NAMED]]
        if len(wrong) > _NAMED:
            notes.append(f"{name}: and {len(wrong) - _NAMED} more (--json names all)")
    return {"splits": checked, "table": table, "notes": notes}


def _check_split(videos: Sequence[Video], missing: Sequence[str], least_seconds: float, workers: int) -> dict[str, Any]:
    paths = sorted({str(video.path) for video in videos})
    found = examine_all(paths, workers)
    seconds = {one["path"]: one["seconds"] for one in found if one["reason"] is None}
    groups: dict[str, list[str]] = defaultdict(list)
    for one in found:
        groups[one["sha256"]].append(one["path"])
    return {
        "listed": len(paths) + len(missing),
        "there": len(paths),
        "readable": len(seconds),
        "missing": sorted(missing),
        "unreadable": {one["path"]: one["reason"] for one in found if one["reason"] is not None},
        "partial": {one["path"]: one["remark"] for one in found if one["remark"]},
        "short": {path: length for path, length in seconds.items() if length < least_seconds - 1e-3},
        "duplicates": sorted(group for group in groups.values() if len(group) > 1),
        "seconds": sum(seconds.values()),
    }


def examine(path: str) -> dict[str, Any]:
    """Decode a file's first, middle and last frame in this process, nothing between them.

    Returns:
        `path`; `reason` why it cannot be read, None if it can; `seconds`, 0 where it cannot; `remark` in what it falls
        short, empty where in nothing; `sha256`.
    """
    # PyAV is loaded in the process that examines, not by those that only look for files
    from kuleshov.video.metadata import probe
    from kuleshov.video.reader import VideoReader

    found = _nothing(path)
    try:
        info = probe(path)
        VideoReader("pyav").read(path, [0.0, info.duration / 2, info.duration])
    except VideoError as error:
        return {**found, "reason": error.reason}
    return {**found, "seconds": info.duration, "remark": info.remark}


def _nothing(path: str) -> dict[str, Any]:
    member = shard_member(path)
    digest = sha256_file(path) if Path(path).is_file() else ""
    if member is not None:
        with suppress(VideoError):  # whoever examines it says so
            digest = hashlib.sha256(member.read()).hexdigest()
    return {"path": path, "reason": None, "seconds": 0.0, "remark": "", "sha256": digest}


def examine_all(paths: Sequence[str], workers: int = 2) -> list[dict[str, Any]]:
    """`examine` files in `workers` processes, sorted by path; the file on which a process dies is unreadable.

    Raises:
        KuleshovError: the processes fail for another reason than a file.
    """
    shares = [list(paths[start :: max(1, workers)]) for start in range(max(1, workers))]
    with ThreadPoolExecutor(len(shares)) as threads:
        found = [one for share in threads.map(lambda s: list(_examine_share(s)), shares) for one in share]
    return sorted(found, key=lambda one: one["path"])


def _examine_share(left: list[str]) -> Iterator[dict[str, Any]]:
    while left:
        process = subprocess.run(_COMMAND, input=json.dumps(left), capture_output=True, text=True)
        lines = [line for line in process.stdout.splitlines(keepends=True) if line.endswith("\n")]
        yield from map(json.loads, lines)
        left = left[len(lines) :]
        if process.returncode < 0 and left:
            # killed by a signal: because of the next file
            yield {**_nothing(left[0]), "reason": "it crashes the decoder"}
            left = left[1:]
        elif left:
            last = one_line((process.stderr.strip().splitlines() or ["no message"])[-1])
            raise KuleshovError(f"the process that examines videos failed before {left[0]}: {last}")


if __name__ == "__main__":
    end_with_parent()
    for file in json.load(sys.stdin):
        print(json.dumps(examine(file)), flush=True)
