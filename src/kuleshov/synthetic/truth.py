"""Reading a world's truth back: for the ceiling, the gallery and tests, never for training."""

import json
from dataclasses import dataclass
from pathlib import Path

from kuleshov.core.errors import FormatError, MissingDataError
from kuleshov.core.files import read_json
from kuleshov.synthetic.annotations import segment_id
from kuleshov.synthetic.sizes import SEGMENT_EVENTS


@dataclass(frozen=True)
class TrueSegment:
    """What truly happens in one VidSitu segment: verbs, which of them are off screen, and the style."""

    id: str
    video: str
    start: int
    verbs: tuple[int, ...]
    off_screen: tuple[bool, ...]
    style: dict[str, int]

    @property
    def seen(self) -> tuple[int | None, ...]:
        """The verb of each event on screen, None for the others."""
        return tuple(None if off else verb for verb, off in zip(self.verbs, self.off_screen, strict=True))


def read_stories(root: Path) -> list[dict]:
    """All stories of a world, as their plain records.

    Raises:
        MissingDataError: the world has no `truth/stories.jsonl`.
        FormatError: a line of it is broken.
    """
    path = Path(root) / "truth" / "stories.jsonl"
    if not path.is_file():
        how = f"make the world with: kuleshov world --root {root} --movies 400 --seed 0"
        raise MissingDataError("the world's truth", path, how)
    stories = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            stories.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise FormatError(path, f"not valid JSON ({error.msg})", record=number) from error
    return stories


def read_segments(root: Path, split: str) -> list[TrueSegment]:
    """The segments of a VidSitu split, in the order of its split file.

    Raises:
        MissingDataError: the world, or the split, is not there.
    """
    names = read_json(Path(root) / "vidsitu" / "split_files" / f"vseg_split_{split}_lb.json")
    found = {segment.id: segment for story in read_stories(root) for segment in segments_of(story)}
    return [found[name] for name in names]


def off_screen_flags(root: Path) -> dict[str, list[bool]]:
    """LVU movie or VidSitu segment -> which of its two-second events happen off screen; {} outside a world."""
    if not (Path(root) / "truth" / "stories.jsonl").is_file():
        return {}
    flags: dict[str, list[bool]] = {}
    for story in read_stories(root):
        if story["kind"] == "lvu":
            flags[story["id"]] = [event["off_screen"] for event in story["events"]]
        flags |= {segment.id: list(segment.off_screen) for segment in segments_of(story)}
    return flags


def segments_of(story: dict) -> list[TrueSegment]:
    """The segments of one story's record; none if it is no VidSitu source."""
    if story["kind"] != "vidsitu":
        return []
    found = []
    for first in range(0, len(story["events"]), SEGMENT_EVENTS):
        events = story["events"][first : first + SEGMENT_EVENTS]
        verbs, off = (tuple(event[name] for event in events) for name in ("verb", "off_screen"))
        name = segment_id(story["id"], first // SEGMENT_EVENTS)
        found.append(TrueSegment(name, story["id"], first, verbs, off, story["style"]))
    return found
