"""How event features lie on disk: a folder of parts, an index and a manifest.

    part-00000.safetensors   one tensor `features` (rows, D), the movies' events one after another
    index.json               format, width, dtype, window and stride in seconds; parts with their sha256;
                             movie id -> part, first row, number of events, start in seconds
    manifest.json            backbone, decoder, trim, completeness: n of N movies and why any is missing
    pending/                 movies that are done but not packed yet; gone from a finished store

A movie's event i spans [start + i * stride, start + i * stride + window] seconds of it.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kuleshov.core.errors import StoreError
from kuleshov.core.files import read_json, write_json

FORMAT = 1
INDEX, MANIFEST, PENDING = "index.json", "manifest.json", "pending"
PART_BYTES = 256_000_000
Dtype = Literal["fp32", "fp16", "bf16"]
BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True)
class Part:
    """One file of rows: how many, and the sha256 of its bytes."""

    rows: int
    sha256: str


@dataclass(frozen=True)
class Movie:
    """Where a movie's events are: part, first row in it, how many, beginning of the first in seconds."""

    part: str
    row: int
    events: int
    start: float


@dataclass
class Index:
    """The content of index.json; `movies` in the order in which the parts hold them."""

    width: int
    dtype: Dtype
    window: float
    stride: float
    parts: dict[str, Part] = field(default_factory=dict)
    movies: dict[str, Movie] = field(default_factory=dict)


def event_count(duration: float, window: float, stride: float) -> int:
    """Number of whole windows in a movie: floor((duration - window) / stride) + 1, 0 where it is too short.

    A thousandth of a second is forgiven: durations are rounded to frames.
    """
    if duration + 1e-3 < window:
        return 0
    return int((duration - window + 1e-3) // stride) + 1


def part_name(number: int) -> str:
    """The name of a part by its number."""
    return f"part-{number:05d}.safetensors"


def write_index(folder: Path, index: Index) -> None:
    """Write index.json by an atomic rename."""
    raw = {"format": FORMAT, **asdict(index)}
    write_json(folder / INDEX, raw, indent=None)


def read_index(folder: Path) -> Index:
    """Read index.json.

    Raises:
        StoreError: no store there, an unfinished one, or an index of another format.
    """
    path = folder / INDEX
    if not path.is_file():
        if (folder / PENDING).is_dir():
            raise StoreError(f"{folder} is an unfinished store: run the same extraction again to go on")
        raise StoreError(f"no event store at {folder.absolute()}: make one with `kuleshov extract`")
    raw: dict[str, Any] = read_json(path)
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        found = raw.get("format") if isinstance(raw, dict) else None
        raise StoreError(f"{path} has format {found}, this version reads {FORMAT}: extract again")
    try:
        parts = {name: Part(**value) for name, value in raw["parts"].items()}
        movies = {name: Movie(**value) for name, value in raw["movies"].items()}
        index = Index(raw["width"], raw["dtype"], raw["window"], raw["stride"], parts, movies)
    except (KeyError, TypeError) as error:
        raise StoreError(f"{path} lacks a field or has one too many ({error}): extract again") from error
    # JSON is written with sorted keys: the order of the rows is the order of the movies
    index.movies = dict(sorted(movies.items(), key=lambda item: (item[1].part, item[1].row)))
    for name, movie in index.movies.items():
        part = parts.get(movie.part)
        if part is None:
            raise StoreError(f"{path}: movie {name} is in {movie.part}, which the index does not list")
        if movie.row < 0 or movie.events < 1 or movie.row + movie.events > part.rows:
            raise StoreError(f"{path}: movie {name} is outside {movie.part}'s {part.rows} rows")
    return index


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read manifest.json, {} where there is none."""
    path = folder / MANIFEST
    return read_json(path) if path.is_file() else {}
