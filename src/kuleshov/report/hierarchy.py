"""The trained hierarchy of a run, and what its networks see in the events of a movie."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kuleshov.backbones import load_backbone
from kuleshov.core.errors import MissingDataError, WeightsError
from kuleshov.datasets.vidsitu_format import EVENTS, RELATIONS
from kuleshov.features.clip_encoding import encode
from kuleshov.features.movie_clips import EventPlan, Grid, movie_clips
from kuleshov.features.store_index import read_manifest
from kuleshov.report.lineage import RunRecord, ancestors, lineage, named_run
from kuleshov.tasks.event_task import EventTask, load_task
from kuleshov.tasks.relations import RelationTask
from kuleshov.tasks.roles import RoleTask
from kuleshov.tasks.verbs import VerbTask
from kuleshov.txe.window_data import EVENT_SECONDS
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.reader import VideoReader
from kuleshov.video.video_file import Video

log = logging.getLogger(__name__)

WINDOW = len(EVENTS)
BATCH = 16
ROW, SEED = "pretrained", 0


@dataclass(frozen=True)
class Hierarchy:
    """Networks in evaluation mode, on the CPU; the backbone carries `clip`, its clips' format."""

    backbone: nn.Module
    verbs: VerbTask
    relations: RelationTask | None
    roles: RoleTask | None


def load_hierarchy(folder: str | Path) -> Hierarchy:
    """Load what a run has trained: row `pretrained`, seed 0.

    Args:
        folder: a run that leads to train-verbs, -relations and -roles, such as that of `summary`; or the folder
            of all runs, whose newest `summary` run is taken.

    Raises:
        MissingDataError: the run leads to no network that names verbs, or to no backbone.
        WeightsError: the networks do not belong together.
    """
    folder = named_run(folder, ["summary"])
    runs = lineage([folder])
    latest = {run.stage: run for run in runs}
    kinds = {"verbs": VerbTask, "relations": RelationTask, "roles": RoleTask}
    networks = {task: _network(latest.get(f"train-{task}"), task, kind) for task, kind in kinds.items()}
    if networks["verbs"] is None:
        how = "name a run of tables or train-verbs (`kuleshov run tables --scale demo` makes one)"
        raise MissingDataError("run of train-verbs", f"{folder} or what it was made from", how)
    verbs = latest["train-verbs"]
    made = [run for run in ancestors(verbs.needs.values(), runs) if run.stage == "pretrain-backbone"]
    if not made:
        raise MissingDataError("run of pretrain-backbone", f"what {verbs.folder} was made from", "name another run")
    backbone = load_backbone(made[0].outputs.get("weights", made[0].folder / "weights" / "backbone.safetensors"))
    for name, network in networks.items():
        if network is not None and network.facts["width"] != backbone.feature_width:
            raise WeightsError(
                f"{name} were trained on features of width {network.facts['width']}, the backbone gives "
                f"{backbone.feature_width}: name a single run of tables"
            )
    features = next((run for run in runs if run.folder == verbs.needs.get("features")), None)
    if features is not None:
        # the tasks know these frames: VidSitu's are framed otherwise than the backbone's own
        clip = read_manifest(features.outputs["features"]).get("backbone", {}).get("clip")
        backbone.clip = ClipFormat.from_dict(clip) if clip else backbone.clip
    return Hierarchy(backbone, **networks)


def _network(run: RunRecord | None, task: str, kind: type[EventTask]) -> EventTask | None:
    if run is None:
        return None
    folder = next((job.folder for job in run.job_records() if (job.row, job.seed) == (ROW, SEED)), None)
    if folder is None:
        how = f"run train-{task} again"
        raise MissingDataError(f"job of row {ROW}, seed {SEED}, with its {task}.safetensors", run.folder, how)
    path = folder / "weights" / f"{task}.safetensors"
    network = load_task(path)
    if not isinstance(network, kind):
        raise WeightsError(f"{path} holds a {type(network).__name__}, not a {kind.__name__}: train it again")
    return network


@torch.inference_mode()
def event_features(video: Path, hierarchy: Hierarchy) -> Tensor:
    """The backbone's features of a movie's events, float32 (N, D), in one pass; warns where its file falls short."""
    clip, grid = hierarchy.backbone.clip, Grid(EVENT_SECONDS, EVENT_SECONDS, {})
    movie, reader = Video(video.name, video), VideoReader()
    if remark := EventPlan.of(movie, grid, reader).remark:
        log.warning("%s: %s", video, remark)
    clips = movie_clips(movie, grid, clip, reader)
    ((_, features),) = encode(clips, hierarchy.backbone, clip, BATCH, torch.device("cpu"))
    return features


def write_roles(network: RoleTask, events: Tensor, verbs: list[str]) -> list[dict[str, str]]:
    """{role: text} of every event (N, D), its verb given; the last window of five may overlap."""
    texts: list[dict[str, str]] = []
    while len(texts) < len(events):
        first = max(0, min(len(texts), len(events) - WINDOW))
        window = slice(first, first + WINDOW)
        texts += network.write_roles(events[window], verbs[window])[len(texts) - first :]
    return texts


@torch.inference_mode()
def relate_neighbors(network: RelationTask, events: Tensor) -> list[tuple[str, float]]:
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
