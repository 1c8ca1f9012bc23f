"""Which videos a pretraining reads: any data set, with or without labels."""

from pathlib import Path
from typing import Literal

from kuleshov.core.errors import MissingDataError
from kuleshov.datasets.folder import find_videos
from kuleshov.datasets.kinetics import read_kinetics, read_list
from kuleshov.datasets.lvu import Lvu
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.video.video_file import Video

Kind = Literal["kinetics", "vidsitu", "lvu", "folder"]


def read_videos(videos: str, kind: Kind, split: str, video_root: str | None) -> tuple[list[Video], list[str]]:
    """The videos of a data set that are on disk, and the names of those that are not.

    Args:
        videos: kinetics: a list of videos, or the folder of lists or class folders; vidsitu and lvu: the
            data set's root; folder: a folder, pattern or file of videos.
        kind: which of these.
        split: which split of the data set; lists and plain folders have none.
        video_root: where the video files lie, if not where the data set's format says.

    Raises:
        MissingDataError: none of the videos is on disk.
    """
    if kind == "kinetics":
        path = Path(videos)
        found = read_kinetics(path, split, video_root) if path.is_dir() else read_list(path, video_root)
        return found.videos, found.missing
    if kind == "folder":
        return find_videos(videos), []
    if kind == "vidsitu":
        tree = VidSitu(videos)
        present, missing = tree.videos(split, video_root), tree.missing(split, video_root)
    else:
        present, missing = Lvu(videos, video_root).videos(splits=(split,))
    if not present:
        where = Path(video_root or videos).absolute()
        how = f"all {len(missing)} of the split are missing; check the videos' folder"
        raise MissingDataError(f"videos of {kind} {split}", where, how)
    return present, missing


def evenly(videos: list[Video], limit: int | None) -> list[Video]:
    """At most `limit` of the videos, evenly chosen; all where it is None."""
    if limit is None or len(videos) <= limit:
        return videos
    return [videos[place * len(videos) // limit] for place in range(limit)]
