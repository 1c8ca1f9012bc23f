"""Values that pass between the rooms."""

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
