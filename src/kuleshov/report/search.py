"""`kuleshov search`: the events of a store that are most like one. Importing this module does not import torch."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuleshov.core.devices import Accelerator, device_of
from kuleshov.core.errors import StoreError, UsageError, VideoError, require_positive
from kuleshov.core.files import write_atomic
from kuleshov.features.extract import named_videos
from kuleshov.video.video_file import Video

if TYPE_CHECKING:
    from torch import Tensor

    from kuleshov.features.feature_store import EventStore

FRAMES = 3
SHORT_SIDE = 96


@dataclass(frozen=True)
class Hit:
    """An event, its first and last second in the movie, and its cosine with what was asked for."""

    movie: str
    start: float
    end: float
    cosine: float


@dataclass(frozen=True)
class SearchResult:
    """The events nearest to one, best first; as text, a table.

    Attributes:
        store: folder of the event store.
        like: what was asked for.
        hits: the nearest events, of those that overlap each other the nearest one.
        notes: why frames are not shown.
        page: the page that was written.
    """

    store: str
    like: str
    hits: list[Hit]
    notes: list[str] = field(default_factory=list)
    page: str | None = None

    def __str__(self) -> str:
        width = max([5, *(len(hit.movie) for hit in self.hits)])
        lines = [f"{'movie':{width}}   seconds          cosine"]
        lines += [f"{h.movie:{width}}  {h.start:8.2f} {h.end:8.2f} {h.cosine:7.4f}" for h in self.hits]
        return "\n".join([*lines, *self.notes, *([self.page] if self.page else [])])


@dataclass(frozen=True)
class Query:
    """What is asked for: its feature (D,), the rows of the store that are it, and where it is seen."""

    feature: "Tensor"
    rows: range
    video: Video
    start: float
    end: float


def search(
    store: Path | str,
    like: str,
    count: int = 10,
    other_movies: bool = False,
    weights: Path | str | None = None,
    txe: Path | str | None = None,
    videos: list[Any] | Path | str | None = None,
    data: str | None = None,
    root: Path | str | None = None,
    output: Path | str | None = None,
    index: Path | str | None = None,
    accelerator: Accelerator = "auto",
) -> SearchResult:
    """Find the events whose features are nearest, by cosine: all rows are compared, a chunk at a time.

    The store may hold a backbone's features (`kuleshov extract`) or contextualized ones (`kuleshov contextualize`). The
    event itself, what overlaps it, and events that overlap a nearer one are left out.

    Args:
        store: folder of the event store
        like: MOVIE@SECOND of the store, or FILE@SECOND of a video; without a second, the mean of all its events.
        count: events to show.
        other_movies: only events of other movies than the one asked for.
        weights: for a file: weights of the backbone that made the store.
        txe: for a file and a contextualized store: weights of the TxE that made it.
        videos: the movies' files, folders, globs, or lists: their frames are shown on the page.
        data: instead of videos, a data set, with its folder in root.
        root: the data set's folder.
        output: an HTML page to write, self-contained.
        index: file of a faiss index of the store (an extra), made where it is not there: for very many events; a few of
            the nearest may be missed.
        accelerator: where a file's features are computed.

    Raises:
        StoreError: no store, no such movie or file, or weights that are not those of the store.
        UsageError: a second outside the movie, weights that are needed, or frames without a page.
    """
    from kuleshov.features.faiss_index import FaissIndex
    from kuleshov.features.feature_store import EventStore
    from kuleshov.features.nearest import nearest_rows

    require_positive(count=count)
    like = str(like)
    shown = _videos(videos, data, root, output)
    events = store if isinstance(store, EventStore) else EventStore(store, memory=False)
    query = _query(events, like, weights, txe, accelerator, shown)
    own = events.rows_of(query.video.id) if other_movies and query.rows else query.rows
    # each event that is shown overlaps at most so many others
    beside = 2 * (math.ceil(events.window / events.stride) - 1)
    wanted = (query.feature, count * (1 + beside), own)
    cosines, rows = nearest_rows(events, *wanted) if index is None else FaissIndex(events, index).nearest_rows(*wanted)
    found = SearchResult(str(events.folder), like, _apart(_hits(events, cosines.tolist(), rows.tolist()), count))
    if output is None:
        return found
    return _write_page(output, found, query, shown)


def _videos(
    videos: list[Any] | Path | str | None, data: str | None, root: Path | str | None, output: Path | str | None
) -> dict[str, Video]:
    if videos is None and data is None:
        return {}
    if output is None:
        raise UsageError("frames are shown on a page: name it with --output PAGE.html")
    return {video.id: video for video in named_videos(videos, data, root)[0]}


def _query(
    store: "EventStore",
    like: str,
    weights: Path | str | None,
    txe: Path | str | None,
    accelerator: Accelerator,
    shown: dict[str, Video],
) -> Query:
    name, second = _place(store, like)
    if name in store:
        features, rows, start = store.events(name), store.rows_of(name), store.place(name).start
        video = shown.get(name, Video(name, Path()))
    elif Path(name).is_file():
        features, rows, start = _features_of(Path(name), store, weights, txe, accelerator), range(0), 0.0
        video = Video(Path(name).name, Path(name))
    else:
        raise StoreError(f"{name!r} is no movie of {store.folder} ({len(store)} movies), and no file: check --like")
    end = start + (len(features) - 1) * store.stride + store.window
    if second is None:
        return Query(features.mean(0), rows, video, start, end)
    if not start <= second <= end:
        raise UsageError(f"--like {like}: the events of {name} are from {start:g} to {end:g} s")
    # the event that has this second nearest to its middle
    event = min(max(round((second - start - store.window / 2) / store.stride), 0), len(features) - 1)
    reach = math.ceil(store.window / store.stride) - 1
    overlapping = rows[max(0, event - reach) : event + reach + 1]
    begin = start + event * store.stride
    return Query(features[event], overlapping, video, begin, begin + store.window)


def _place(store: "EventStore", like: str) -> tuple[str, float | None]:
    """A name and a second; a movie or file may have an @ in its name."""
    name, _, text = like.rpartition("@")
    try:
        second = float(text)
    except ValueError:
        return like, None
    return (like, None) if not name or like in store or Path(like).is_file() else (name, second)


def _features_of(
    path: Path, store: "EventStore", weights: Path | str | None, txe: Path | str | None, accelerator: Accelerator
) -> "Tensor":
    """A file's event features (n, D), made as those of the store were."""
    import torch

    from kuleshov.backbones import load_backbone
    from kuleshov.features.clip_encoding import extract_movies
    from kuleshov.features.feature_store import grid_step
    from kuleshov.features.movie_clips import Grid
    from kuleshov.txe.contextualizer import encode_long
    from kuleshov.txe.encoder import load
    from kuleshov.video.clip_format import ClipFormat

    made, device = store.manifest.get("contextualized"), device_of(accelerator)
    backbone = (made or store.manifest).get("backbone") or {}
    network = load_backbone(_same(store, "weights", weights, backbone.get("sha256")))
    network.clip = ClipFormat.from_dict(backbone["clip"])
    movie = Video(path.name, path)
    grid = Grid(store.window, store.stride, {})
    ((_, features, _),) = extract_movies(network, grid, 8, 1, "auto", [movie], device)
    if isinstance(features, str):
        raise VideoError(path, features)
    if not made:
        return features
    context = load(_same(store, "txe", txe, made["txe_sha256"])).to(device)
    step = grid_step(store, made["token_stride"])
    with torch.inference_mode():
        return encode_long(context, features.unsqueeze(0).to(device), step, made["windows"])[0].cpu()


def _same(store: "EventStore", option: str, path: Path | str | None, sha256: str | None) -> Path | str:
    """The weights' path, where they are those that made the store."""
    from kuleshov.core.weights import load_weights

    if sha256 is None:
        raise StoreError(f"{store.folder} does not say what made its features: only its own events can be searched for")
    if path is None:
        raise UsageError(f"a file needs --{option}: the weights {sha256[:8]}..., which made {store.folder}")
    found = load_weights(path)[1]["sha256"]
    if found != sha256:
        raise StoreError(f"{path} ({found[:8]}...) did not make {store.folder}, which is of {sha256[:8]}...")
    return path


def _hits(store: "EventStore", cosines: list[float], rows: list[int]) -> list[Hit]:
    import numpy as np

    movies = np.searchsorted(store.offsets.numpy(), rows, side="right") - 1
    found = []
    for cosine, row, number in zip(cosines, rows, movies, strict=True):
        movie = store.movie_ids[number]
        start = store.place(movie).start + (row - int(store.offsets[number])) * store.stride
        found.append(Hit(movie, start, start + store.window, cosine))
    return found


def _apart(hits: list[Hit], count: int) -> list[Hit]:
    """The first hits that do not overlap an earlier one."""
    kept: list[Hit] = []
    for hit in hits:
        if not any(hit.movie == one.movie and hit.start < one.end and one.start < hit.end for one in kept):
            kept.append(hit)
    return kept[:count]


def _write_page(path: Path | str, found: SearchResult, query: Query, shown: dict[str, Video]) -> SearchResult:
    from kuleshov.report.page import render

    videos = {**shown, query.video.id: query.video} if query.video.path.name else shown
    notes: list[str] = []
    asked = Hit(query.video.id, query.start, query.end, 1.0)
    cards = [(hit, _frames(hit, videos, notes)) for hit in (asked, *found.hits)]
    without = [hit.movie for hit, frames in cards[1:] if not frames]
    if without and not notes:
        notes = [f"no frames of {len(without)} of {len(found.hits)} events (first {without[0]}): name --videos"]
    found = replace(found, notes=notes, page=str(path))
    title = f"Events like {found.like}"
    write_atomic(path, render("search.html", title=title, found=found, asked=cards[0], cards=cards[1:]))
    return found


def _frames(hit: Hit, videos: dict[str, Video], notes: list[str]) -> list[str]:
    from kuleshov.report.filmstrips import data_uri
    from kuleshov.video.reader import VideoReader

    video = videos.get(hit.movie)
    if video is None:
        return []
    step = (hit.end - hit.start) / FRAMES
    times = [(video.start or 0.0) + hit.start + step * (k + 0.5) for k in range(FRAMES)]
    try:
        return [data_uri(frame) for frame in VideoReader().read(video.path, times, short_side=SHORT_SIDE)]
    except VideoError as error:
        notes.append(str(error))
        return []
