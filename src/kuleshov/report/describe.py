"""What the trained hierarchy sees in a movie, event by event."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kuleshov.datasets.vidsitu_format import EVENTS, RELATIONS
from kuleshov.features.clip_encoding import encode
from kuleshov.features.movie_clips import Grid, movie_clips
from kuleshov.report.hierarchy import Hierarchy
from kuleshov.tasks.relations.events import RelationsFromEvents
from kuleshov.tasks.roles.module import RolesFromEvents
from kuleshov.video.reader import VideoReader
from kuleshov.video.video_file import Video

EVENT_SECONDS = 2.0
WINDOW = len(EVENTS)
BATCH = 16


@dataclass(frozen=True)
class EventDescription:
    """One event.

    Attributes:
        start: its first second in the movie.
        end: its last.
        verbs: (verb id, probability), best first.
        roles: role -> text, for the best verb; None where the run writes no roles.
        next: (relation, probability) of this event and the next; None for the last and without relations.
    """

    start: float
    end: float
    verbs: list[tuple[str, float]]
    roles: dict[str, str] | None
    next: tuple[str, float] | None


def describe(video: str | Path, hierarchy: Hierarchy, verbs: int = 3) -> list[EventDescription]:
    """Describe every two-second event of a movie, in order of time.

    Args:
        video: the file.
        hierarchy: trained networks.
        verbs: verbs an event.

    Raises:
        VideoError: it cannot be read, or is shorter than an event.
    """
    events = event_features(video, hierarchy)
    named = hierarchy.verbs.name_events(events, verbs)
    best = [ranked[0][0] for ranked in named]
    roles = write_roles(hierarchy.roles, events, best) if hierarchy.roles is not None else [None] * len(events)
    related = relate_neighbors(hierarchy.relations, events) if hierarchy.relations is not None else []
    related += [None] * (len(events) - len(related))
    return [
        EventDescription(EVENT_SECONDS * i, EVENT_SECONDS * (i + 1), *facts)
        for i, facts in enumerate(zip(named, roles, related, strict=True))
    ]


@torch.inference_mode()
def event_features(video: str | Path, hierarchy: Hierarchy) -> Tensor:
    """The backbone's features of a movie's events, float32 (N, D), read in one pass.

    Raises:
        VideoError: it cannot be read, or is shorter than an event.
    """
    movie = Video(Path(video).name, Path(video))
    clip = hierarchy.backbone.clip
    clips = movie_clips(movie, Grid(EVENT_SECONDS, EVENT_SECONDS, {}), clip, VideoReader())
    ((_, features),) = encode(clips, hierarchy.backbone, clip, BATCH, torch.device("cpu"))
    return features


def windows(events: int) -> Iterator[tuple[range, range]]:
    """Windows of five events that cover a movie: (its events, those of them that it speaks for).

    The last window may overlap the one before; a movie of fewer than five events is one window.
    """
    done = 0
    while done < events:
        first = max(0, min(done, events - WINDOW))
        yield range(first, min(first + WINDOW, events)), range(done, min(first + WINDOW, events))
        done = first + WINDOW


def write_roles(network: RolesFromEvents, events: Tensor, verbs: list[str]) -> list[dict[str, str]]:
    """{role: text} of every event (N, D), its verb given."""
    texts: list[dict[str, str]] = []
    for seen, spoken in windows(len(events)):
        written = network.write_roles(events[seen.start : seen.stop], verbs[seen.start : seen.stop])
        texts += written[spoken.start - seen.start :]
    return texts


@torch.inference_mode()
def relate_neighbors(network: RelationsFromEvents, events: Tensor) -> list[tuple[str, float] | None]:
    """The likeliest relation, with its probability, of each event (N, D) and the next: N - 1 of them.

    Each pair is read in the window of five that has it in the middle, as far as the movie's ends allow.
    """
    count, size = len(events), min(WINDOW, len(events))
    if count < 2:
        return []
    framed = events.unfold(0, size, 1).transpose(1, 2)  # (W, size, D)
    projected = network.head.event(network.contextualizer(framed))
    first = torch.arange(count - 1)
    window = (first - WINDOW // 2).clamp(0, len(framed) - 1)
    pairs = torch.cat([projected[window, first - window], projected[window, first + 1 - window]], dim=-1)
    chance, kind = network.head.pair(pairs).softmax(-1).max(-1)
    return [(RELATIONS[k], p) for k, p in zip(kind.tolist(), chance.tolist(), strict=True)]


def as_text(events: list[EventDescription]) -> str:
    """The description for people."""
    lines = []
    for event in events:
        named = ", ".join(f"{verb} {chance:.2f}" for verb, chance in event.verbs)
        lines.append(f"{clock(event.start)}-{clock(event.end)}  {named}")
        if event.roles:
            lines.append(" " * 13 + "; ".join(f"{role}: {text}" for role, text in event.roles.items()))
        if event.next is not None:
            lines.append(" " * 13 + f"-> next: {event.next[0]} {event.next[1]:.2f}")
    return "\n".join(lines)


def clock(seconds: float) -> str:
    """Seconds as minutes:seconds."""
    whole = int(seconds)
    return f"{whole // 60:02d}:{whole % 60:02d}"
