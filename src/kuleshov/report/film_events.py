"""The features of a film's events: from a store that has them, else from its frames, past what is damaged."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kuleshov.core.errors import StoreError, VideoError
from kuleshov.features.clip_encoding import encode
from kuleshov.features.extract import backbone_facts
from kuleshov.features.feature_store import EventStore, grid_step
from kuleshov.features.movie_clips import EventPlan, Grid, MovieClip, framed
from kuleshov.report.hierarchy import Hierarchy
from kuleshov.txe.window_data import EVENT_SECONDS
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.reader import VideoReader
from kuleshov.video.video_file import Video

BATCH = 16
# events in a row that damage may take before the rest of the film is given up, a minute
MOST_LOST = 30
GRID = Grid(EVENT_SECONDS, EVENT_SECONDS, {})


@dataclass(frozen=True)
class FilmEvents:
    """A film's events, side by side.

    Attributes:
        features: number of the event -> (D,), in order; without those that are lost.
        lost: number of the event -> why.
        remark: in what the file falls short.
    """

    features: dict[int, Tensor]
    lost: dict[int, str] = field(default_factory=dict)
    remark: str = ""

    def stretches(self) -> Iterator[tuple[list[int], Tensor]]:
        """Runs of events without a gap: their numbers, and features (n, D)."""
        numbers = list(self.features)
        breaks = [i for i in range(1, len(numbers)) if numbers[i] != numbers[i - 1] + 1]
        for first, last in zip([0, *breaks], [*breaks, len(numbers)], strict=True):
            chosen = numbers[first:last]
            yield chosen, torch.stack([self.features[number] for number in chosen])


def open_store(folder: str, hierarchy: Hierarchy) -> EventStore:
    """A store of features that the hierarchy's own backbone has made.

    Raises:
        StoreError: another backbone made them, other frames, or events of another length.
    """
    store, own = EventStore(folder, memory=False), backbone_facts(hierarchy.backbone)
    made = store.manifest.get("backbone") or {}
    if made.get("sha256") != own["sha256"]:
        raise StoreError(f"{folder} was made by another backbone than the run's: extract again with the run's weights")
    known = ClipFormat.from_dict(made["clip"]).to_dict()
    differ = [
        f"{name} is {known[name]}, the run's {value}" for name, value in own["clip"].items() if known[name] != value
    ]
    if differ:
        raise StoreError(
            f"{folder} has other clips than the run ({'; '.join(differ)}): extract again, with --framing too"
        )
    if store.window != EVENT_SECONDS:
        raise StoreError(f"{folder} has events of {store.window} s, {EVENT_SECONDS} s are described: extract again")
    grid_step(store, EVENT_SECONDS)
    return store


def _same_file(store: EventStore, video: Video) -> bool:
    size = store.manifest.get("bytes", {}).get(video.id)
    return size is None or size == video.path.stat().st_size


def film_events(video: Video, hierarchy: Hierarchy, store: EventStore | None = None) -> FilmEvents:
    """The features of a film's events, on the CPU.

    Raises:
        VideoError: the file cannot be opened, is shorter than an event, or no event of it can be decoded.
    """
    if store is not None and video.id in store and _same_file(store, video):
        rows = store.events(video.id)[:: grid_step(store, EVENT_SECONDS)]
        return FilmEvents(dict(enumerate(rows)), remark=(store.manifest.get("remarks") or {}).get(video.id, ""))
    reader, clip, lost = VideoReader(), hierarchy.backbone.clip, {}
    plan = EventPlan.of(video, GRID, reader)
    # every event on its own, as which of them are lost is known at the end only
    events = (
        MovieClip(Video(str(number), video.path), 0, 1, framed(frames, clip))
        for number, frames in whole_events(video, plan, clip, reader, lost)
    )
    device = next(hierarchy.backbone.parameters()).device
    found = {int(one.id): rows[0] for one, rows in encode(events, hierarchy.backbone, clip, BATCH, device)}
    if not found:
        raise VideoError(video.path, next(iter(lost.values())))
    return FilmEvents(found, lost, plan.remark)


def whole_events(
    video: Video, plan: EventPlan, clip: ClipFormat, reader: VideoReader, lost: dict[int, str]
) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers and frames (T, H, W, 3) of the events that can be decoded; the others' reasons are put into `lost`.

    Behind damage the file is opened again, and read on from the key frame before the next event.
    """
    event, last_whole = 0, -1
    while event < plan.events:
        windows = (plan.times(number, GRID, clip) for number in range(event, plan.events))
        try:
            for _, frames in reader.stream(video.path, windows, clip.decoded_side):
                yield event, frames
                last_whole, event = event, event + 1
        except VideoError as error:
            given_up = event - last_whole > MOST_LOST
            lost |= dict.fromkeys(range(event, plan.events if given_up else event + 1), error.reason)
            event = plan.events if given_up else event + 1
