"""A plan as jobs of a cluster, through submitit: one a stage, each after those that it needs."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from lightning_utilities.core.imports import RequirementCache

from kuleshov.core.errors import KuleshovError, UsageError, message
from kuleshov.core.processes import Launch, detect
from kuleshov.pipeline.members import follow
from kuleshov.pipeline.plan import Planned
from kuleshov.pipeline.runner import WITH_DEVICES, Runner, console
from kuleshov.pipeline.stages import make_importable

SUBMITIT = RequirementCache("submitit>=1.5", "submitit")
SUBMITTED = "submitted"  # folder in that of the runs: submitit's scripts and logs


@dataclass
class StageTask:
    """One stage of a plan, as a task of the cluster runs it: what it needs is done by then.

    Args:
        planned: the stage.
        project: folder whose modules the jobs may import.
        launch: devices and nodes; where it has several nodes, the cluster starts a task a rank.
        jobs: of `Runner`.
        force: do the stage again from the beginning.
    """

    planned: Planned
    project: Path
    launch: Launch
    jobs: int = 0
    force: bool = False

    def __call__(self) -> str:
        """Do the stage, or join rank 0's trainings; the stage's folder."""
        make_importable(self.project)
        launch = detect() if self.launch.nodes > 1 else self.launch
        if launch.rank > 0:
            follow(launch)
        else:
            Runner(launch, self.jobs, console()).run(self.planned, self.force)
        return str(self.planned.folder)

    def checkpoint(self) -> Any:
        """What submitit queues again where the time is up or the node is wanted: the stage goes on where it was."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(StageTask(self.planned, self.project, self.launch, self.jobs))


def submit(plan: Planned, project: Path, runs: Path, cluster: str, given: list[str], how: Mapping[str, Any]) -> str:
    """Submit every stage of a plan that is not done; without waiting, but that `local` has no queue to wait in.

    Args:
        plan: from `make_plan`.
        project: folder with stages/ and configs/.
        runs: folder of the runs; scripts and logs go to `submitted/` in it.
        cluster: slurm or local (processes of this machine).
        given: NAME=VALUE: parameters of submitit's AutoExecutor, such as timeout_min and slurm_partition.
        how: `launch`, `jobs` and `force` of `StageTask`.

    Returns:
        A line each: the cluster's number, the stage, its folder.

    Raises:
        KuleshovError: submitit is not there, or the cluster takes no jobs or not these parameters.
    """
    if not SUBMITIT:
        raise KuleshovError(f"--launcher needs `pip install 'kuleshov[slurm]'` ({SUBMITIT})")
    import submitit

    jobs: dict[Path, Any] = {}
    try:
        for planned in plan.order():
            last = planned.folder == plan.folder
            if planned.done and not (last and how["force"]):
                continue
            # only trainings have ranks on several nodes
            launch = replace(how["launch"], nodes=how["launch"].nodes if planned.stage.command == "fit" else 1)
            first = [jobs[need.folder] for need in planned.needs.values() if need.folder in jobs]
            executor = submitit.AutoExecutor(runs / SUBMITTED / "%j", cluster=cluster)
            executor.update_parameters(**_parameters(planned, cluster, launch, given, first))
            if cluster == "local":
                _wait(first)
            one = {**how, "launch": launch, "force": how["force"] and last}
            jobs[planned.folder] = executor.submit(StageTask(planned, project, **one))
        if cluster == "local":
            _wait(jobs.values())
    except (RuntimeError, ValueError, TypeError, NameError, AssertionError) as error:
        raise KuleshovError(f"{cluster} took no job: {message(error)}") from error
    return "\n".join(f"{job.job_id} {folder}" for folder, job in jobs.items())


def _wait(jobs: Iterable[Any]) -> None:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    for job in jobs:
        try:
            job.result()
        except (FailedJobError, UncompletedJobError) as error:
            # of a traceback the last line that names an error
            said = re.findall(r"^[\w.]+: (.+)", str(error), re.MULTILINE) or [message(error)]
            raise KuleshovError(f"a submitted stage failed: {said[-1]} (log: {job.paths.stderr})") from None


def _parameters(planned: Planned, cluster: str, launch: Launch, given: list[str], first: list[Any]) -> dict[str, Any]:
    """Of submitit: what the stage asks for, then what the user does."""
    devices = launch.devices or planned.devices
    wanted: dict[str, Any] = {"name": f"kuleshov-{planned.stage.name}", "nodes": launch.nodes}
    # ranks on several nodes are the cluster's tasks; on one node the runner starts them itself
    wanted["tasks_per_node"] = devices if launch.nodes > 1 else 1
    on_gpus = planned.resolved["values"]["scale"] in ("gpu", "paper")
    if on_gpus and planned.stage.command in ("fit", *WITH_DEVICES):
        wanted["gpus_per_node"] = devices
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--submit takes NAME=VALUE, got {text!r}")
        wanted[name] = yaml.safe_load(value)
    if cluster == "slurm" and first:
        wanted["slurm_dependency"] = "afterok:" + ":".join(job.job_id for job in first)
        more = wanted.get("slurm_additional_parameters") or {}
        # a stage whose need failed would wait forever
        wanted["slurm_additional_parameters"] = {"kill-on-invalid-dep": "yes", **more}
    return wanted
