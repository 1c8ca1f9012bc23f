"""A world's truth, written and read back: for the ceiling, the gallery and tests, never for training."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from kuleshov.core.files import read_json, read_json_lines, write_atomic, write_json
from kuleshov.synthetic.grammar import describe
from kuleshov.synthetic.motions import EVENT_SECONDS
from kuleshov.synthetic.story import LVU, SEGMENT_EVENTS, VIDSITU, Story

SEGMENT_SECONDS = EVENT_SECONDS * SEGMENT_EVENTS
_STORIES = Path("truth", "stories.jsonl")


@dataclass(frozen=True)
class TrueSegment:
    """What truly happens in one VidSitu segment: verbs, which of them are off screen, and the style."""

    video: str
    number: int
    verbs: tuple[int, ...]
    off_screen: tuple[bool, ...]
    style: dict[str, int]

    @property
    def id(self) -> str:
        """Its official id."""
        return f"v_{self.video}_seg_{self.number * SEGMENT_SECONDS}_{(self.number + 1) * SEGMENT_SECONDS}"

    @property
    def seen(self) -> tuple[int | None, ...]:
        """The verb of each event on screen, None for the others."""
        return tuple(None if off else verb for verb, off in zip(self.verbs, self.off_screen, strict=True))


def segments_of(story: dict) -> list[TrueSegment]:
    """The segments of one story's record in order; none if it is no VidSitu source."""
    if story["kind"] != VIDSITU:
        return []
    found = []
    for number in range(len(story["events"]) // SEGMENT_EVENTS):
        events = story["events"][number * SEGMENT_EVENTS : (number + 1) * SEGMENT_EVENTS]
        verbs, off_screen = (tuple(event[name] for event in events) for name in ("verb", "off_screen"))
        found.append(TrueSegment(story["id"], number, verbs, off_screen, story["style"]))
    return found


def write_truth(root: Path, movies: list[Story]) -> None:
    """Write `root/truth`: all stories, VidSitu's events off screen, and the grammar."""
    records = [asdict(movie) for movie in movies]
    write_atomic(root / _STORIES, "".join(json.dumps(record, sort_keys=True) + "\n" for record in records))
    hidden = {segment.id: segment.off_screen for record in records for segment in segments_of(record)}
    write_json(root / "truth" / "vidsitu_offscreen.json", hidden, indent=None)
    write_json(root / "truth" / "grammar.json", describe())


def read_stories(root: Path) -> list[dict]:
    """All stories of a world, as their plain records.

    Raises:
        MissingDataError: the world has no `truth/stories.jsonl`.
        FormatError: a line of it is broken.
    """
    how = f"make the world with: kuleshov world --root {root} --movies 400 --seed 0"
    return [story for _, story in read_json_lines(Path(root) / _STORIES, "the world's truth", how)]


def read_segments(root: Path, split: str) -> list[TrueSegment]:
    """The segments of a VidSitu split, in the order of its split file."""
    names = read_json(Path(root) / "vidsitu" / "split_files" / f"vseg_split_{split}_lb.json")
    found = {segment.id: segment for story in read_stories(root) for segment in segments_of(story)}
    return [found[name] for name in names]


def event_labels(root: Path) -> dict[str, dict[str, list[int]]]:
    """What truly happens, by LVU movie or VidSitu segment: the labels of its two-second events by name; {} elsewhere.

    Names are `verb`, `person` (who acts), `scene`, `director` and `off_screen` (0 or 1).
    """
    labels: dict[str, dict[str, list[int]]] = {}
    for story in read_stories(root) if (Path(root) / _STORIES).is_file() else []:
        if story["kind"] not in (LVU, VIDSITU):
            continue
        events = story["events"]
        whole = {name: [int(event[name]) for event in events] for name in ("verb", "scene", "off_screen")}
        whole["person"] = [story["cast"][event["agent"]] for event in events]
        whole["director"] = [story["style"]["director"]] * len(events)
        if story["kind"] == LVU:
            labels[story["id"]] = whole
        for segment in segments_of(story):
            part = slice(segment.number * SEGMENT_EVENTS, (segment.number + 1) * SEGMENT_EVENTS)
            labels[segment.id] = {name: values[part] for name, values in whole.items()}
    return labels
