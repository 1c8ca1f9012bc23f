"""A video file, or a part of one, and which files are videos."""

import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kuleshov.core.errors import KuleshovError, VideoError

log = logging.getLogger(__name__)
_NAMED = 5
T = TypeVar("T")


@dataclass(frozen=True)
class Video:
    """A video file, or the span [start, end] of it in seconds, with an id unique in its data set.

    Attributes:
        id: unique name; the segment id for VidSitu, the video's id elsewhere.
        path: the file.
        start: first second of the span; None for the file's beginning.
        end: last second of the span; None for the file's end.
        label: class index where the data set has one.
    """

    id: str
    path: Path
    start: float | None = None
    end: float | None = None
    label: int | None = None

    def span(self, length: float, padding: float = float("inf")) -> tuple[float, float]:
        """First and last second of what a file of `length` seconds holds of the video.

        Raises:
            VideoError: nothing of it, or `padding` seconds or more of the span come after the file's end.
        """
        begin, end = self.start or 0.0, length if self.end is None else self.end
        if begin >= min(length, end) or end - length >= padding:
            raise VideoError(self.path, f"{begin:g} to {end:g} s are not in it: it ends at {length:.2f} s")
        return begin, min(end, length)


VIDEO_SUFFIXES = frozenset(".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split())
# of several files of one name, the container that is taken
_PREFERRED = ".mp4 .mkv .webm .avi .mov".split()


def is_video(path: str | Path) -> bool:
    """Whether a name ends like a video's and is not hidden."""
    path = Path(path)
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def readable(name: str) -> str:
    """A file's name as an id: bytes that are not UTF-8 are spelled out (`caf\\xe9`)."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def videos_by_stem(folder: str | Path) -> dict[str, Path]:
    """The videos that lie in a folder, by their names without ending; {} where there is no such folder."""
    folder = Path(folder)
    found = sorted(filter(is_video, folder.iterdir()), key=_choice) if folder.is_dir() else []
    return {readable(path.stem): path for path in without_odd(found) if path.is_file()}


def videos_below(folder: str | Path) -> list[Path]:
    """All videos in a folder and below it, links followed, sorted; hidden files and folders are left out.

    What is named like a video and cannot be one (broken links, pipes, folders) is left out with a warning, as are
    folders that contain themselves.
    """
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        state = os.stat(place)
        if (state.st_dev, state.st_ino) in seen:
            log.warning("%s is a folder that was read before: left out", place)
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in [*names, *folders] if is_video(name)]
    return sorted(path for path in without_odd(found) if path.is_file())


def without_odd(paths: Iterable[Path]) -> list[Path]:
    """The paths that are files or folders of videos, links followed; others are counted and named in a warning."""
    kept, odd = [], []
    for path in paths:
        good = path.is_file() or (path.is_dir() and any(map(is_video, path.iterdir())))
        (kept if good else odd).append(path)
    if odd:
        named = "; ".join(f"{path} ({_kind(path)})" for path in odd[:_NAMED])
        log.warning("%d left out: %s%s", len(odd), named, " ..." if len(odd) > _NAMED else "")
    return kept


def _kind(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "a broken link"
    return "a folder" if path.is_dir() else "no regular file"


def evenly(samples: Sequence[T], limit: int | None) -> list[T]:
    """At most `limit` of the samples, evenly chosen; all where it is None.

    Raises:
        KuleshovError: a limit below one.
    """
    if limit is None or len(samples) <= limit:
        return list(samples)
    if limit < 1:
        raise KuleshovError(f"at least one sample is needed, {limit} were asked for")
    return [samples[place * len(samples) // limit] for place in range(limit)]


def _choice(path: Path) -> tuple[int, str]:
    suffix = path.suffix.lower()
    return -(_PREFERRED.index(suffix) if suffix in _PREFERRED else len(_PREFERRED)), path.name
