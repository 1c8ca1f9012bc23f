"""`kuleshov check`: what of a data set is there, readable, and overlapping with another."""

import inspect
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kuleshov.core.errors import UsageError, require_workers
from kuleshov.datasets.registry import data_set

_WIDTH = 200


@dataclass(frozen=True)
class CheckResult:
    """What a data set's `check` found.

    Attributes:
        found: all of it, as plain values; of these, `table` is a list of records and `notes` one of lines.
    """

    found: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All that was found."""
        return self.found

    def __str__(self) -> str:
        """The table and the notes."""
        columns = list(dict.fromkeys(column for record in self.found["table"] for column in record))
        table = Table(box=box.HEAVY_HEAD)
        for number, column in enumerate(columns):
            table.add_column(escape(column.replace("_", " ")), justify="right" if number else "left")
        for record in self.found["table"]:
            values = [record.get(column, "") for column in columns]
            table.add_row(*(escape(f"{value:.2f}" if isinstance(value, float) else str(value)) for value in values))
        text = io.StringIO()
        Console(file=text, width=_WIDTH).print(table)
        return "\n".join([text.getvalue().rstrip("\n"), *self.found["notes"]])


def check_command(
    data: str,
    root: Path,
    against: list[str] | None = None,
    videos: Path | None = None,
    write_split: Path | None = None,
    least_seconds: float = 2.0,
    workers: int = 2,
) -> CheckResult:
    """Check a data set: what is there, what can be read, what it shares with another.

    `kuleshov check vidsitu --root VIDSITU --against lvu=LVU --write-split valid_without_lvu.json` finds the source
    videos that VidSitu's valid split shares with LVU and writes the segments that remain.

    Args:
        data: data set: k400, vidsitu, lvu, shards or folder.
        root: its folder.
        against: NAME=DIR, other data sets: lvu or vidsitu (vidsitu).
        videos: folder of the videos, where it is not the data set's own.
        write_split: file for the segments that are not shared (vidsitu).
        least_seconds: shorter files are named (k400, shards, folder).
        workers: processes that open files (k400, vidsitu, shards, folder).

    Raises:
        UsageError: an argument that the data set does not take.
        KuleshovError: the data set is not there, or broken.
    """
    require_workers(workers)
    entry, others = data_set(data), {}
    for word in against or []:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder):
            raise UsageError(f"--against takes NAME=DIR, such as lvu=data/lvu, not {word!r}")
        others[name] = folder
    asked = {"against": others or None, "videos": videos, "write_split": write_split}
    options = {name: value for name, value in asked.items() if value is not None}
    taken = inspect.signature(entry.check).parameters
    refused = [f"--{name.replace('_', '-')}" for name in options if name not in taken]
    if refused:
        raise UsageError(f"data set {entry.name} does not take {' or '.join(refused)}")
    defaults = {"least_seconds": least_seconds, "workers": workers}
    options |= {name: value for name, value in defaults.items() if name in taken}
    return CheckResult(entry.check(root, **options))
