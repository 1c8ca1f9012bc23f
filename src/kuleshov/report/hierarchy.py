"""The trained hierarchy of a run: backbone, and the networks that name verbs, relations and roles."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from kuleshov import backbones
from kuleshov.core.errors import KuleshovError, MissingDataError, WeightsError
from kuleshov.report.lineage import Run, ancestors, lineage, named
from kuleshov.tasks.context_task import ContextTask, load
from kuleshov.tasks.relations.events import RelationsFromEvents
from kuleshov.tasks.roles.module import RolesFromEvents
from kuleshov.tasks.verbs.events import VerbsFromEvents

JOB = "pretrained-seed0"


@dataclass(frozen=True)
class Hierarchy:
    """Networks in evaluation mode, on the CPU.

    Attributes:
        backbone: clips to event features; carries `clip`, its clips' format.
        verbs: names events.
        relations: relates events; None where the run has none.
        roles: writes roles; None where the run has none.
    """

    backbone: nn.Module
    verbs: VerbsFromEvents
    relations: RelationsFromEvents | None
    roles: RolesFromEvents | None


def load_hierarchy(folder: str | Path) -> Hierarchy:
    """Load what a run has trained.

    Args:
        folder: a run that leads to train-verbs, -relations and -roles, such as that of `tables`; or the folder
            of all runs, whose newest `tables` run is taken.

    Raises:
        MissingDataError: no such run, or a file of it is not there.
        WeightsError: the networks do not belong together.
    """
    folder = named(folder)
    runs = lineage([folder])
    verbs = task_network(runs, "verbs", VerbsFromEvents)
    if verbs is None:
        how = "name a run of tables or train-verbs (`kuleshov run tables --scale demo` makes one)"
        raise MissingDataError("run of train-verbs", f"{folder} or what it was made from", how)
    backbone = backbones.load(backbone_weights(runs))
    others = {
        "relations": task_network(runs, "relations", RelationsFromEvents),
        "roles": task_network(runs, "roles", RolesFromEvents),
    }
    for name, network in {"verbs": verbs, **others}.items():
        if network is not None and network.facts["width"] != backbone.feature_width:
            raise WeightsError(
                f"{name} were trained on features of width {network.facts['width']}, the backbone gives "
                f"{backbone.feature_width}: name a single run of tables"
            )
    return Hierarchy(backbone, verbs, **others)


def task_network(runs: list[Run], task: str, kind: type[ContextTask]) -> ContextTask | None:
    """A task's network, row `pretrained`, seed 0; None where no run trained it.

    Raises:
        MissingDataError: the run is there, its weights are not.
    """
    run = next((run for run in reversed(runs) if run.stage == f"train-{task}"), None)
    if run is None:
        return None
    path = run.folder / JOB / "weights" / f"{task}.safetensors"
    network = load(path)
    if not isinstance(network, kind):
        raise WeightsError(f"{path} holds a {type(network).__name__}, not a {kind.__name__}: train it again")
    return network


def backbone_weights(runs: list[Run]) -> Path:
    """The backbone whose features the verbs were learned on.

    Raises:
        KuleshovError: no run made it.
    """
    verbs = next(run for run in reversed(runs) if run.stage == "train-verbs")
    made = [run for run in ancestors(verbs, runs) if run.stage == "pretrain-backbone"]
    if not made:
        raise KuleshovError(f"{verbs.folder} was made from no run of pretrain-backbone: its backbone is not known")
    return made[0].outputs.get("weights", made[0].folder / "weights" / "backbone.safetensors")
