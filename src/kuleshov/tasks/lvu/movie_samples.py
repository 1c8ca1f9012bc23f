"""A movie's tokens and the samples made of them: one random span, two for a pair, or all spans.

A sample is a dict of arrays; `collate` joins samples to a batch of tensors. B movies, S spans of all of them,
L events of the longest slice, E events of the fullest span, T instances of the fullest span, R instances of
all movies, D and F the features' widths:

    place (B,)  label (B,)          the movie's number in its split, and its label
    movie (S,)  turn (S,)           movie of each span, and its number among the movie's spans
    events (B, L, D)  length (B,)   event features, as a slice that holds all spans and a margin
    event_first (S,)  event_count (S,)   the span's events in the slice
    event_ids (S, E, 3)             time ids
    features (R, F)                 region features
    row (S, T)                      row in `features`, -1 for padding
    boxes (S, T, 5)                 x1, y1, x2, y2, area
    ids (S, T, 7)                   time, shot and track ids
    chosen (S, T)  action (S, T)  other (S, T)   masking; `other` is a row in `features`
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kuleshov.features.feature_store import EventStore, InstanceStore
from kuleshov.tasks.lvu import spans

Sample = dict[str, Any]
TABLE = 258  # size of the Object Transformer's id tables
# what is padded, a value each: arrays (t, ...), one a span
PADDED = {"event_ids": spans.PADDING, "row": -1, "other": 0, "boxes": 0, "ids": spans.PADDING, "chosen": 0, "action": 0}
NO_SECONDS: NDArray = np.zeros(0, dtype=np.int64)
NO_INSTANCES = dict.fromkeys(("seconds", "tracks", "shots"), NO_SECONDS) | {"boxes": np.zeros((0, 4), np.float32)}


@dataclass
class MovieTokens:
    """One movie's tokens without their features."""

    id: str
    label: float  # class id or centered value; 0 where there is none
    event_rows: range  # its rows in the event features, in order; empty without events
    event_seconds: NDArray  # (L,) second of each event's center, ascending
    instances: dict[str, NDArray]  # boxes (I, 4), seconds (I,), ascending, tracks (I,) and shots (I,)
    ends: NDArray  # last seconds of all its spans


def open_movie(
    movie_id: str, label: float, events: EventStore | None, instances: InstanceStore | None, span: int, span_step: int
) -> MovieTokens | None:
    """Gather a movie's tokens; None if a store that was asked for has nothing of it.

    With both stores a movie needs events; it may lack instances.
    """
    rows, seconds, boxes = range(0), NO_SECONDS, NO_INSTANCES
    if events is not None:
        if movie_id not in events:
            return None
        rows = events.rows_of(movie_id)
        centers = np.array(events.times(movie_id)) + events.window / 2
        seconds = np.floor(centers + 1e-6).astype(np.int64)
    if instances is not None and instances.count(movie_id):
        boxes = instances.columns(movie_id)
    everything = np.concatenate([seconds, boxes["seconds"]])
    if not len(everything):
        return None
    return MovieTokens(movie_id, label, rows, seconds, boxes, spans.span_ends(everything, span, span_step))


class SampleMaker:
    """Makes samples of movies.

    Args:
        events: (M, D) all event features, or None.
        instances: the instance store, or None.
        span, limit: seconds of a span, and most instances in it.
        margin: events to both sides of a slice, so that sliding context is the same as in the whole movie.
        mask_share, mask_draws: see `spans.mask_tracks`; a share of 0 masks nothing.
    """

    def __init__(
        self,
        events: Tensor | None,
        instances: InstanceStore | None,
        span: int = 60,
        limit: int = 254,
        margin: int = 0,
        mask_share: float = 0.0,
        mask_draws: int = 1,
    ) -> None:
        self.events, self.instances = events, instances
        self.span, self.limit, self.margin = span, limit, margin
        self.mask_share, self.mask_draws = mask_share, mask_draws

    def __call__(
        self, movie: MovieTokens, ends: NDArray, rng: np.random.Generator | None, augment: bool, place: int = 0
    ) -> Sample:
        """A sample of the spans of a movie that end at the seconds `ends` (S,).

        `rng` is for what is drawn, None draws nothing; `augment` jitters boxes and permutes track ids.
        """
        seconds, boxed = movie.event_seconds, movie.instances["seconds"]
        first = np.searchsorted(seconds, ends - self.span + 1, "left")
        last = np.searchsorted(seconds, ends, "right")
        kept = [spans.tokens_inside(boxed, int(end), self.span, self.limit) for end in ends]
        bounds = []  # earliest and latest second of each span's tokens
        for end, a, b, numbers in zip(ends, first, last, kept, strict=True):
            inside = np.concatenate([seconds[a:b], boxed[numbers]])
            bounds.append((int(inside.min()), int(inside.max())) if len(inside) else (int(end), int(end)))
        sample: Sample = {"place": place, "label": movie.label, "spans": len(ends)}
        if self.events is not None:
            begin, stop = max(0, int(first.min()) - self.margin), min(len(seconds), int(last.max()) + self.margin)
            row = movie.event_rows.start
            sample["events"] = self.events[row + begin : row + stop].float()
            sample["event_first"], sample["event_count"] = first - begin, last - first
            parts = zip(first, last, bounds, strict=True)
            sample["event_ids"] = [spans.time_ids(seconds[a:b], *bound, TABLE) for a, b, bound in parts]
        if self.instances is not None:
            sample |= self._instance_part(movie, kept, bounds, rng, augment)
        return sample

    def _instance_part(
        self,
        movie: MovieTokens,
        kept: list[NDArray],
        bounds: list[tuple[int, int]],
        rng: np.random.Generator | None,
        augment: bool,
    ) -> Sample:
        used = np.unique(np.concatenate(kept))
        names = ("row", "boxes", "ids", "chosen", "action", "other")
        sample: Sample = {"features": torch.zeros(0, self.instances.width), **{name: [] for name in names}}
        if len(used):
            sample["features"] = torch.from_numpy(self.instances.features(movie.id)[used])
        for numbers, (low, high) in zip(kept, bounds, strict=True):
            columns = (movie.instances[name][numbers] for name in ("seconds", "boxes", "tracks", "shots"))
            seconds, boxes, tracks, shots = columns
            row = np.searchsorted(used, numbers)
            chosen, action, other = spans.mask_tracks(tracks, rng, self.mask_share, self.mask_draws)
            if augment and rng is not None:
                boxes = spans.jitter_boxes(boxes, rng)
            times = spans.time_ids(seconds, low, high, TABLE)
            shots = spans.shot_ids(shots, seconds, (high + low) // 2, TABLE)
            tracks = spans.track_ids(tracks, rng if augment else None)
            ids = np.concatenate([times, shots, tracks[:, None]], axis=1)  # in the order of spans.ID_NAMES
            made = (row, spans.with_area(boxes), ids, chosen, action, row[other])
            for name, value in zip(names, made, strict=True):
                sample[name].append(value)
        return sample


def collate(samples: list[Sample]) -> dict[str, Tensor]:
    """Join samples to a batch, see the top of this file."""
    counts = [sample["spans"] for sample in samples]
    batch = {
        "place": torch.tensor([sample["place"] for sample in samples]),
        "label": torch.tensor([sample["label"] for sample in samples]),
        "movie": torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(counts)),
        "turn": torch.cat([torch.arange(count) for count in counts]),
    }
    if "events" in samples[0]:
        events = [sample["events"] for sample in samples]
        batch["events"] = pad_sequence(events, batch_first=True)
        batch["length"] = torch.tensor([len(part) for part in events])
        for name in ("event_first", "event_count"):
            batch[name] = torch.from_numpy(np.concatenate([sample[name] for sample in samples]))
    if "features" in samples[0]:
        batch["features"] = torch.cat([sample["features"] for sample in samples])
    first = np.cumsum([0] + [len(sample.get("features", ())) for sample in samples])
    for name, value in PADDED.items():
        if name in samples[0]:
            parts = [(part, start) for sample, start in zip(samples, first, strict=False) for part in sample[name]]
            moved = [torch.from_numpy(part + start if name in ("row", "other") else part) for part, start in parts]
            batch[name] = pad_sequence(moved, batch_first=True, padding_value=value)
    return batch
