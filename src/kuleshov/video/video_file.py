"""A video file, or a part of one, and which files are videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


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


VIDEO_SUFFIXES = frozenset(".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split())
# of several files of one name, the container that is taken
_PREFERRED = ".mp4 .mkv .webm .avi .mov".split()


def is_video(path: str | Path) -> bool:
    """Whether a name ends like a video's and is not hidden."""
    path = Path(path)
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def videos_by_stem(folder: str | Path) -> dict[str, Path]:
    """The videos that lie in a folder, by their names without ending; {} where there is no such folder."""
    folder = Path(folder)
    found = sorted(filter(is_video, folder.iterdir()), key=_choice) if folder.is_dir() else []
    return {path.stem: path for path in found}


def evenly(videos: Sequence[Video], limit: int | None) -> list[Video]:
    """At most `limit` of the videos, evenly chosen; all where it is None."""
    if limit is None or len(videos) <= limit:
        return list(videos)
    return [videos[place * len(videos) // limit] for place in range(limit)]


def _choice(path: Path) -> tuple[int, str]:
    suffix = path.suffix.lower()
    return -(_PREFERRED.index(suffix) if suffix in _PREFERRED else len(_PREFERRED)), path.name
