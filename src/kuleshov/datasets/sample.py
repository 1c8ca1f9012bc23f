"""`kuleshov sample`: a few videos of a data set, with what is said of them, laid out as the whole."""

import os
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kuleshov.core.errors import KuleshovError, MissingDataError, UsageError, require_positive
from kuleshov.core.files import make_folder
from kuleshov.video.video_file import Video

Item = TypeVar("Item")


@dataclass(frozen=True)
class SampleResult:
    """What was taken: part of the data set -> number of its videos or rows."""

    output: Path
    taken: dict[str, int]

    def __str__(self) -> str:
        """The numbers."""
        return f"{self.output}: " + ", ".join(f"{count} of {name}" for name, count in self.taken.items())


def sample_command(data: str, root: Path, output: Path, count: int = 4) -> SampleResult:
    """Take a few videos of each split of a data set, with their annotations, into a folder laid out as the whole.

    Videos are linked, not copied. Whatever runs on the data set runs on the sample, in a moment.

    Args:
        data: data set: k400, vidsitu, lvu, shards or folder.
        root: its folder.
        output: folder to write.
        count: videos (of VidSitu segments, of LVU rows of a task) of each split.

    Raises:
        UsageError: the sample would be written into the data set's own folder.
        KuleshovError: the data set, or all of its videos, are not there, or it is broken.
    """
    from kuleshov.datasets.registry import data_set

    require_positive(count=count)
    if Path(root).resolve() == Path(output).resolve():
        raise UsageError(f"--output is --root ({root}): name another folder")
    entry = data_set(data)
    if entry.sample is None:
        raise UsageError(f"data set {entry.name} has no sample: give it one where it is registered")
    taken = entry.sample(root, output, count)
    if not any(taken.values()):
        raise MissingDataError(f"videos of {entry.name}", Path(root).absolute(), entry.missing)
    return SampleResult(output, taken)


def link_videos(videos: Iterable[Video | Path], folder: Path) -> list[str]:
    """Link files into a folder, paths under their own names and videos under their ids; the links' names.

    Raises:
        KuleshovError: something else than a link has such a name.
    """
    names = []
    for one in videos:
        name, path = (f"{one.id}{one.path.suffix}", one.path) if isinstance(one, Video) else (one.name, one)
        link = folder / name
        make_folder(link.parent)
        if link.exists() and not link.is_symlink():
            raise KuleshovError(f"{link} is there already: name another folder for the sample")
        link.unlink(missing_ok=True)
        os.symlink(path.absolute(), link)
        names.append(name)
    return names


def varied(items: Iterable[tuple[Hashable, Item]], count: int) -> list[Item]:
    """The first `count` of labeled items, those of labels that were not met yet before others."""
    met: Counter[Hashable] = Counter()
    order = []
    for place, (label, item) in enumerate(items):
        order.append((met[label], place, item))
        met[label] += 1
    return [item for _, _, item in sorted(order, key=lambda one: one[:2])[:count]]
