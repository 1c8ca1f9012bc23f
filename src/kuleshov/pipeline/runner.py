"""The stage runner: does what is not done yet, and stops at the first failure."""

import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import code_version, is_whole_archive, read_json, sha256_json, write_atomic, write_json
from kuleshov.core.processes import Launch
from kuleshov.core.results import Result, append_results, read_results
from kuleshov.pipeline.jobs import POLL_SECONDS, Running, cores, has_gpu, start, threads_of
from kuleshov.pipeline.members import Leader
from kuleshov.pipeline.plan import DONE, JOB_DONE, Job, Planned

CHECKPOINTS = "checkpoints"
SILENCE = 60.0  # seconds after which a line says how far a stage is, where there is no terminal
UNTRAINED = ("trivial", "ceiling", "human")  # rows that no job learned
WITH_DEVICES = ("extract", "instances")  # commands that take --devices


@dataclass
class Runner:
    """Executes a plan.

    Args:
        launch: ranks and devices.
        jobs: how many jobs of a stage run side by side; 0 for one a core, or one on a GPU.
        console: where progress goes.
    """

    launch: Launch
    jobs: int
    console: Console
    _preload: tuple[str, ...] = ()

    def run(self, plan: Planned, force: bool = False) -> None:
        """Run every stage of the plan that is not done, in order.

        Args:
            plan: from `make_plan`.
            force: do the last stage again, from the beginning.

        Raises:
            KuleshovError: a stage failed, or another runner works in its folder.
        """
        self._preload = modules_of(plan)
        with Leader(self.launch).session() as leader:
            for planned in plan.order():
                again = force and planned.folder == plan.folder
                if planned.done and not again:
                    self._say("[green]done[/] ", planned.folder)
                else:
                    self._lead(planned, again, leader)

    def _say(self, styled: str, text: object) -> None:
        self.console.print(f"{styled} {escape(str(text))}")

    def _lead(self, planned: Planned, again: bool, leader: Leader) -> None:
        if planned.stale:
            self._say("[yellow]stale[/]", planned.stale)
        planned.folder.mkdir(parents=True, exist_ok=True)
        with locked(planned.folder):
            if again:
                clear(planned.folder)
            started = time.monotonic()
            waiting = [job for job in planned.jobs if not job.done]
            self._say("[bold]run[/]  ", f"{planned.folder}  ({len(waiting)} of {len(planned.jobs)} jobs)")
            self._work(planned, waiting, leader)
            close(planned, time.monotonic() - started)
            self._say("[green]done[/] ", f"{planned.folder}  {time.monotonic() - started:.0f} s")

    def shares(self, planned: Planned) -> tuple[int, int]:
        """Jobs of a stage that run side by side, and each process's threads: the same whatever of it is done."""
        ranks = self.launch.ranks(planned.devices)
        side_by_side = 1 if ranks > 1 else self.jobs or (1 if has_gpu() else cores())
        side_by_side = max(1, min(side_by_side, planned.most_jobs))
        return side_by_side, threads_of(max(side_by_side, ranks // self.launch.nodes))

    def _work(self, planned: Planned, queue: list[Job], leader: Leader) -> None:
        side_by_side, threads = self.shares(planned)
        running: dict[str, tuple[Job, Running]] = {}
        started = said = time.monotonic()
        before = len(planned.jobs) - len(queue)
        try:
            with self.console.status(escape(planned.stage.summary)) as status:
                while queue or running:
                    while queue and len(running) < side_by_side:
                        job = queue.pop(0)
                        running[job.name] = (job, self._start(planned, job, threads, leader))
                    time.sleep(POLL_SECONDS)
                    _collect(planned, running)
                    done, now = len(planned.jobs) - len(queue) - len(running), time.monotonic()
                    state = _state(planned, running, done, before, now - started)
                    status.update(escape(state))
                    if not self.console.is_terminal and now - said >= SILENCE:
                        said = now
                        self._say("     ", " ".join(state.split("\n")[:2]))
        finally:
            for _, process in running.values():
                process.kill()

    def _start(self, planned: Planned, job: Job, threads: int, leader: Leader) -> Running:
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "results.jsonl").unlink(missing_ok=True)
        words = self._words(planned, job)
        write_atomic(job.folder / "command.txt", f"kuleshov {shlex.join(words)}\n")
        together = planned.stage.command == "fit" and self.launch.ranks(planned.devices) > 1
        environment = leader.invite(words, job.folder) if together else self.launch.environment()
        return start(words, job.folder / "log.txt", threads, environment, None if together else self._preload)

    def _words(self, planned: Planned, job: Job) -> list[str]:
        """A job's command line with devices and the checkpoint to go on from."""
        words, devices, nodes = list(job.words), self.launch.devices, self.launch.nodes
        if planned.stage.command != "fit":
            shared = planned.stage.command in WITH_DEVICES and devices is not None
            return [*words, "--devices", str(devices)] if shared else words
        if devices is not None:
            words += [f"--trainer.devices={devices}"]
        if nodes > 1:
            words += [f"--trainer.num_nodes={nodes}"]
        if devices is not None or nodes > 1:
            words += [f"--trainer.strategy={'ddp' if self.launch.ranks(planned.devices) > 1 else 'auto'}"]
        last = self._checkpoint(job.folder / CHECKPOINTS)
        return words + ([f"--ckpt_path={last}"] if last is not None else [])

    def _checkpoint(self, folder: Path) -> Path | None:
        """The checkpoint to go on from: the last one, the best one where the last is damaged, or none."""
        found = [path for path in (folder / "last.ckpt", folder / "best.ckpt") if path.is_file()]
        whole = [path for path in found if is_whole_archive(path)]
        if found and found[:1] != whole[:1]:
            instead = f"goes on from {whole[0].name}" if whole else "begins anew"
            self._say("[yellow]damaged[/]", f"{found[0]}: the training {instead}")
        return whole[0] if whole else None


def modules_of(plan: Planned) -> tuple[str, ...]:
    """This package's modules whose classes the plan's configurations name, to be imported once for all jobs."""
    found = {"kuleshov.training.lightning_cli"}
    configs = [config for planned in plan.order() for config in planned.resolved["configs"]]
    paths = [config.get(part, {}).get("class_path", "") for config in configs for part in ("model", "data")]
    found |= {path.rpartition(".")[0] for path in paths if path.startswith("kuleshov.")}
    return tuple(sorted(found))


def _collect(planned: Planned, running: dict[str, tuple[Job, Running]]) -> None:
    for name, (job, process) in list(running.items()):
        if process.code is None:
            continue
        del running[name]
        process.kill()
        if process.code != 0:
            title = planned.stage.name if name == planned.stage.name else f"{planned.stage.name} {name}"
            raise process.failure(title)
        record = {"row": job.row, "task": job.task, "seed": job.seed, "words": list(job.words), "inputs": inputs(job)}
        write_json(job.folder / JOB_DONE, {**record, "seconds": round(time.monotonic() - process.started, 2)})


def _state(
    planned: Planned, running: dict[str, tuple[Job, Running]], finished: int, before: int, seconds: float
) -> str:
    """How far a stage is, how long it may take yet, and the last line of each job.

    Args:
        planned: the stage.
        running: its jobs that run.
        finished: number of its jobs that are done.
        before: number of those that were done when it began.
        seconds: since then.
    """
    lines = {name: process.last_line()[:100] for name, (_, process) in running.items()}
    done = finished + sum(map(share_done, lines.values()))
    left = seconds * (len(planned.jobs) - done) / (done - before) if done > before else None
    ends = f", about {duration(left)} left" if left is not None else ""
    head = f"{planned.stage.name}: {finished} of {len(planned.jobs)} jobs done, {duration(seconds)}{ends}"
    return "\n".join([head, *(f"  {name}: {line}" for name, line in lines.items())])


def share_done(line: str) -> float:
    """How much of a job is done by its last line, `epoch 3/20 ...` or `extract 12/60 ...`: 0 to 1."""
    found = re.search(r"\b(\d+)/(\d+)\b", line)
    return min(1.0, int(found[1]) / max(1, int(found[2]))) if found else 0.0


def duration(seconds: float) -> str:
    """Seconds in words: `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def inputs(job: Job) -> dict[str, str]:
    """Weights that a job was given: path -> sha256, from their manifests."""
    paths = [Path(word.split("=", 1)[-1]) for word in job.words if word.endswith(".safetensors")]
    manifests = {path: path.with_suffix(".json") for path in paths}
    return {str(path): read_json(file).get("sha256", "") for path, file in manifests.items() if file.is_file()}


def close(planned: Planned, seconds: float) -> None:
    """Collect the jobs' results into the stage's, and write `stage.json` last.

    Jobs of an earlier plan, which asked for other rows or more seeds, stay in it.
    """
    jobs = {**_earlier_jobs(planned), **{job.name: job for job in planned.jobs}}
    lines = [line for job in jobs.values() for line in _results(planned, job)]
    if lines:
        results = planned.folder / "results.jsonl"
        results.unlink(missing_ok=True)
        append_results(results, dict.fromkeys(lines))
    done: dict[str, Any] = {
        "stage": planned.stage.name,
        "table": planned.stage.table,
        "data": planned.data,
        "fingerprint": planned.fingerprint,
        "resolved": planned.resolved,
        "needs": {name: str(need.folder) for name, need in planned.needs.items()},
        "used": {name: str(use.path) for name, use in planned.used.items()},
        "outputs": {
            name: str(planned.folder / path) for name, path in planned.stage.outputs.items() if "{row}" not in path
        },
        "jobs": list(jobs),
        "seconds": round(seconds, 1),
        "code_version": code_version(),
    }
    write_json(planned.folder / DONE, done)


def _earlier_jobs(planned: Planned) -> dict[str, Job]:
    names = read_json(planned.folder / DONE)["jobs"] if (planned.folder / DONE).is_file() else []
    found = {}
    for name in names:
        record = planned.folder / name / JOB_DONE
        if record.is_file():
            raw = read_json(record)
            found[name] = Job(name, record.parent, raw["row"], raw["task"], raw["seed"], tuple(raw["words"]))
    return found


def _results(planned: Planned, job: Job) -> list[Result]:
    """A job's results with the row, seed and task that the stage gave it, and the digests of what it came from."""
    source = job.folder / "results.jsonl"
    if job.folder == planned.folder or not source.is_file():
        return []
    weights = sorted(read_json(job.folder / JOB_DONE)["inputs"].values())
    digest = sha256_json(weights) if len(weights) > 1 else (weights or [None])[0]
    lines = []
    for line in read_results(source):
        # the stage's rows are finer than those that a module knows of itself
        row = job.row if job.row and line.row not in UNTRAINED else line.row
        seed = None if line.row in UNTRAINED else job.seed if planned.stage.seeded else line.seed
        task, stamp = job.task or line.task, planned.fingerprint
        lines.append(replace(line, row=row, seed=seed, task=task, config_sha256=stamp, weights_sha256=digest))
    return lines


def clear(folder: Path) -> None:
    """Empty a run folder, all but its lock."""
    for path in folder.iterdir():
        if path.name != ".lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder against a second runner; the lock goes with the process, however it ends.

    Raises:
        KuleshovError: another runner holds it.
    """
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise KuleshovError(f"another runner works in {folder}: wait for it, or stop it") from None


def console() -> Console:
    """Where progress goes: stderr."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)
