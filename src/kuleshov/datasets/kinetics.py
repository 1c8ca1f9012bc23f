"""Kinetics and what is laid out like it: lists, class folders, and the original CSV.

Three layouts are recognized, for each split:

* a list `<root>/<split>.csv` or `.txt` in PySlowFast's dialect: `path label` a line, without header, separated
  by a blank, tab or comma; or with paths alone;
* the original `<root>/<split>.csv` with the header label,youtube_id,time_start,time_end,split; the files are
  found below the root by their names `<id>_<start>_<end>`;
* class folders `<root>/<split>/<class>/<video>`.
"""

import csv
import logging
from dataclasses import dataclass
from pathlib import Path

from kuleshov.core.errors import FormatError, MissingDataError
from kuleshov.datasets.folder import FilesReport, check_files, is_video, list_lines, videos_below
from kuleshov.video.video_file import Video

log = logging.getLogger(__name__)
SPLITS = ("train", "val", "test")
_HEADER = ("label", "youtube_id", "time_start", "time_end", "split")
_EXPECTED = "expected 'path label', separated by a blank or comma, label a whole number, or paths alone"
_NAMED = 5


@dataclass(frozen=True)
class KineticsSplit:
    """One split as it lies on disk.

    Attributes:
        videos: the files that are there, in the list's order; ids are unique.
        missing: the names of those that are not.
        classes: class names by label; empty where only numbers are known.
        source: the list or folder that was read.
    """

    videos: list[Video]
    missing: list[str]
    classes: list[str]
    source: Path


def read_kinetics(root: str | Path, split: str = "train", prefix: str | Path | None = None) -> KineticsSplit:
    """Read a split in whichever layout it lies there.

    Args:
        root: the data set's folder.
        split: train, val or test.
        prefix: folder that the paths in a list are relative to; the list's own folder if not given.

    Raises:
        MissingDataError: no such split, or none of its files is there.
        FormatError: a line of a list is broken; line, columns and value are named.
    """
    root = Path(root)
    for name in (f"{split}.csv", f"{split}.txt", f"{split}.lst"):
        if (root / name).is_file():
            return read_list(root / name, prefix)
    if (root / split).is_dir():
        return _read_class_folders(root, split)
    how = f"put a list {split}.csv ('path label' a line) or class folders {split}/<class>/<video> there"
    raise MissingDataError(f"Kinetics split {split}", root.absolute(), how)


def read_list(path: str | Path, prefix: str | Path | None = None) -> KineticsSplit:
    """Read one list, PySlowFast's or the original CSV; see `read_kinetics`."""
    path = Path(path)
    lines = list(list_lines(path))
    if not lines:
        raise FormatError(path, f"the list is empty: {_EXPECTED}")
    base = path.parent if prefix is None else Path(prefix)
    if "youtube_id" in lines[0][1]:
        return _read_original(path, base, lines)
    labeled = not is_video(lines[0][1])
    entries = [(number, *_split_line(path, number, line, labeled)) for number, line in lines]
    _refuse_repeated(path, entries)
    videos, missing = [], []
    for _, name, label in entries:
        file = base / name
        if file.is_file():
            videos.append(Video(Path(name).with_suffix("").as_posix(), file, label=label))
        else:
            missing.append(name)
    classes = _class_names(path.parent / "classes.txt", [label for _, _, label in entries])
    return _told(KineticsSplit(_distinct_ids(videos), missing, classes, path), base)


def check(
    root: str | Path, prefix: str | Path | None = None, least_seconds: float = 2.0, workers: int = 2
) -> dict[str, FilesReport]:
    """Per split: what is there, readable, too short and doubled by content; see `check_files`.

    Raises:
        MissingDataError: none of the splits is there.
        FormatError: a list is broken.
    """
    reports, last = {}, None
    for split in SPLITS:
        try:
            found = read_kinetics(root, split, prefix)
        except MissingDataError as error:
            last = error
            continue
        reports[split] = check_files(found.videos, found.missing, least_seconds, workers)
    if not reports:
        raise last
    return reports


def _split_line(path: Path, number: int, line: str, labeled: bool) -> tuple[str, int | None]:
    if not labeled:
        if not is_video(line):
            reason = f"{_EXPECTED}; the first line has a path alone, this one is {line!r}"
            raise FormatError(path, reason, number, "path")
        return line, None
    for separator in (None, ","):
        # from the right: paths may hold blanks and commas
        parts = line.rsplit(separator, 1)
        label = parts[-1].strip()
        if len(parts) == 2 and label.isascii() and label.isdigit():
            return parts[0].strip().removesuffix(",").strip(), int(label)
    raise FormatError(path, f"{_EXPECTED}; got {line!r}", number, "label")


def _refuse_repeated(path: Path, entries: list[tuple[int, str, int | None]]) -> None:
    first: dict[str, int] = {}
    for number, name, _ in entries:
        if name in first:
            raise FormatError(path, f"{name} stands here and in line {first[name]}: drop one", number, "path")
        first[name] = number


def _class_names(path: Path, labels: list[int | None]) -> list[str]:
    if not path.is_file():
        return []
    names = [line for _, line in list_lines(path)]
    highest = max((label for label in labels if label is not None), default=-1)
    if highest >= len(names):
        raise FormatError(path, f"{len(names)} classes are named, but the list has label {highest}")
    return names


def _read_original(path: Path, base: Path, lines: list[tuple[int, str]]) -> KineticsSplit:
    columns = next(csv.reader([lines[0][1]]))
    needed = [name for name in _HEADER[:4] if name not in columns and name != "label"]
    if needed:
        raise FormatError(path, f"expected the columns {','.join(_HEADER)}; {needed[0]} is missing", 1)
    rows = []
    for number, line in lines[1:]:
        row = dict(zip(columns, next(csv.reader([line])), strict=False))
        for name in ("time_start", "time_end"):
            if not (row.get(name) or "").strip().isdigit():
                reason = f"expected {','.join(columns)}; seconds are whole, got {row.get(name)!r}"
                raise FormatError(path, reason, number, name)
        rows.append((row["youtube_id"], int(row["time_start"]), int(row["time_end"]), row.get("label") or None))
    # labels count the sorted names, as everywhere
    classes = sorted({label for *_, label in rows if label is not None})
    numbers = {name: number for number, name in enumerate(classes)}
    files = {file.stem: file for file in videos_below(base)}
    videos, missing = [], []
    for youtube_id, start, end, label in rows:
        stems = (f"{youtube_id}_{start:06d}_{end:06d}", f"{youtube_id}_{start}_{end}", youtube_id)
        stem = next((stem for stem in stems if stem in files), None)
        if stem is None:
            missing.append(stems[0])
        else:
            videos.append(Video(stem, files[stem], label=numbers.get(label)))
    return _told(KineticsSplit(_distinct_ids(videos), missing, classes, path), base)


def _read_class_folders(root: Path, split: str) -> KineticsSplit:
    home = root / split
    # a class keeps its number in a split that lacks another: the train split names them where it is there
    named = root / "train" if (root / "train").is_dir() else home
    classes = sorted(p.name for p in named.iterdir() if p.is_dir() and not p.name.startswith("."))
    numbers = {name: number for number, name in enumerate(classes)}
    videos = []
    for file in videos_below(home):
        name = file.relative_to(home).parts[0]
        if name not in numbers:
            reason = (
                f"{file} is in no class folder that {named} has"
                if file.parent != home
                else (f"{file.name} lies beside the class folders")
            )
            raise FormatError(home, f"expected <class>/<video>: {reason}")
        videos.append(Video(file.relative_to(home).with_suffix("").as_posix(), file, label=numbers[name]))
    return _told(KineticsSplit(_distinct_ids(videos), [], classes, home), home)


def _distinct_ids(videos: list[Video]) -> list[Video]:
    """Give videos that share an id (a.mp4 beside a.mkv, one file in two rows) the file's ending or a number."""
    seen: dict[str, int] = {}
    result = []
    for video in videos:
        count = seen[video.id] = seen.get(video.id, 0) + 1
        name = video.id if count == 1 else f"{video.id}#{count}"
        result.append(Video(name, video.path, video.start, video.end, video.label))
    return result


def _told(split: KineticsSplit, base: Path) -> KineticsSplit:
    """Name what is missing; refuse a split of which nothing is there."""
    total = len(split.videos) + len(split.missing)
    named = ", ".join(split.missing[:_NAMED]) + (" ..." if len(split.missing) > _NAMED else "")
    if not split.videos:
        what = f"any of the {total} videos of {split.source}"
        raise MissingDataError(what, base.absolute(), f"check the paths or give the prefix; first: {named}")
    if split.missing:
        log.warning("%d of %d videos of %s are missing: %s", len(split.missing), total, split.source, named)
    return split
