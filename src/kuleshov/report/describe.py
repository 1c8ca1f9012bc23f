"""`kuleshov describe`: what the trained hierarchy sees in films, event by event; imported without torch."""

import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from kuleshov.core.devices import Accelerator, device_of
from kuleshov.core.errors import KuleshovError, UsageError, VideoError, require_positive
from kuleshov.core.files import write_atomic
from kuleshov.core.progress import progress_bar

if TYPE_CHECKING:
    from kuleshov.report.familiarity import Familiarity
    from kuleshov.report.film_events import FilmEvents
    from kuleshov.report.hierarchy import Hierarchy
    from kuleshov.video.video_file import Video

log = logging.getLogger(__name__)
Format = Literal["text", "json", "csv", "srt", "vtt", "elan", "html"]
ENDINGS = {"text": "txt", "elan": "eaf"}
OUTSIDE = "outside what it was trained on"


@dataclass
class EventDescription:
    """One event, from its first to its last second in the film.

    Attributes:
        verbs: (verb id, probability), best first; empty where the event is lost.
        roles: role -> text, for the best verb; None where the run writes no roles.
        next: (relation, probability) of this event and the next; None for the last and without relations.
        surprise: distance, 0 to 2, between what TxE fills in at its place and what is there; None where not known.
        distance: from the nearest event of the training's features; 1 is as far as 99 % of those are from each other.
        alike: (second at which it begins, cosine) of the film's events most like it in their context, best first.
        lost: why nothing is known of it; empty where it could be read.
    """

    start: float
    end: float
    verbs: list[tuple[str, float]] = field(default_factory=list)
    roles: dict[str, str] | None = None
    next: tuple[str, float] | None = None
    surprise: float | None = None
    distance: float | None = None
    alike: list[tuple[float, float]] = field(default_factory=list)
    lost: str = ""

    @property
    def outside(self) -> bool:
        """Whether it lies farther from what was trained on than 99 % of that do from each other."""
        return self.distance is not None and self.distance > 1

    @property
    def said(self) -> bool:
        """Whether what the networks say of it is worth a word: it could be read, and lies within their training."""
        return not self.lost and not self.outside


@dataclass(frozen=True)
class FilmDescription:
    """A film's events in order of time, what the networks were trained on, and in what its file falls short."""

    video: Path
    id: str
    trained_on: str
    events: list[EventDescription]
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        events = [asdict(event) | {"outside": event.outside} for event in self.events]
        return {"video": str(self.video), "trained_on": self.trained_on, "remark": self.remark, "events": events}


@dataclass(frozen=True)
class Descriptions:
    """Some films' descriptions in a format, and (path, reason) of those that could not be read."""

    films: list[FilmDescription]
    format: Format
    written: list[Path]
    left_out: list[tuple[str, str]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        left_out = [{"video": path, "reason": reason} for path, reason in self.left_out]
        return {"films": [film.to_dict() for film in self.films], "left_out": left_out}

    def __str__(self) -> str:
        from kuleshov.report.film_formats import formatted

        return "\n".join(map(str, self.written)) if self.written else formatted(self.films, self.format).rstrip("\n")


def describe_command(
    videos: list[str],
    run: Path = Path("runs"),
    format: Format = "text",
    output: Path | None = None,
    store: str | None = None,
    verbs: int = 3,
    accelerator: Accelerator = "auto",
) -> Descriptions:
    """Describe films event by event: verbs with their probabilities, roles, and how each event leads to the next.

    Reads the networks of a finished run (row `pretrained`, seed 0) and any videos of two seconds or more. Where an
    event lies outside what the networks were trained on, they are not believed. Damage costs the events that it hits;
    a film that cannot be read is named, and the others are described.

    Args:
        videos: files, folders, globs, or .txt/.csv lists of videos
        run: a run of `summary`, or the folder of all runs (its newest one)
        format: text, json, csv, srt and vtt (subtitles), elan (annotations), or html (a page with frames)
        output: file to write, or with several films the folder for one each; null: print (html, and subtitles of
            several films, are always written)
        store: event store of this run's backbone; films that it has are not decoded again
        verbs: verbs an event
        accelerator: where the networks run

    Raises:
        VideoError: the only video cannot be read, or is shorter than an event.
        KuleshovError: the run, or a network of it, is not there; no film could be read.
        UsageError: no videos, or a format that is not printed without output.
    """
    from kuleshov.datasets.folder import find_videos
    from kuleshov.report.hierarchy import load_hierarchy

    require_positive(verbs=verbs)
    if format not in get_args(Format):
        raise UsageError(f"--format is one of {', '.join(get_args(Format))}, not {format!r}")
    output = None if output is None else Path(output)
    if not videos:
        raise UsageError("which films? name files, folders, patterns or lists of videos")
    hierarchy = load_hierarchy(run)
    found = find_videos(videos)
    if output is None and (format == "html" or (format in ("srt", "vtt", "elan") and len(found) > 1)):
        raise UsageError(f"where to write {format}? name a {'folder' if len(found) > 1 else 'file'} with --output")
    for text in hierarchy.lacks():
        print(f"left out, {text}", file=sys.stderr)
    described = Descriptions([], format, [], [])
    with progress_bar("describe", len(found), shown=len(found) > 1) as advance:
        for outcome in films(found, hierarchy.to(device_of(accelerator)), store, verbs):
            if isinstance(outcome, VideoError):
                if len(found) == 1:
                    raise outcome
                log.warning("%s", outcome)
                described.left_out.append((outcome.path, outcome.reason))
            else:
                described.films.append(outcome)
                if output is not None:
                    described.written.append(write(outcome, format, output, several=len(found) > 1))
            advance()
    if not described.films:
        raise KuleshovError(f"none of {len(found)} videos can be read (first {': '.join(described.left_out[0])})")
    return described


def films(
    videos: "list[Video]", hierarchy: "Hierarchy", store: str | None, verbs: int
) -> "Iterator[FilmDescription | VideoError]":
    """Each video's description, or what is wrong with it, as it is asked for."""
    from kuleshov.features.feature_store import EventStore
    from kuleshov.report.familiarity import Familiarity
    from kuleshov.report.film_events import film_events, open_store

    known = open_store(store, hierarchy) if store is not None else None
    familiarity = Familiarity(EventStore(hierarchy.store, memory=False)) if hierarchy.store is not None else None
    for video in videos:
        try:
            events = film_events(video, hierarchy, known)
        except VideoError as error:
            yield error
            continue
        if events.remark:
            log.warning("%s: %s", video.path, events.remark)
        yield description(video, events, hierarchy, familiarity, verbs)


def description(
    video: "Video", events: "FilmEvents", hierarchy: "Hierarchy", familiarity: "Familiarity | None", verbs: int
) -> FilmDescription:
    """What the networks see in a film's events; the events on the two sides of lost ones are no neighbors."""
    import torch

    from kuleshov.report.hierarchy import contextualized, most_alike
    from kuleshov.txe.window_data import EVENT_SECONDS

    count = len(events.features) + len(events.lost)
    described = [
        EventDescription(EVENT_SECONDS * i, EVENT_SECONDS * (i + 1), lost=events.lost.get(i, "")) for i in range(count)
    ]
    device, places, context = next(hierarchy.backbone.parameters()).device, list(events.features), []
    for numbers, features in events.stretches():
        see([described[number] for number in numbers], features.to(device), hierarchy, verbs)
        if familiarity is not None:
            for number, distance in zip(numbers, familiarity(features), strict=True):
                described[number].distance = distance
        if hierarchy.txe is not None:
            context.append(contextualized(hierarchy.txe, features.to(device)))
    if context:
        for number, alike in zip(places, most_alike(torch.cat(context), places), strict=True):
            described[number].alike = [(described[other].start, cosine) for other, cosine in alike]
    return FilmDescription(video.path, video.id, hierarchy.trained_on, described, events.remark)


def see(described: list[EventDescription], features: Any, hierarchy: "Hierarchy", verbs: int) -> None:
    """Put down what the networks see in neighboring events, given their features (N, D)."""
    from kuleshov.report.hierarchy import relate_neighbors, surprise, write_roles

    nothing = [None] * len(described)
    named = hierarchy.verbs.name_events(features, verbs)
    best = [ranked[0][0] for ranked in named]
    roles = write_roles(hierarchy.roles, features, best) if hierarchy.roles is not None else nothing
    related = relate_neighbors(hierarchy.relations, features) if hierarchy.relations is not None else []
    surprises = (surprise(hierarchy.txe, features) if hierarchy.txe is not None else None) or nothing
    for i, event in enumerate(described):
        event.verbs, event.roles, event.surprise = named[i], roles[i], surprises[i]
        event.next = related[i] if i < len(related) else None


def write(film: FilmDescription, format: Format, output: Path, several: bool) -> Path:
    """Write a film's description to the file `output`, or into that folder; returns the path."""
    from kuleshov.report.film_formats import formatted

    inside = several or output.is_dir()
    path = output / f"{film.id}.{ENDINGS.get(format, format)}" if inside else output
    if format == "html":
        from kuleshov.report.film_page import film_page

        write_atomic(path, film_page(film))
    else:
        write_atomic(path, formatted([film], format))
    return path


def clock(seconds: float) -> str:
    """Seconds as mm:ss, or h:mm:ss from an hour on."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"
