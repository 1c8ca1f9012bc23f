"""Where stages/ and configs/ are looked for: a project's own folders first, then those that come with the package."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# a wheel holds them in the package, a checkout beside src/
SHIPPED = next(folder for folder in (_PACKAGE / "project", _PACKAGE.parents[1]) if folder.is_dir())


def find_file(relative: str, project: Path) -> Path | None:
    """A file of a project, or else of those that come with the package; None where neither has it."""
    return next((folder / relative for folder in (project, SHIPPED) if (folder / relative).is_file()), None)


def find_config(name: str, project: Path) -> Path | None:
    """A configuration by its path, or by its name below configs/, with or without its ending: `train-verbs/verbs`."""
    places = [f"{folder}{name}{ending}" for ending in ("", ".yaml") for folder in ("", "configs/")]
    return next((path for place in places if (path := find_file(place, project)) is not None), None)
