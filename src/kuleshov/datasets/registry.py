"""The data sets: one entry each. The runner, extraction, pretraining, `check` and the help texts read it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kuleshov.core.errors import KuleshovError, MissingDataError, nearest
from kuleshov.datasets import folder, kinetics, lvu, shards, vidsitu
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
        find: (root, split, folder of the videos) -> the split's videos that are on disk, and the names of the others.
        check: (root, **options) -> what is there, readable and shared, as plain values: `table` (records) and
            `notes` (lines) are printed, all is given as JSON. Options: against, videos, write_split, least_seconds,
            workers, of which it declares those that it takes.
        aliases: other names for it.
        by_id: whether the videos of several splits are given in the order of their ids, not split after split.
        sample: (root, output, count) -> a few videos of each split with their annotations, laid out as the whole, are
            written; numbers of them by name.
    """

    name: str
    folders: tuple[str, ...]
    world: str
    missing: str
    splits: tuple[str, ...]
    find: Callable[[Path, str, Path | None], Found]
    check: Callable[..., dict[str, Any]]
    aliases: tuple[str, ...] = ()
    by_id: bool = False
    sample: Callable[[Path, Path, int], dict[str, int]] | None = None

    def locate(self, root: Path | None, world: Path | None = None, must_exist: bool = True) -> Path:
        """The data set's folder: in the generated world, under the user's folder, or under `data/`.

        Args:
            root: the user's folder of data sets; of a data set without `folders`, the folder itself.
            world: the generated world's folder, used where no root is given.
            must_exist: refuse a folder that is not there; otherwise it is where it would have to be.

        Raises:
            MissingDataError: it is not there; the same command on the generated world is offered.
        """
        if root is None and world is not None:
            return world / self.world
        base = root if root is not None else Path("data")
        places = [base / name for name in self.folders] or [base]
        place = next((place for place in places if place.is_dir()), None)
        if place is None and not must_exist:
            return places[0]
        if place is None:
            how = f"{self.missing}, or add SCALE=demo (--scale demo) to run the same stage on the generated world"
            raise MissingDataError(f"data set {self.name}", places[0].absolute(), how)
        return place

    def videos(
        self, root: str | Path, splits: Iterable[str] | None = None, video_root: str | Path | None = None
    ) -> Found:
        """The videos of some splits (all by default) that are on disk, each id once, and the names of the others.

        Raises:
            MissingDataError: none of the splits, or none of the videos, is there.
        """
        found: dict[str, Video] = {}
        missing, last, read = set(), None, 0
        # a list of videos is one split
        wanted = splits or (self.splits[:1] if Path(root).is_file() else self.splits)
        for split in wanted:
            try:
                present, absent = self.find(Path(root), split, Path(video_root) if video_root is not None else None)
            except MissingDataError as error:
                last = error
                continue
            read += 1
            found |= {video.id: video for video in present if video.id not in found}
            missing.update(absent)
        if not read and last is not None:
            raise last
        if not found:
            how = f"all {len(missing)} are missing: {self.missing}"
            raise MissingDataError(f"videos of {self.name}", Path(video_root or root).absolute(), how)
        names = sorted(found) if self.by_id else found
        return [found[name] for name in names], sorted(missing - found.keys())


DATA_SETS = {
    one.name: one
    for one in (
        DataSet(
            name="k400",
            folders=("k400", "kinetics"),
            world="kinetics",
            missing="put the Kinetics-400 lists (train.csv, val.csv: `path label`) and videos there",
            splits=kinetics.KINETICS_SPLITS,
            find=kinetics.find,
            check=kinetics.check,
            sample=kinetics.sample,
            aliases=("kinetics",),
        ),
        DataSet(
            name="vidsitu",
            folders=("vidsitu",),
            world="vidsitu",
            missing="put VidSitu's split_files/, vinfo_files/, vseg_ann_files/ and videos/ there (see the README)",
            splits=vidsitu.VIDSITU_SPLITS,
            find=vidsitu.find,
            check=vidsitu.check,
            sample=vidsitu.sample,
        ),
        DataSet(
            name="lvu",
            folders=("lvu",),
            world="lvu",
            missing="put LVU's lvu_1.0/ and videos/ there (see the README)",
            splits=lvu.LVU_SPLITS,
            find=lvu.find,
            check=lvu.check,
            sample=lvu.sample,
            by_id=True,
        ),
        DataSet(
            name="shards",
            folders=("shards",),
            world="shards",
            missing="pack videos with `kuleshov pack` and name the folder, or a URL, with --root",
            splits=shards.SHARD_SPLITS,
            find=shards.find,
            check=shards.check,
            sample=shards.sample,
        ),
        DataSet(
            name="folder",
            folders=(),
            world="kinetics/clips",
            missing="name a folder of videos with --root",
            splits=("all",),
            find=folder.find,
            check=folder.check,
            sample=folder.sample,
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
