"""The trained hierarchy of a run, and what its networks see in the features of neighboring events."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from kuleshov.backbones import load_backbone
from kuleshov.core.errors import MissingDataError, WeightsError
from kuleshov.core.weights import load_weights
from kuleshov.datasets.vidsitu_format import EVENTS, RELATIONS
from kuleshov.features.store_index import read_manifest
from kuleshov.report.lineage import GENERATED, RunRecord, ancestors, lineage, named_run
from kuleshov.tasks.event_task import EventTask, load_task
from kuleshov.tasks.relations import RelationTask
from kuleshov.tasks.roles import RoleTask
from kuleshov.tasks.verbs import VerbTask
from kuleshov.txe.contextualizer import encode_long
from kuleshov.txe.encoder import TxE
from kuleshov.txe.encoder import load as load_txe
from kuleshov.txe.window_data import EVENT_SECONDS
from kuleshov.video.clip_format import ClipFormat

WINDOW = len(EVENTS)
ROW, SEED = "pretrained", 0


@dataclass(frozen=True)
class Hierarchy:
    """Networks in evaluation mode; the backbone carries `clip`, its clips' format.

    Attributes:
        txe: as masked events trained it, before any task; None where the run leads to none whose tokens are events
            side by side.
        store: folder of the features that the verbs were trained on, None where it is not there.
        trained_on: a sentence.
    """

    backbone: nn.Module
    verbs: VerbTask
    relations: RelationTask | None
    roles: RoleTask | None
    txe: TxE | None
    store: Path | None
    trained_on: str

    def to(self, device: torch.device) -> "Hierarchy":
        """Move the networks to a device."""
        for network in (self.backbone, self.verbs, self.relations, self.roles, self.txe):
            if network is not None:
                network.to(device)
        return self

    def lacks(self) -> list[str]:
        """What cannot be said for want of networks or features."""
        wanted = {
            "relations: the run leads to no train-relations": self.relations,
            "roles: the run leads to no train-roles": self.roles,
            "surprise and alike events: the run leads to no pretrain-txe of events 2 s apart": self.txe,
            "distance to the training's features: the run leads to no store of them": self.store,
        }
        return [text for text, there in wanted.items() if there is None]


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
        how = "name a run of summary or train-verbs (`kuleshov run summary --scale demo` makes one)"
        raise MissingDataError("run of train-verbs", f"{folder} or what it was made from", how)
    verbs = latest["train-verbs"]
    before = {run.stage: run for run in reversed(ancestors(verbs.needs.values(), runs))}
    if "pretrain-backbone" not in before:
        raise MissingDataError("run of pretrain-backbone", f"what {verbs.folder} was made from", "name another run")
    made = before["pretrain-backbone"]
    backbone = load_backbone(made.outputs.get("weights", made.folder / "weights" / "backbone.safetensors"))
    for name, network in networks.items():
        if network is not None and network.facts["width"] != backbone.feature_width:
            raise WeightsError(
                f"{name} were trained on features of width {network.facts['width']}, the backbone gives "
                f"{backbone.feature_width}: name a single run of summary"
            )
    features = next((run for run in runs if run.folder == verbs.needs.get("features")), None)
    store = features.outputs["features"] if features is not None else None
    if store is not None:
        # the tasks know these frames: VidSitu's are framed otherwise than the backbone's own
        clip = read_manifest(store).get("backbone", {}).get("clip")
        backbone.clip = ClipFormat.from_dict(clip) if clip else backbone.clip
    txe = before.get("pretrain-txe")
    trained = _trained_on({**before, verbs.stage: verbs}, [name for name, one in networks.items() if one is not None])
    there = store if store is not None and store.is_dir() else None
    return Hierarchy(backbone, **networks, txe=_pretrained(txe), store=there, trained_on=trained)


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


def _pretrained(run: RunRecord | None) -> TxE | None:
    """The TxE of a pretraining, None where its tokens are not the events that are described."""
    if run is None:
        return None
    path = run.outputs.get("txe", run.folder / "weights" / "txe.safetensors")
    stride = load_weights(path)[1].get("data", {}).get("token_stride")
    return load_txe(path) if stride == EVENT_SECONDS else None


def _trained_on(runs: dict[str, RunRecord], tasks: list[str]) -> str:
    """One sentence on what the networks have seen."""
    backbone, verbs, txe = runs["pretrain-backbone"], runs["train-verbs"], runs.get("pretrain-txe")
    parts = [f"backbone by {backbone.method or 'pretraining'} on {backbone.data}"]
    parts += [f"TxE by masked events on {txe.data}"] if txe is not None else []
    parts.append(f"{' and '.join([', '.join(tasks[:-1])] * (len(tasks) > 1) + tasks[-1:])} on {verbs.data}")
    where = f" the {GENERATED}" if verbs.resolved.get("data") == GENERATED else ""
    return f"Trained on{where}: {'; '.join(parts)}."


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


@torch.inference_mode()
def surprise(txe: TxE, events: Tensor) -> list[float] | None:
    """How far each event (N, D) lies from what TxE fills in at its place: 0 (foreseen) to 2; None without neighbors.

    Each event is hidden alone, in the window in which it is most central; both features are L2-normalized.
    """
    count, size = len(events), min(txe.max_events, len(events))
    if count < 2:
        return None
    place = torch.arange(count, device=events.device)
    window = (place - size // 2).clamp(0, count - size)
    framed = events[window[:, None] + torch.arange(size, device=events.device)]  # (N, size, D)
    hidden = torch.arange(size, device=events.device) == (place - window)[:, None]
    filled = txe.reconstruct(txe(framed, hidden)[hidden])
    return (filled - txe.targets(events)).norm(dim=-1).tolist()


@torch.inference_mode()
def contextualized(txe: TxE, events: Tensor) -> Tensor:
    """Event features (N, D) as TxE sees them among their neighbors, (N, H)."""
    return encode_long(txe, events[None])[0]


@torch.inference_mode()
def most_alike(features: Tensor, places: list[int], count: int = 3) -> list[list[tuple[int, float]]]:
    """The `count` events most like each of (N, H), by cosine: (place, cosine), best first.

    `places` (N) are the events' numbers in the movie; those that share a window of five are alike for that reason alone
    and left out.
    """
    unit, where = torch.nn.functional.normalize(features, dim=-1), torch.tensor(places, device=features.device)
    found: list[list[tuple[int, float]]] = []
    for part, own in zip(unit.split(1024), where.split(1024), strict=True):
        cosine = part @ unit.T
        cosine[(own[:, None] - where).abs() <= WINDOW // 2] = -torch.inf
        best = cosine.topk(min(count, len(unit)))
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        found += [[(places[i], c) for i, c in zip(*row, strict=True) if c > -torch.inf] for row in rows]
    return found
