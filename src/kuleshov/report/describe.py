"""`kuleshov describe`: what the trained hierarchy sees in a movie, event by event."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class EventDescription:
    """One event, from its first to its last second in the movie.

    Attributes:
        verbs: (verb id, probability), best first.
        roles: role -> text, for the best verb; None where the run writes no roles.
        next: (relation, probability) of this event and the next; None for the last and without relations.
    """

    start: float
    end: float
    verbs: list[tuple[str, float]]
    roles: dict[str, str] | None
    next: tuple[str, float] | None

    def __str__(self) -> str:
        named = ", ".join(f"{verb} {chance:.2f}" for verb, chance in self.verbs)
        lines = [f"{_clock(self.start)}-{_clock(self.end)}  {named}"]
        if self.roles:
            lines.append(" " * 13 + "; ".join(f"{role}: {text}" for role, text in self.roles.items()))
        if self.next is not None:
            lines.append(" " * 13 + f"-> next: {self.next[0]} {self.next[1]:.2f}")
        return "\n".join(lines)


@dataclass(frozen=True)
class MovieDescription:
    """A movie's events in order of time."""

    video: Path
    events: list[EventDescription]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"video": str(self.video), "events": [asdict(event) for event in self.events]}

    def __str__(self) -> str:
        return "\n".join(map(str, self.events))


def describe_command(video: Path, run: Path = Path("runs"), verbs: int = 3) -> MovieDescription:
    """Describe a movie event by event: verbs with their probabilities, roles, and how each event leads to the next.

    Reads the networks of a finished run (row `pretrained`, seed 0) and any video of two seconds or more.

    Args:
        video: any video file
        run: a run of `summary`, or the folder of all runs (its newest one)
        verbs: verbs an event

    Raises:
        VideoError: the video cannot be read, or is shorter than an event.
        KuleshovError: the run, or a network of it, is not there.
    """
    from kuleshov.report.hierarchy import EVENT_SECONDS, event_features, load_hierarchy, relate_neighbors, write_roles

    hierarchy = load_hierarchy(run)
    for name in ("relations", "roles"):
        if getattr(hierarchy, name) is None:
            print(f"the run leads to no train-{name}: {name} are left out", file=sys.stderr)
    events = event_features(Path(video), hierarchy)
    named = hierarchy.verbs.name_events(events, max(1, verbs))
    best = [ranked[0][0] for ranked in named]
    roles = write_roles(hierarchy.roles, events, best) if hierarchy.roles is not None else [None] * len(events)
    related = relate_neighbors(hierarchy.relations, events) if hierarchy.relations is not None else []
    related += [None] * (len(events) - len(related))
    described = [
        EventDescription(EVENT_SECONDS * i, EVENT_SECONDS * (i + 1), *facts)
        for i, facts in enumerate(zip(named, roles, related, strict=True))
    ]
    return MovieDescription(video, described)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
