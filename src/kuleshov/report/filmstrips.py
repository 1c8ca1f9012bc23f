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
from kuleshov.report.lineage import JobRecord, RunRecord
from kuleshov.video.reader import VideoReader
from kuleshov.video.video_file import Video

EVENT_SECONDS = 2.0
FRAMES = 3
SHORT_SIDE = 96
ANNOTATORS = 10
Annotations = tuple[Path, str, str | None]
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
        named: row -> the verb it predicts and whether any annotator named it.
        written: row -> role -> text.
        related: row -> relation.
    """

    frames: list[str] = field(default_factory=list)
    off_screen: bool | None = None
    verbs: list[str] = field(default_factory=list)
    roles: dict[str, str] = field(default_factory=dict)
    relation: str = ""
    named: dict[str, tuple[str, bool]] = field(default_factory=dict)
    written: dict[str, dict[str, str]] = field(default_factory=dict)
    related: dict[str, str] = field(default_factory=dict)

    @property
    def rows(self) -> list[str]:
        """The rows that predict its verb or relation."""
        return list(dict.fromkeys([*self.named, *self.related]))


def filmstrips(runs: Iterable[RunRecord], count: int = 3) -> tuple[dict[str, list[EventView]], list[str]]:
    """Some segments' events, by the segment's id, and sentences on what could not be shown.

    The segments are spread evenly over the split that the runs' jobs on VidSitu report, not chosen by how well they
    went; each row is shown with its seed 0.
    """
    notes: list[str] = []
    found: list[tuple[str, str, Mapping[str, Any]]] = []
    chosen: Annotations | None = None
    for job in (job for run in runs for job in run.job_records() if not job.seed):
        settings = _annotations(job)
        files = sorted((job.folder / "predictions").glob("*.json")) if settings is not None else []
        task, path = next(((task, path) for path in files if (task := prediction_task(path))), ("", None))
        if path is None:
            continue
        chosen = chosen or settings
        if settings != chosen:
            name = f"{job.folder.parent.name}/{job.folder.name}"
            notes.append(f"{name} is on other annotations and not in the film strips")
            continue
        try:
            segments = VidSitu(chosen[0]).segments(*chosen[1:])
            read = read_predictions(path, task, len(segments))
            found.append((task, job.row, {segments[number]: value for number, value in read.items()}))
        except KuleshovError as error:
            notes.append(f"not in the film strips: {error}")
    return (_strips(chosen, found, count, notes) if found else {}), notes


def _annotations(job: JobRecord) -> Annotations | None:
    """Root, split and list of segments of VidSitu in a job's configuration; None for other jobs."""
    config = job.folder / "config.yaml"
    loaded = yaml.safe_load(config.read_text(encoding="utf-8")) if config.is_file() else None
    data = ((loaded or {}).get("data") or {}).get("init_args") or {}
    if "split" not in data or not data.get("annotations"):
        return None
    return Path(data["annotations"]), data["split"], data.get("split_file")


def prediction_task(path: Path) -> str:
    """The VidSitu task whose structure a prediction file has; empty for another file."""
    records = read_json(path)
    first = records[0] if isinstance(records, list) and records and isinstance(records[0], dict) else {}
    return next((task for name, task in _STRUCTURES.items() if name in first), "")


def _strips(
    chosen: Annotations, found: Sequence[tuple[str, str, Mapping[str, Any]]], count: int, notes: list[str]
) -> dict[str, list[EventView]]:
    root, split, split_file = chosen
    data = VidSitu(root)
    segments = data.segments(split, split_file)
    count = min(count, len(segments))
    videos = {video.id: video for video in data.videos(split)} if split_file is None else {}
    hidden = root.parent / "truth" / "vidsitu_offscreen.json"
    off_screen = read_json(hidden) if hidden.is_file() else {}
    strips = {}
    for name in (segments[(2 * i + 1) * len(segments) // (2 * count)] for i in range(count)):
        events = _annotated(data, split, name)
        for event, off in zip(events, off_screen.get(name, [None] * len(EVENTS)), strict=True):
            event.off_screen = off
        for task, row, predictions in found:
            if name in predictions:
                _add(events, task, row, predictions[name])
        _add_frames(events, videos.get(name), name, notes)
        strips[name] = events
    return strips


def _annotated(data: VidSitu, split: str, name: str) -> list[EventView]:
    verbs = data.verbs(split).get(name, [[]] * len(EVENTS))
    annotations = data.annotations(split).get(name, [])
    events = []
    for number in range(len(EVENTS)):
        named = [verb for verb, _ in Counter(verbs[number][:ANNOTATORS]).most_common()]
        relations = Counter(one[number].relation for one in annotations if one[number].relation)
        relation = relations.most_common(1)[0][0] if relations else ""
        roles = dict(annotations[0][number].roles) if annotations else {}
        events.append(EventView(verbs=named, roles=roles, relation=relation))
    return events


def _add(events: list[EventView], task: str, row: str, value: Any) -> None:
    if task == "verbs":
        for event, ranked in zip(events, value, strict=True):
            event.named[row] = (ranked[0], ranked[0] in event.verbs) if ranked else ("", False)
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
        for number, event in enumerate(events):
            event.frames = [data_uri(frame) for frame in frames[number * FRAMES : (number + 1) * FRAMES]]
    except KuleshovError as error:
        notes.append(str(error))


def data_uri(frame: np.ndarray) -> str:
    """An RGB image (H, W, 3) uint8 as a JPEG data URI."""
    import cv2

    done, raw = cv2.imencode(".jpg", frame[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise KuleshovError("OpenCV could not write a JPEG image")
    return "data:image/jpeg;base64," + base64.b64encode(raw.tobytes()).decode("ascii")
