"""A few VidSitu segments, event by event: frames, what annotators say, and what each row of the table says."""

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import read_json
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.datasets.vidsitu_format import EVENTS, RELATED_EVENTS
from kuleshov.datasets.vidsitu_predictions import read_predictions
from kuleshov.report.curves import row_of
from kuleshov.report.lineage import Run
from kuleshov.video.video_file import Video

EVENT_SECONDS = 2.0
FRAMES = 3
SHORT_SIDE = 96
ANNOTATORS = 10


@dataclass
class EventView:
    """One event.

    Attributes:
        frames: JPEG images as data URIs.
        off_screen: whether it happens off screen; None where nobody says.
        verbs: the annotators' verbs, the most frequent first.
        roles: role -> text of the first annotator.
        relation: relation to the third event, as most annotators say; empty for the third.
        said: row -> the verb it named and whether any annotator did.
        roles_said: row -> role -> text.
        relations_said: row -> relation.
    """

    frames: list[str] = field(default_factory=list)
    off_screen: bool | None = None
    verbs: list[str] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict)
    relation: str = ""
    said: dict[str, tuple[str, bool]] = field(default_factory=dict)
    roles_said: dict[str, dict[str, str]] = field(default_factory=dict)
    relations_said: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        """The rows that said something about its verb or relation."""
        return list(dict.fromkeys([*self.said, *self.relations_said]))


@dataclass(frozen=True)
class Strip:
    """One segment: its id and its five events."""

    segment: str
    events: list[EventView]


@dataclass(frozen=True)
class Predictions:
    """One job's predictions: task, row, and segment -> what was predicted."""

    task: str
    row: str
    by_segment: Mapping[str, Any]


def filmstrips(runs: Iterable[Run], count: int = 3) -> tuple[list[Strip], list[str]]:
    """Segments spread evenly over the reported split, not chosen by how well they went.

    Args:
        runs: runs of the VidSitu tasks are taken from among them; predictions of seed 0.
        count: number of segments.

    Returns:
        The strips, and sentences on what could not be shown.
    """
    jobs = [job for run in runs if run.stage.startswith("train-") for job in run.job_folders if _first_seed(job)]
    notes: list[str] = []
    found: list[Predictions] = []
    chosen: tuple[Path, str, str | None] | None = None
    for job in jobs:
        settings = _data_settings(job)
        if settings is None:
            continue
        chosen = chosen or settings
        if settings != chosen:
            notes.append(f"{job.parent.name}/{job.name} is on other annotations and not in the film strips")
            continue
        try:
            found += _read_job(job, settings)
        except KuleshovError as error:
            notes.append(f"not in the film strips: {error}")
    if chosen is None or not found:
        return [], notes
    return _strips(chosen, found, count, notes), notes


def _first_seed(job: Path) -> bool:
    return job.name.endswith("seed0") or "-seed" not in f"-{job.name}"


def _data_settings(job: Path) -> tuple[Path, str, str | None] | None:
    """Annotation root, split and split file of a job on VidSitu; None for other jobs."""
    config = job / "config.yaml"
    if not config.is_file():
        return None
    loaded = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    data = (loaded.get("data") or {}).get("init_args") or {}
    if "split" not in data or not data.get("annotations"):
        return None
    return Path(data["annotations"]), data["split"], data.get("split_file")


def _read_job(job: Path, settings: tuple[Path, str, str | None]) -> list[Predictions]:
    root, split, split_file = settings
    path = job / "predictions" / f"{split}.json"
    task = task_of(path)
    if not task:
        return []
    segments = VidSitu(root).segments(split, split_file)
    read = read_predictions(path, task, len(segments))
    return [Predictions(task, row_of(job.name), {segments[number]: value for number, value in read.items()})]


def task_of(path: Path) -> str:
    """The VidSitu task whose structure a prediction file has; empty for another file, or none."""
    if not path.is_file():
        return ""
    records = read_json(path)
    first = records[0] if isinstance(records, list) and records and isinstance(records[0], dict) else {}
    fields = {"pred_vbs_ev": "verbs", "vb_output": "roles", "pred_evrels_ev": "relations"}
    return next((task for name, task in fields.items() if name in first), "")


def _strips(
    chosen: tuple[Path, str, str | None], found: Sequence[Predictions], count: int, notes: list[str]
) -> list[Strip]:
    root, split, split_file = chosen
    data = VidSitu(root)
    segments = data.segments(split, split_file)
    count = min(count, len(segments))
    names = [segments[(2 * i + 1) * len(segments) // (2 * count)] for i in range(count)]
    videos = {video.id: video for video in data.videos(split)} if split_file is None else {}
    flags = _off_screen(root)
    strips = []
    for name in names:
        events = _annotated(data, split, name)
        for event, off in zip(events, flags.get(name, [None] * len(EVENTS)), strict=True):
            event.off_screen = off
        for one in found:
            if name in one.by_segment:
                _add(events, one, one.by_segment[name])
        _add_frames(events, videos.get(name), name, notes)
        strips.append(Strip(name, events))
    return strips


def _off_screen(root: Path) -> dict[str, list[bool]]:
    path = root.parent / "truth" / "vidsitu_offscreen.json"
    return read_json(path) if path.is_file() else {}


def _annotated(data: VidSitu, split: str, name: str) -> list[EventView]:
    events = [EventView() for _ in EVENTS]
    verbs = data.verbs(split).get(name, [[]] * len(EVENTS))
    annotations = data.annotations(split).get(name, [])
    for number, event in enumerate(events):
        event.verbs = [verb for verb, _ in Counter(verbs[number][:ANNOTATORS]).most_common()]
        if annotations:
            event.roles = dict(annotations[0][number].roles)
        relations = Counter(one[number].relation for one in annotations if one[number].relation)
        event.relation = relations.most_common(1)[0][0] if relations else ""
    return events


def _add(events: list[EventView], predictions: Predictions, value: Any) -> None:
    row = predictions.row
    if predictions.task == "verbs":
        for event, ranked in zip(events, value, strict=True):
            event.said[row] = (ranked[0], ranked[0] in event.verbs) if ranked else ("", False)
    elif predictions.task == "relations":
        for event, labels in zip(RELATED_EVENTS, value, strict=True):
            events[EVENTS.index(event)].relations_said[row] = labels[0] if labels else ""
    else:
        for event, roles in value.items():
            shown = {role: text for role, text in roles.items() if role not in ("vb_id", "Vb", "")}
            events[EVENTS.index(event)].roles_said[row] = shown


def _add_frames(events: list[EventView], video: Video | None, name: str, notes: list[str]) -> None:
    if video is None:
        notes.append(f"{name}: its video is not on disk, no frames are shown")
        return
    start = video.start or 0.0
    step = EVENT_SECONDS / FRAMES
    times = [start + EVENT_SECONDS * e + step * (k + 0.5) for e in range(len(events)) for k in range(FRAMES)]
    try:
        frames = read_frames(video.path, times)
    except KuleshovError as error:
        notes.append(str(error))
        return
    for number, event in enumerate(events):
        event.frames = [data_uri(frame) for frame in frames[number * FRAMES : (number + 1) * FRAMES]]


def read_frames(path: Path, times: Sequence[float]) -> np.ndarray:
    """Small frames at some seconds of a video, uint8 (T, H, W, 3)."""
    from kuleshov.video.reader import VideoReader

    return VideoReader().read(path, times, short_side=SHORT_SIDE)


def data_uri(frame: np.ndarray) -> str:
    """An RGB image (H, W, 3) uint8 as a JPEG data URI."""
    import cv2

    done, raw = cv2.imencode(".jpg", frame[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise KuleshovError("OpenCV could not write a JPEG image")
    return "data:image/jpeg;base64," + base64.b64encode(raw.tobytes()).decode("ascii")
