"""The stage runner: does what is not done yet, and stops at the first failure."""

import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import code_version, is_whole_archive, read_json, sha256_json, write_atomic, write_json
from kuleshov.core.processes import Launch
from kuleshov.core.results import Result, append_results, read_results
from kuleshov.pipeline.jobs import POLL_SECONDS, Running, cores, gpus, start, threads_of
from kuleshov.pipeline.members import Leader
from kuleshov.pipeline.plan import DONE, JOB_DONE, Job, Planned

CHECKPOINTS = "checkpoints"
SILENCE = 60.0  # seconds after which a line says how far a stage is, where there is no terminal
UNTRAINED = ("trivial", "ceiling", "human")  # rows that no job learned
WITH_DEVICES = ("extract", "instances")  # commands that take --devices


@dataclass
class _Work:
    """A stage that is being worked on.

    Attributes:
        most: how many of its jobs run side by side, each with that share of the machine.
        threads: of each of a job's processes.
        lock: holds its folder.
        before: number of its jobs that were done when it began.
    """

    planned: Planned
    queue: list[Job]
    most: int
    threads: int
    lock: ExitStack
    before: int
    running: dict[str, tuple[Job, Running]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.started

    @property
    def finished(self) -> int:
        """Number of its jobs that are done."""
        return len(self.planned.jobs) - len(self.queue) - len(self.running)

    def stop(self) -> None:
        """Kill what runs, and leave the folder to others."""
        for _, process in self.running.values():
            process.kill()
        self.lock.close()


@dataclass
class Runner:
    """Executes a plan.

    Args:
        launch: ranks and devices.
        jobs: how many jobs run side by side, of one stage or of several that do not need each other, each on that share
            of the machine; 0 for one a core, or one a GPU, and a stage of fewer jobs gives each the more.
        console: where progress goes.
    """

    launch: Launch
    jobs: int
    console: Console
    _preload: tuple[str, ...] = ()

    def run(self, plan: Planned, force: bool = False) -> None:
        """Run every stage of the plan that is not done, each as soon as what it needs is done and there is room.

        Args:
            plan: from `make_plan`.
            force: do the last stage again, from the beginning.

        Raises:
            KuleshovError: a stage failed, or another runner works in its folder.
        """
        self._preload = modules_of(plan)
        again = plan.folder if force else None
        waiting, working = [], list[_Work]()
        for planned in plan.order():
            if planned.done and planned.folder != again:
                self._say("[green]done[/] ", planned.folder)
            else:
                waiting.append(planned)
        with Leader(self.launch).session() as leader, self.console.status("") as status:
            said = time.monotonic()
            try:
                while waiting or working:
                    self._fill(waiting, working, again, leader)
                    time.sleep(POLL_SECONDS)
                    for work in list(working):
                        _collect(work)
                        if not work.queue and not work.running:
                            self._close(work)
                            working.remove(work)
                    states = [_state(work) for work in working]
                    status.update(escape("\n".join(states)))
                    if not self.console.is_terminal and time.monotonic() - said >= SILENCE:
                        said = time.monotonic()
                        for state in states:
                            self._say("     ", " ".join(state.split("\n")[:2]))
            finally:
                for work in working:
                    work.stop()

    def _say(self, styled: str, text: object) -> None:
        self.console.print(f"{styled} {escape(str(text))}")

    def _fill(self, waiting: list[Planned], working: list[_Work], again: Path | None, leader: Leader) -> None:
        """Start jobs while there is room: of the stages that have begun, then of the next one that can begin."""
        while True:
            room = 1 - sum(Fraction(len(work.running), work.most) for work in working)
            work = next((work for work in working if work.queue), None)
            if work is None:
                missing = {planned.folder for planned in waiting} | {work.planned.folder for work in working}
                able = (one for one in waiting if missing.isdisjoint(need.folder for need in one.needs.values()))
                planned = next(able, None)
                if planned is None or room < Fraction(1, self.shares(planned)[0]):
                    return
                waiting.remove(planned)
                working.append(self._begin(planned, planned.folder == again))
            elif room < Fraction(1, work.most):
                return
            else:
                job = work.queue.pop(0)
                work.running[job.name] = (job, self._start(work, job, self._gpu(work.planned, working), leader))

    def _begin(self, planned: Planned, again: bool) -> _Work:
        if planned.stale:
            self._say("[yellow]stale[/]", planned.stale)
        planned.folder.mkdir(parents=True, exist_ok=True)
        lock = ExitStack()
        lock.enter_context(locked(planned.folder))
        if again:
            clear(planned)
        queue = [job for job in planned.jobs if not job.done]
        self._say("[bold]run[/]  ", f"{planned.folder}  ({len(queue)} of {len(planned.jobs)} jobs)")
        return _Work(planned, queue, *self.shares(planned), lock, len(planned.jobs) - len(queue))

    def _close(self, work: _Work) -> None:
        close(work.planned, work.seconds)
        work.lock.close()
        self._say("[green]done[/] ", f"{work.planned.folder}  {work.seconds:.0f} s")

    def shares(self, planned: Planned) -> tuple[int, int]:
        """Jobs of a stage that run side by side, and each process's threads: the same whatever of it is done."""
        ranks = self.launch.ranks(planned.devices)
        side_by_side = 1 if ranks > 1 else self.jobs or max(1, min(len(gpus()) or cores(), planned.most_jobs))
        return side_by_side, threads_of(max(side_by_side, ranks // self.launch.nodes))

    def _gpu(self, planned: Planned, working: list[_Work]) -> str:
        """The GPU that has the fewest jobs, for a job that takes one; empty where there is no choice."""
        names = gpus()
        if len(names) < 2 or self.launch.ranks(planned.devices) > 1:
            return ""
        taken = [process.gpu for work in working for _, process in work.running.values()]
        return min(names, key=taken.count)

    def _start(self, work: _Work, job: Job, gpu: str, leader: Leader) -> Running:
        planned = work.planned
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "results.jsonl").unlink(missing_ok=True)
        words = self._words(planned, job)
        write_atomic(job.folder / "command.txt", f"kuleshov {shlex.join(words)}\n")
        together = planned.stage.command == "fit" and self.launch.ranks(planned.devices) > 1
        environment = leader.invite(words, job.folder) if together else self.launch.environment()
        if gpu:
            environment = {**environment, "CUDA_VISIBLE_DEVICES": gpu}
        running = start(words, job.folder / "log.txt", work.threads, environment, None if together else self._preload)
        return replace(running, gpu=gpu)

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


def _collect(work: _Work) -> None:
    for name, (job, process) in list(work.running.items()):
        if process.code is None:
            continue
        del work.running[name]
        process.kill()
        if process.code != 0:
            stage = work.planned.stage.name
            title = stage if name == stage else f"{stage} {name}"
            raise process.failure(title)
        record = {"row": job.row, "task": job.task, "seed": job.seed, "words": list(job.words), "inputs": inputs(job)}
        write_json(job.folder / JOB_DONE, {**record, "seconds": round(time.monotonic() - process.started, 2)})


def _state(work: _Work) -> str:
    """How far a stage is, how long it may take yet, and the last line of each of its jobs that run."""
    lines = {name: process.last_line()[:100] for name, (_, process) in work.running.items()}
    jobs, finished, seconds = len(work.planned.jobs), work.finished, work.seconds
    done = finished + sum(map(share_done, lines.values()))
    left = seconds * (jobs - done) / (done - work.before) if done > work.before else None
    ends = f", about {duration(left)} left" if left is not None else ""
    head = f"{work.planned.stage.name}: {finished} of {jobs} jobs done, {duration(seconds)}{ends}"
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
        # rows that were not asked for may need what is not there
        "needs": {name: str(need.folder) for name, need in planned.needs.items() if (need.folder / DONE).is_file()},
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


def clear(planned: Planned) -> None:
    """Empty a run folder, all but its lock and the jobs of other rows and seeds."""
    asked = {job.name for job in planned.jobs}
    finished = {path.parent.name for path in planned.folder.glob(f"*/{JOB_DONE}")}
    kept = {".lock", *(finished - asked)}
    if len(kept) > 1:
        kept.add(DONE)  # it names them
    for path in planned.folder.iterdir():
        if path.name not in kept:
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
