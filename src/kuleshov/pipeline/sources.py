"""Where a data set's files are, and what to do when they are not there."""

from pathlib import Path

from kuleshov.core.errors import MissingDataError

_FOLDERS = {"k400": "kinetics", "kinetics": "kinetics", "vidsitu": "vidsitu", "lvu": "lvu"}
_GET = {
    "k400": "put the Kinetics-400 lists (train.csv, val.csv: `path label`) and videos there",
    "vidsitu": "put VidSitu's split_files/, vinfo_files/, vseg_ann_files/ and videos/ there (see the README)",
    "lvu": "put LVU's lvu_1.0/ and videos/ there (see the README)",
    "folder": "name a folder of videos with --root",
}


def data_root(data: str, root: Path | None, world: Path | None) -> Path:
    """The folder of a data set: in the generated world, under `--root`, or under `data/`.

    Args:
        data: data set's name.
        root: the user's folder of data sets; for `folder` the folder itself.
        world: the generated world's folder, used where no root is given.

    Raises:
        MissingDataError: it is not there; the same command on the generated world is offered.
    """
    if root is None and world is not None:
        return world / _FOLDERS.get(data, "kinetics/clips")
    base = root if root is not None else Path("data")
    place = base if data == "folder" else _first_existing(base, data)
    if not place.is_dir():
        raise MissingDataError(
            f"data set {data}",
            place.absolute(),
            f"{_GET.get(data, 'name its folder with --root')}, or add SCALE=demo (--scale demo) to run "
            "the same stage on the generated world",
        )
    return place


def _first_existing(base: Path, data: str) -> Path:
    names = [data, _FOLDERS.get(data, data)]
    return next((base / name for name in names if (base / name).is_dir()), base / data)
