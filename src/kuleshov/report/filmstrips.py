"""A few VidSitu segments, event by event: frames, what annotators say, and what each row of the table says."""

import base64
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import read_json
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.datasets.vidsitu_format import EVENTS, RELATED_EVENTS
from kuleshov.report.job_answers import SplitAnswers
from kuleshov.video.reader import VideoReader
from kuleshov.video.video_file import Video

EVENT_SECONDS = 2.0
FRAMES = 3
SHORT_SIDE = 96
_LONGEST = 4096  # pixels of a picture's side; a JPEG file holds 65,535
ANNOTATORS = 10


@dataclass
class EventView:
    """One event: its frames, as JPEG data URIs, what annotators say of it, and what the table's rows predict.

    Attributes:
        off_screen: whether it happens off screen; None where that is not known.
        verbs: the annotators' verbs, the most frequent first.
        roles: role -> text of the first annotator.
        relation: relation to the third event, as most annotators say; empty for the third.
        named: row -> verb.
        written: row -> role -> text.
        related: row -> relation.
    """

    off_screen: bool | None
    verbs: list[str]
    roles: dict[str, str]
    relation: str
    frames: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)
    written: dict[str, dict[str, str]] = field(default_factory=dict)
    related: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        """The rows that predict its verb or relation."""
        return list(dict.fromkeys([*self.named, *self.related]))


def filmstrips(answers: SplitAnswers, count: int = 3) -> tuple[dict[str, list[EventView]], list[str]]:
    """Some segments' events, by the segment's id, and sentences on what could not be shown.

    The segments are spread evenly over the split, not chosen by how well they went.
    """
    data, segments, notes = VidSitu(answers.root), answers.segments(), []
    videos = {video.id: video for video in data.videos(answers.split)} if answers.split_file is None else {}
    count, strips = min(count, len(segments)), {}
    for number in ((2 * i + 1) * len(segments) // (2 * count) for i in range(count)):
        name = segments[number]
        strips[name] = _annotated(data, answers.split, name)
        for task, row, predictions in answers.rows:
            if number in predictions:
                _add(strips[name], task, row, predictions[number])
        _add_frames(strips[name], videos.get(name), name, notes)
    return strips, notes


def _annotated(data: VidSitu, split: str, name: str) -> list[EventView]:
    verbs = data.verbs(split).get(name, [[]] * len(EVENTS))
    annotations = data.annotations(split).get(name, [])
    path = data.root.parent / "truth" / "vidsitu_offscreen.json"
    off_screen = (read_json(path) if path.is_file() else {}).get(name, [None] * len(EVENTS))
    events = []
    for number in range(len(EVENTS)):
        named = [verb for verb, _ in Counter(verbs[number][:ANNOTATORS]).most_common()]
        relations = Counter(one[number].relation for one in annotations if one[number].relation)
        relation = relations.most_common(1)[0][0] if relations else ""
        roles = dict(annotations[0][number].roles) if annotations else {}
        events.append(EventView(off_screen[number], named, roles, relation))
    return events


def _add(events: list[EventView], task: str, row: str, value: Any) -> None:
    if task == "verbs":
        for event, ranked in zip(events, value, strict=True):
            event.named[row] = ranked[0] if ranked else ""
    elif task == "relations":
        for event, labels in zip(RELATED_EVENTS, value, strict=True):
            events[EVENTS.index(event)].related[row] = labels[0] if labels else ""
    else:
        for event, roles in value.items():
            shown = {role: text for role, text in roles.items() if role not in ("vb_id", "Vb", "")}
            events[EVENTS.index(event)].written[row] = shown


def _add_frames(events: list[EventView], video: Video | None, name: str, notes: list[str]) -> None:
    if video is None:
        notes.append(f"{name}: its video is not on disk, no frames are shown")
        return
    step = EVENT_SECONDS / FRAMES
    times = [(video.start or 0.0) + step * (k + 0.5) for k in range(len(events) * FRAMES)]
    try:
        frames = VideoReader().read(video.path, times, short_side=SHORT_SIDE)
    except KuleshovError as error:
        notes.append(str(error))
        return
    for number, event in enumerate(events):
        event.frames = [data_uri(frame) for frame in frames[number * FRAMES : (number + 1) * FRAMES]]


def data_uri(frame: np.ndarray) -> str:
    """An RGB image (H, W, 3) uint8 as a JPEG data URI; of one that is very long or wide its middle."""
    height, width = frame.shape[:2]
    top, left = max(0, height - _LONGEST) // 2, max(0, width - _LONGEST) // 2
    frame = np.ascontiguousarray(frame[top : top + _LONGEST, left : left + _LONGEST])
    _, raw = cv2.imencode(".jpg", frame[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(raw.tobytes()).decode("ascii")
