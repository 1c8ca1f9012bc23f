"""The data sets: one entry each. The runner, extraction, pretraining, `check` and the help texts read it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kuleshov.core.errors import KuleshovError, MissingDataError, nearest
from kuleshov.video.video_file import Video

Found = tuple[list[Video], list[str]]


@dataclass(frozen=True)
class DataSet:
    """A data set of videos.

    Attributes:
        name: what `--data` calls it.
        folders: names of its folder under the folder of data sets, the first found is taken; none where the
            folder that the user names is the data set itself.
        world: its folder in the generated world.
        missing: what to do when it is not there.
        splits: names of its splits; a split that is not there is passed over.
        read: (root, split, folder of the videos) -> the split's videos that are on disk, and the names of the others.
        check: (root, **options) -> what is there, readable and shared, as plain values.
        aliases: other names for it.
    """

    name: str
    folders: tuple[str, ...]
    world: str
    missing: str
    splits: tuple[str, ...]
    read: Callable[[Path, str, Path | None], Found]
    check: Callable[..., dict[str, Any]]
    aliases: tuple[str, ...] = ()

    def locate(self, root: Path | None, world: Path | None = None) -> Path:
        """The data set's folder: in the generated world, under the user's folder, or under `data/`.

        Args:
            root: the user's folder of data sets; of a data set without `folders`, the folder itself.
            world: the generated world's folder, used where no root is given.

        Raises:
            MissingDataError: it is not there; the same command on the generated world is offered.
        """
        if root is None and world is not None:
            return world / self.world
        base = root if root is not None else Path("data")
        places = [base / name for name in self.folders] or [base]
        place = next((place for place in places if place.is_dir()), places[0])
        if not place.is_dir():
            how = f"{self.missing}, or add SCALE=demo (--scale demo) to run the same stage on the generated world"
            raise MissingDataError(f"data set {self.name}", place.absolute(), how)
        return place

    def videos(
        self, root: str | Path, splits: Iterable[str] | None = None, video_root: str | Path | None = None
    ) -> Found:
        """The videos of some splits (all by default) that are on disk, each id once, and the names of the others.

        Raises:
            MissingDataError: none of the splits, or none of the videos, is there.
        """
        found: dict[str, Video] = {}
        missing: dict[str, None] = {}
        wanted, last, read = tuple(splits or self.splits), None, 0
        folder = Path(video_root) if video_root is not None else None
        for split in wanted:
            try:
                present, absent = self.read(Path(root), split, folder)
            except MissingDataError as error:
                last = error
                continue
            read += 1
            found |= {video.id: video for video in present if video.id not in found}
            missing |= dict.fromkeys(absent)
        if not read and last is not None:
            raise last
        absent = [name for name in missing if name not in found]
        if not found:
            how = f"all {len(absent)} are missing: {self.missing}"
            raise MissingDataError(f"videos of {self.name}", Path(video_root or root).absolute(), how)
        return list(found.values()), absent


def _kinetics(root: Path, split: str, videos: Path | None) -> Found:
    from kuleshov.datasets.kinetics import read_kinetics, read_list

    found = read_kinetics(root, split, videos) if root.is_dir() else read_list(root, videos)
    return found.videos, found.missing


def _vidsitu(root: Path, split: str, videos: Path | None) -> Found:
    from kuleshov.datasets.vidsitu import VidSitu

    tree = VidSitu(root)
    return tree.videos(split, videos), tree.missing(split, videos)


def _lvu(root: Path, split: str, videos: Path | None) -> Found:
    from kuleshov.datasets.lvu import Lvu

    return Lvu(root, videos).videos(splits=(split,))


def _folder(root: Path, split: str, videos: Path | None) -> Found:
    from kuleshov.datasets.folder import find_videos

    return find_videos(root), []


def _check(home: str) -> Callable[..., dict[str, Any]]:
    """The `check` of a module of this package, imported when it is called."""

    def check(root: Path, **options: Any) -> dict[str, Any]:
        from importlib import import_module

        return import_module(f"kuleshov.datasets.{home}").check(root, **options)

    return check


DATA_SETS = {
    one.name: one
    for one in (
        DataSet(
            name="k400",
            folders=("k400", "kinetics"),
            world="kinetics",
            missing="put the Kinetics-400 lists (train.csv, val.csv: `path label`) and videos there",
            splits=("train", "val", "test"),
            read=_kinetics,
            check=_check("kinetics"),
            aliases=("kinetics",),
        ),
        DataSet(
            name="vidsitu",
            folders=("vidsitu",),
            world="vidsitu",
            missing="put VidSitu's split_files/, vinfo_files/, vseg_ann_files/ and videos/ there (see the README)",
            splits=("train", "valid", "testvb", "testsrl", "testevrel"),
            read=_vidsitu,
            check=_check("vidsitu_check"),
        ),
        DataSet(
            name="lvu",
            folders=("lvu",),
            world="lvu",
            missing="put LVU's lvu_1.0/ and videos/ there (see the README)",
            splits=("train", "val", "test"),
            read=_lvu,
            check=_check("lvu_check"),
        ),
        DataSet(
            name="folder",
            folders=(),
            world="kinetics/clips",
            missing="name a folder of videos with --root",
            splits=("all",),
            read=_folder,
            check=_check("folder"),
        ),
    )
}


def data_set(name: str) -> DataSet:
    """A data set by its name or alias.

    Raises:
        KuleshovError: no such data set; the nearest name is offered.
    """
    for one in DATA_SETS.values():
        if name in (one.name, *one.aliases):
            return one
    raise KuleshovError(f"no data set is called {name!r}{nearest(name, DATA_SETS)}")
