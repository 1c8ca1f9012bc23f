"""A few VidSitu segments, event by event: frames, what annotators say, and what each row of the table says."""

import base64
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import read_json
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.datasets.vidsitu_format import EVENTS, RELATED_EVENTS
from kuleshov.datasets.vidsitu_predictions import read_predictions
from kuleshov.report.lineage import JobRecord, RunRecord
from kuleshov.video.reader import VideoReader
from kuleshov.video.video_file import Video

EVENT_SECONDS = 2.0
FRAMES = 3
SHORT_SIDE = 96
ANNOTATORS = 10
# a field of a prediction file's records -> the task whose structure it is
_STRUCTURES = {"pred_vbs_ev": "verbs", "vb_output": "roles", "pred_evrels_ev": "relations"}


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


@dataclass(frozen=True)
class JobAnswers:
    """A job's predictions for a split of VidSitu: the annotations' root, split and list of segments, and the file."""

    job: JobRecord
    annotations: tuple[Path, str, str | None]
    task: str
    path: Path


def filmstrips(runs: Iterable[RunRecord], count: int = 3) -> tuple[dict[str, list[EventView]], list[str]]:
    """Some segments' events, by the segment's id, and sentences on what could not be shown.

    The segments are spread evenly over the split that the runs' jobs on VidSitu report, not chosen by how well they
    went; each row is shown with its seed 0.
    """
    jobs = [job for run in runs for job in run.job_records() if not job.seed]
    answers = [found for job in jobs if (found := _answers(job)) is not None]
    notes: list[str] = []
    read: list[tuple[JobAnswers, dict[int, Any]]] = []
    for one in answers:
        if one.annotations != answers[0].annotations:
            folder = one.job.folder
            notes.append(f"{folder.parent.name}/{folder.name} is on other annotations and not in the film strips")
            continue
        root, split, split_file = one.annotations
        try:
            read.append((one, read_predictions(one.path, one.task, len(VidSitu(root).segments(split, split_file)))))
        except KuleshovError as error:
            notes.append(f"not in the film strips: {error}")
    return (_strips(read, count, notes) if read else {}), notes


def _answers(job: JobRecord) -> JobAnswers | None:
    """What a job's configuration and predictions say; None for jobs that do not predict on VidSitu."""
    config = job.folder / "config.yaml"
    loaded = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else None
    data = ((loaded or {}).get("data") or {}).get("init_args") or {}
    if "split" not in data or not data.get("annotations"):
        return None
    annotations = Path(data["annotations"]), data["split"], data.get("split_file")
    for path in sorted((job.folder / "predictions").glob("*.json")):
        records = read_json(path)
        first = records[0] if isinstance(records, list) and records and isinstance(records[0], dict) else {}
        for name, task in _STRUCTURES.items():
            if name in first:
                return JobAnswers(job, annotations, task, path)
    return None


def _strips(read: list[tuple[JobAnswers, dict[int, Any]]], count: int, notes: list[str]) -> dict[str, list[EventView]]:
    root, split, split_file = read[0][0].annotations
    data = VidSitu(root)
    segments = data.segments(split, split_file)
    videos = {video.id: video for video in data.videos(split)} if split_file is None else {}
    count, strips = min(count, len(segments)), {}
    for number in ((2 * i + 1) * len(segments) // (2 * count) for i in range(count)):
        name = segments[number]
        strips[name] = _annotated(data, split, name)
        for answers, predictions in read:
            if number in predictions:
                _add(strips[name], answers.task, answers.job.row, predictions[number])
        _add_frames(strips[name], videos.get(name), name, notes)
    return strips


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
    """An RGB image (H, W, 3) uint8 as a JPEG data URI."""
    _, raw = cv2.imencode(".jpg", frame[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(raw.tobytes()).decode("ascii")
