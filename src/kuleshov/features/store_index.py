"""How features lie on disk: a folder of parts, an index and a manifest. Importing this module does not import torch.

    part-00000.safetensors   named columns of the movies' rows, one movie after another: `features` (R, D), and of
                             instances `boxes` (R, 4), `seconds`, `tracks`, `shots` and `scores` (R,)
    index.json               format, kind, width, dtype, window and stride in seconds; parts with their sha256;
                             movie id -> part, first row, number of rows, start in seconds
    manifest.json            backbone, decoder, trim; n of N movies, why any is missing, whether that is all of them;
                             remarks on movies whose files fall short
    pending/                 movies that are done but not packed yet; gone from a finished store

Event i of a movie spans [start + i * stride, start + i * stride + window] seconds of it.
"""

import math
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from kuleshov.core.errors import FormatError, StoreError
from kuleshov.core.files import read_json, write_json

FORMAT = 2
INDEX, MANIFEST, PENDING = "index.json", "manifest.json", "pending"
Dtype = Literal["fp32", "fp16", "bf16"]
# columns beside the features, and the command that makes such a store
COLUMNS = {"events": (), "instances": ("boxes", "seconds", "tracks", "shots", "scores")}
COMMANDS = {"events": "kuleshov extract", "instances": "kuleshov instances"}
SHOWN_REASONS = 5


@dataclass(frozen=True)
class Part:
    """One file: its number of rows, and the sha256 of its bytes."""

    rows: int
    sha256: str


@dataclass(frozen=True)
class StoredMovie:
    """Where a movie's rows are: part, first row in it, how many, beginning of the first event in seconds."""

    part: str
    row: int
    rows: int
    start: float


@dataclass
class Index:
    """The content of index.json; `movies` in the order in which the parts hold them."""

    kind: str
    width: int
    dtype: Dtype
    window: float | None
    stride: float | None
    parts: dict[str, Part] = field(default_factory=dict)
    movies: dict[str, StoredMovie] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """What a command wrote.

    Attributes:
        output: where.
        kind: what a row is: events, instances or boxes.
        rows: how many, of `movies` movies `of` those asked for, now or before.
        missing: {"id", "reason"} of each movie that was asked for and has no rows.
        remarks: movie id -> in what its file falls short.
    """

    output: str
    kind: str
    rows: int
    movies: int
    of: int
    missing: list[dict[str, str]]
    remarks: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_store(cls, folder: str | Path, manifest: dict[str, Any]) -> "Summary":
        """From the manifest that `StoreWriter.finish` returns."""
        return cls(
            str(folder), **{name: manifest[name] for name in ("kind", "rows", "movies", "of", "missing", "remarks")}
        )

    def __str__(self) -> str:
        lines = [f"{self.rows} {self.kind} of {self.movies} of {self.of} movies in {self.output}"]
        lines += _first([f"left out {one['id']}: {one['reason']}" for one in self.missing])
        lines += _first([f"{name}: {remark}" for name, remark in self.remarks.items()])
        return "\n".join(lines)


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN_REASONS
    return [*lines[:SHOWN_REASONS], *([f"and {more} more"] if more > 0 else [])]


def event_count(duration: float, window: float, stride: float) -> int:
    """Number of whole windows in a movie: floor((duration - window) / stride) + 1, 0 where it is too short.

    A thousandth of a second is forgiven: durations are rounded to frames.
    """
    return int((duration - window + 1e-3) // stride) + 1 if duration + 1e-3 >= window else 0


def write_index(folder: Path, index: Index) -> None:
    """Write index.json by an atomic rename."""
    write_json(folder / INDEX, {"format": FORMAT, **asdict(index)}, indent=None)


def read_index(folder: Path, kind: str) -> Index:
    """Read index.json of a store of events or of instances.

    Raises:
        StoreError: no store there, an unfinished one, one of another kind, or an index of another format.
    """
    path = folder / INDEX
    if not os.path.isfile(path):
        if (folder / PENDING).is_dir():
            raise StoreError(f"{folder} is an unfinished store: run the same command again to go on")
        raise StoreError(f"no store of {kind} at {folder.absolute()}: make one with `{COMMANDS[kind]}`")
    raw = read_json(path, expected=dict)
    found = raw.get("format")
    if found != FORMAT:
        raise StoreError(f"{path} has format {found}, this version reads {FORMAT}: extract again")
    try:
        parts = {name: _checked(Part(**value)) for name, value in raw.pop("parts").items()}
        movies = {name: _checked(StoredMovie(**value)) for name, value in raw.pop("movies").items()}
        # JSON is written with sorted keys: the order of the rows is the order of the movies
        movies = dict(sorted(movies.items(), key=lambda item: (item[1].part, item[1].row)))
        del raw["format"]
        index = _checked(Index(**raw, parts=parts, movies=movies))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} lacks a field or has a wrong one ({error}): extract again") from error
    if index.kind != kind:
        raise StoreError(f"{folder} is a store of {index.kind}, one of {kind} was asked for: name another folder")
    for name in parts:
        if Path(name).name != name:
            raise StoreError(f"{path} names the part {name!r}, which lies outside the store: extract again")
    for name, movie in movies.items():
        rows = parts[movie.part].rows if movie.part in parts else 0
        if movie.row < 0 or movie.rows < 1 or movie.row + movie.rows > rows:
            raise StoreError(f"{path}: movie {name} is outside the {rows} rows of {movie.part}: extract again")
    return index


def _checked(record: Any) -> Any:
    """The record, where all its fields are of their types and in range; else a ValueError names the first wrong one."""
    events = getattr(record, "kind", "events") == "events"
    for name, value in vars(record).items():
        if name in ("window", "stride"):
            right = 0 < value < math.inf if events else value is None
        elif name in ("width", "rows", "row"):
            right = type(value) is int and value >= (name == "width")
        elif name == "start":
            right = -math.inf < value < math.inf
        elif name == "dtype":
            right = value in get_args(Dtype)
        else:
            right = isinstance(value, str | dict)
        if not right:
            raise ValueError(f"{name} is {value!r}")
    return record


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read manifest.json, {} where there is none; a `backbone` of another form is refused."""
    manifest = read_json(folder / MANIFEST, expected=dict) if (folder / MANIFEST).is_file() else {}
    if not isinstance(manifest.get("backbone") or {}, dict):
        raise FormatError(folder / MANIFEST, "holds no fields by name: extract again", field="backbone")
    return manifest
