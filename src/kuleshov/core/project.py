"""Where stages/ and configs/ are looked for: a project's own folders first, then those that come with the package."""

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# a wheel holds them in the package, a checkout beside src/
SHIPPED = next(folder for folder in (_PACKAGE / "project", _PACKAGE.parents[1]) if folder.is_dir())


def find_file(relative: str, project: Path) -> Path | None:
    """A file of a project, or else of those that come with the package; None where neither has it."""
    return next((folder / relative for folder in (project, SHIPPED) if os.path.isfile(folder / relative)), None)


def find_config(name: str, project: Path) -> Path | None:
    """A configuration by its path, or by its name below configs/, with or without its ending: `train-verbs/verbs`."""
    places = [f"{folder}{name}{ending}" for ending in ("", ".yaml") for folder in ("", "configs/")]
    return next((path for place in places if (path := find_file(place, project)) is not None), None)


def find_configs(words: list[str]) -> list[str]:
    """A command line whose configurations that are no files here are those that `find_config` finds; it says which."""
    found = list(words)
    for place, (before, word) in enumerate(zip(["", *words], words, strict=False)):
        option, equals, value = word.partition("=") if before not in ("-c", "--config") else (before, "", word)
        if option not in ("-c", "--config") or not value or os.path.isfile(value):
            continue
        path = find_config(value, Path())
        if path is not None:
            print(f"configuration {value}: {path}", file=sys.stderr)
            found[place] = f"{option}={path}" if equals else str(path)
    return found
