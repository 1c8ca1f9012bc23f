"""Whose features to extract: the videos of a data set, over all its splits."""

from pathlib import Path

from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.datasets import kinetics, lvu, vidsitu
from kuleshov.datasets.folder import find_videos
from kuleshov.video.video_file import Video

DATA_SETS = ("vidsitu", "lvu", "k400", "folder")


def dataset_videos(data: str, root: str | Path) -> tuple[list[Video], list[str]]:
    """The videos of a data set that are on disk, by id, and the ids of those that are not.

    Args:
        data: vidsitu (segments of all splits), lvu (movies of all tasks), k400 (all lists) or folder.
        root: the data set's folder.

    Raises:
        KuleshovError: no such data set.
        MissingDataError: the folder has none of its splits, or none of the videos is there.
    """
    if data == "folder":
        return find_videos(root), []
    if data == "lvu":
        found, missing = lvu.Lvu(root).videos()
    elif data == "vidsitu":
        found, missing = _vidsitu(root)
    elif data in ("k400", "kinetics"):
        found, missing = _kinetics(root)
    else:
        raise KuleshovError(f"unknown data set {data!r}: choose from {', '.join(DATA_SETS)}")
    if not found:
        how = f"all {len(missing)} are missing; put them where the data set's format says"
        raise MissingDataError(f"videos of {data}", Path(root).absolute(), how)
    once = {video.id: video for video in found}
    return list(once.values()), sorted(set(missing) - once.keys())


def _vidsitu(root: str | Path) -> tuple[list[Video], list[str]]:
    tree = vidsitu.VidSitu(root)
    found, missing, last = [], [], None
    for split in vidsitu.SPLITS:
        try:
            found += tree.videos(split)
            missing += tree.missing(split)
        except MissingDataError as error:
            last = error
    if last is not None and not found and not missing:
        raise last
    return found, missing


def _kinetics(root: str | Path) -> tuple[list[Video], list[str]]:
    found, missing, last = [], [], None
    for split in ("train", "val", "test"):
        try:
            part = kinetics.read_kinetics(root, split)
        except MissingDataError as error:
            last = error
            continue
        found += part.videos
        missing += part.missing
    if last is not None and not found:
        raise last
    return found, missing
