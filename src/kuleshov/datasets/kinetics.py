"""Kinetics and what is laid out like it: lists, class folders, and the original CSV.

Three layouts are recognized, for each split:

* a list `<root>/<split>.csv` or `.txt` as PySlowFast reads it: `path label` a line, without header, separated
  by a blank, tab or comma; or with paths alone;
* the original `<root>/<split>.csv` with the header label,youtube_id,time_start,time_end,split; the files are
  found below the root by their names `<id>_<start>_<end>`;
* class folders `<root>/<split>/<class>/<video>`.
"""

import csv
import logging
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kuleshov.core.errors import FormatError, MissingDataError
from kuleshov.core.files import write_atomic
from kuleshov.datasets.file_check import check_files
from kuleshov.datasets.folder import list_lines
from kuleshov.datasets.sample import link_videos, varied
from kuleshov.video.video_file import Video, is_video, readable, videos_below

log = logging.getLogger(__name__)
KINETICS_SPLITS = ("train", "val", "test")
_HEADER = ("label", "youtube_id", "time_start", "time_end", "split")
_EXPECTED = "expected 'path label', separated by a blank or comma, label a whole number, or paths alone"
_NAMED = 5


@dataclass(frozen=True)
class KineticsSplit:
    """One split as it is on disk.

    Attributes:
        videos: the files that are there, in the list's order; ids are unique.
        missing: the names of those that are not.
        classes: class names by label; empty where only numbers are known.
    """

    videos: list[Video]
    missing: list[str]
    classes: list[str]


def find(root: str | Path, split: str = "train", video_root: Path | None = None) -> tuple[list[Video], list[str]]:
    """The videos of a split that are on disk, and the names of the others; `root` may also be a list."""
    found = read_kinetics(root, split, video_root) if Path(root).is_dir() else read_list(root, video_root)
    return found.videos, found.missing


def check(
    root: str | Path, videos: str | Path | None = None, least_seconds: float = 2.0, workers: int = 2
) -> dict[str, Any]:
    """Per split: what is there, readable, too short and doubled by content; see `check_files`.

    Raises:
        MissingDataError: none of the splits is there.
        FormatError: a list is broken.
    """
    found, last = {}, None
    for split in KINETICS_SPLITS:
        try:
            found[split] = find(root, split, videos)
        except MissingDataError as error:
            last = error
        if Path(root).is_file():
            break
    if not found:
        raise last
    return check_files(found, least_seconds, workers)


def sample(root: str | Path, output: Path, count: int) -> dict[str, int]:
    """Write lists of a few videos of each split, of different classes, with links to them; numbers by split."""
    taken = {}
    for split in KINETICS_SPLITS:
        try:
            found = read_kinetics(root, split)
        except MissingDataError:
            continue
        chosen = varied(((video.label, video) for video in found.videos), count)
        names = link_videos(chosen, output / split)
        labels = ["" if video.label is None else f" {video.label}" for video in chosen]
        lines = [f"{split}/{name}{label}\n" for name, label in zip(names, labels, strict=True)]
        write_atomic(output / f"{split}.csv", "".join(lines))
        taken[split] = len(chosen)
    return taken


def read_kinetics(root: str | Path, split: str = "train", prefix: str | Path | None = None) -> KineticsSplit:
    """Read a split in whichever layout it has there.

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
    labels: dict[str, int | None] = {}
    labeled = not is_video(lines[0][1])
    for number, line in lines:
        name, label = _split_line(path, number, line, labeled)
        if name in labels:
            raise FormatError(path, f"{name} is in an earlier line too: drop one", number, "path")
        labels[name] = label
    there = {name: base / name for name in labels if (base / name).is_file()}
    videos = [
        Video(readable(Path(name).with_suffix("").as_posix()), file, label=labels[name]) for name, file in there.items()
    ]
    missing = [name for name in labels if name not in there]
    return _finished(videos, missing, _class_names(path.parent / "classes.txt", list(labels.values())), path, base)


def _split_line(path: Path, number: int, line: str, labeled: bool) -> tuple[str, int | None]:
    if not labeled:
        if not is_video(line):
            reason = f"{_EXPECTED}; the first line has a path alone, this one is {line!r}"
            raise FormatError(path, reason, number, "path")
        return line, None
    if line.startswith('"'):
        # as pandas writes a path that holds blanks
        cells = next(csv.reader([re.sub(r'"[ \t,]+', '",', line)]))
        line = f"{cells[0]},{cells[1].strip()}" if len(cells) == 2 else line
    for separator in (None, ","):
        # from the right: paths may hold blanks and commas
        parts = line.rsplit(separator, 1)
        label = parts[-1].strip()
        if len(parts) == 2 and label.isascii() and label.isdigit():
            return parts[0].strip().removesuffix(",").strip(), int(label)
    raise FormatError(path, f"{_EXPECTED}; got {line!r}", number, "label")


def _class_names(path: Path, labels: list[int | None]) -> list[str]:
    if not path.is_file():
        return []
    names = [line for _, line in list_lines(path)]
    highest = max((label for label in labels if label is not None), default=-1)
    if highest >= len(names):
        raise FormatError(path, f"{len(names)} classes are named, but the list has label {highest}")
    return names


def _read_original(path: Path, base: Path, lines: list[tuple[int, str]]) -> KineticsSplit:
    columns = _columns(lines)
    absent = [name for name in _HEADER[1:4] if name not in columns]
    if absent:
        raise FormatError(path, f"expected the columns {','.join(_HEADER)}; {absent[0]} is missing", 1)
    rows = []
    for number, line in lines[1:]:
        row = dict(zip(columns, next(csv.reader([line])), strict=False))
        for name in ("time_start", "time_end"):
            if not (row.get(name) or "").strip().isdigit():
                reason = f"expected {','.join(columns)}; seconds are whole, got {row.get(name)!r}"
                raise FormatError(path, reason, number, name)
        rows.append((row["youtube_id"], int(row["time_start"]), int(row["time_end"]), row.get("label") or None))
    # labels number the sorted names; a class keeps its number in a split that lacks another: train names them
    train = path.with_stem("train")
    named = list(list_lines(train)) if path.stem != "train" and train.is_file() else []
    known = _labels(named) if named and "youtube_id" in named[0][1] else set()
    classes = sorted(known or _labels(lines))
    strange = sorted(_labels(lines) - set(classes))
    if strange:
        raise FormatError(path, f"class {strange[0]!r} is not among those of {train}: add it there", field="label")
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
    return _finished(videos, missing, classes, path, base)


def _columns(lines: list[tuple[int, str]]) -> list[str]:
    return next(csv.reader([lines[0][1]]))


def _labels(lines: list[tuple[int, str]]) -> set[str]:
    """The class names of a list in the original format."""
    columns = _columns(lines)
    rows = (dict(zip(columns, next(csv.reader([line])), strict=False)) for _, line in lines[1:])
    return {row["label"] for row in rows if row.get("label")}


def _read_class_folders(root: Path, split: str) -> KineticsSplit:
    home = root / split
    # a class keeps its number in a split that lacks another: the train split names them where it is there
    named = root / "train" if (root / "train").is_dir() else home
    classes = sorted(p.name for p in named.iterdir() if p.is_dir() and not p.name.startswith("."))
    numbers = {name: number for number, name in enumerate(classes)}
    videos = []
    for file in videos_below(home):
        name = file.relative_to(home)
        if name.parts[0] not in numbers:
            raise FormatError(home, f"expected <class>/<video>, the classes of {named}: {name} is in none of them")
        videos.append(Video(readable(name.with_suffix("").as_posix()), file, label=numbers[name.parts[0]]))
    return _finished(videos, [], classes, home, home)


def _finished(videos: list[Video], missing: list[str], classes: list[str], source: Path, base: Path) -> KineticsSplit:
    """Number repeated ids (a.mp4 beside a.mkv, one file in two rows), and name what is missing.

    Raises:
        MissingDataError: all videos are missing.
    """
    total = len(videos) + len(missing)
    named = ", ".join(missing[:_NAMED]) + (" ..." if len(missing) > _NAMED else "")
    if not videos:
        what, how = f"any of the {total} videos of {source}", f"check the paths or give the prefix; first: {named}"
        raise MissingDataError(what, base.absolute(), how)
    if missing:
        log.warning("%d of %d videos of %s are missing: %s", len(missing), total, source, named)
    seen: Counter[str] = Counter()
    for place, video in enumerate(videos):
        seen[video.id] += 1
        if seen[video.id] > 1:
            videos[place] = replace(video, id=f"{video.id}#{seen[video.id]}")
    return KineticsSplit(videos, missing, classes)
