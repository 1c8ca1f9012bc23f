"""Plain videos: files, folders, patterns and lists of them."""

import csv
import glob
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.core.files import read_text
from kuleshov.datasets.file_check import check_files
from kuleshov.datasets.sample import link_videos
from kuleshov.video.video_file import VIDEO_SUFFIXES, Video, is_video, readable, videos_below, without_odd

# as pandas and spreadsheets write what holds blanks, commas or quotes
_QUOTED = re.compile('"([^"]|"")*"')
LIST_SUFFIXES = frozenset({".csv", ".lst", ".txt"})


def find(root: str | Path, split: str = "all", video_root: Path | None = None) -> tuple[list[Video], list[str]]:
    """What `find_videos` finds; nothing is missing. Plain videos have no splits."""
    return find_videos(root), []


def check(root: str | Path, least_seconds: float = 2.0, workers: int = 2) -> dict[str, Any]:
    """Which of a folder's videos can be read; see `check_files`."""
    return check_files({"files": find(root)}, least_seconds, workers)


def sample(root: str | Path, output: Path, count: int) -> dict[str, int]:
    """Link the first videos of a folder."""
    chosen = find_videos(root)[:count]
    link_videos(chosen, output)
    return {"files": len(chosen)}


def find_videos(sources: str | Path | Iterable[str | Path]) -> list[Video]:
    """Find videos in files, folders (with all below), patterns such as `movies/*.mp4`, and lists.

    A list is a .txt, .csv or .lst file with one path a line, relative to its own folder; `#` opens a comment.
    Ids are names without their endings: below a folder with the way to them (`a/b`), elsewhere alone.

    Args:
        sources: one or more of these.

    Returns:
        One `Video` a file, sorted by id; ids are unique.

    Raises:
        MissingDataError: a source is not there or holds no videos.
        KuleshovError: two files would have the same id.
    """
    if isinstance(sources, str | Path):
        sources = [sources]
    # a file reached in two ways is one video, under the name it was found by first
    names: dict[Path, tuple[str, Path]] = {}
    for source in sources:
        for name, path in _expand(str(source)):
            names.setdefault(path.resolve(), (name, path))
    named = [(readable(name), path) for name, path in names.values()]
    return [Video(id, path) for id, path in sorted(_unique_ids(named).items())]


def list_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Line numbers and texts of a list file, blank lines and comments left out, a line in quotes without them.

    Raises:
        MissingDataError: there is no such file.
        FormatError: it is not UTF-8.
    """
    for number, line in enumerate(read_text(path, "list of videos").split("\n"), start=1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield number, next(csv.reader([line]))[0] if _QUOTED.fullmatch(line) else line


def _expand(source: str) -> Iterator[tuple[str, Path]]:
    path = Path(source)
    if path.is_dir():
        found = videos_below(path)
        if not found:
            endings = " ".join(sorted(VIDEO_SUFFIXES))
            raise MissingDataError("videos", path.absolute(), f"none below this folder ends in {endings}")
        yield from ((p.relative_to(path).with_suffix("").as_posix(), p) for p in found)
    elif path.is_file() and path.suffix.lower() in LIST_SUFFIXES:
        for number, line in list_lines(path):
            entry = path.parent / line
            if not entry.is_file():
                raise MissingDataError("video", entry.absolute(), f"it is named in {path}, line {number}")
            yield entry.stem, entry
    elif path.is_file():
        yield path.stem, path
    else:
        # a pattern may also match folders and lists
        matches = sorted(glob.glob(source, recursive=True)) if glob.has_magic(source) else []
        folders = [match for match in matches if Path(match).is_dir() and not is_video(match)]
        matches = sorted([*folders, *map(str, without_odd(map(Path, filter(is_video, matches))))])
        if not matches:
            raise MissingDataError("videos", path.absolute(), "name a file, a folder, a list or a pattern")
        for match in matches:
            yield from _expand(match)


def _unique_ids(named: list[tuple[str, Path]]) -> dict[str, Path]:
    taken = Counter(name for name, _ in named)
    result: dict[str, Path] = {}
    for name, path in named:
        # a.mp4 beside a.mkv: keep the ending
        name = name if taken[name] == 1 else f"{name}{path.suffix}"
        if name in result:
            raise KuleshovError(f"two videos have the id {name}: {result[name]} and {path}; rename one")
        result[name] = path
    return result
