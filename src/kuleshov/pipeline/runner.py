"""The stage runner: does what is not done yet, and stops at the first failure."""

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import code_version, read_json, sha256_json, write_atomic, write_json
from kuleshov.core.results import append_results, read_results
from kuleshov.pipeline.jobs import Launcher, Running, failure
from kuleshov.pipeline.launch import Launch, cores, has_gpu
from kuleshov.pipeline.plan import DONE, JOB_DONE, Job, Planned

POLL_SECONDS = 0.1
UNTRAINED = ("trivial", "ceiling", "human")  # rows that no job learned


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
    _fits: int = 0

    def run(self, plan: Planned, force: bool = False) -> None:
        """Run every stage of the plan that is not done, in order.

        Args:
            plan: from `make_plan`.
            force: do the last stage again, from the beginning.

        Raises:
            KuleshovError: a stage failed, or another runner works in its folder.
        """
        for planned in plan.order():
            again = force and planned is plan
            if self.launch.rank > 0:
                self._follow(planned)
            elif planned.done and not again:
                self.console.print(f"[green]done[/]  {planned.folder}")
            else:
                self._lead(planned, again)

    def _lead(self, planned: Planned, again: bool) -> None:
        if planned.stale:
            self.console.print(f"[yellow]stale[/] {planned.stale}")
        planned.folder.mkdir(parents=True, exist_ok=True)
        with locked(planned.folder):
            if again:
                clear(planned.folder)
            started = time.monotonic()
            waiting = [job for job in planned.jobs if not job.done]
            self.console.print(f"[bold]run[/]   {planned.folder}  ({len(waiting)} of {len(planned.jobs)} jobs)")
            self._work(planned, waiting)
            close(planned, time.monotonic() - started)
            self.console.print(f"[green]done[/]  {planned.folder}  {time.monotonic() - started:.0f} s")

    def _work(self, planned: Planned, waiting: list[Job]) -> None:
        fresh = self.launch.distributed
        side_by_side = 1 if fresh else self.jobs or (1 if has_gpu() else cores())
        side_by_side = max(1, min(side_by_side, len(waiting)))
        threads = max(1, cores() // (self.launch.devices if fresh else side_by_side))
        running: dict[str, tuple[Job, Running]] = {}
        queue = list(waiting)
        try:
            with self.console.status(planned.stage.summary) as status:
                while queue or running:
                    while queue and len(running) < side_by_side:
                        job = queue.pop(0)
                        running[job.name] = (job, self._start(planned, job, threads))
                    time.sleep(POLL_SECONDS)
                    _collect(planned, running)
                    status.update(_state(planned, running, len(planned.jobs) - len(queue) - len(running)))
        finally:
            for _, process in running.values():
                process.kill()

    def _start(self, planned: Planned, job: Job, threads: int) -> Running:
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "results.jsonl").unlink(missing_ok=True)
        fresh, environment = self.launch.distributed, {}
        words = job.words
        if planned.stage.command == "fit":
            words = (*words, *self._fit_words(job))
            environment = self.launch.job_environment(self._fits)
            self._fits += 1
        elif planned.stage.command == "extract" and self.launch.distributed:
            words = (*words, "--devices", str(self.launch.devices))
        write_atomic(job.folder / "command.txt", "kuleshov " + " ".join(words) + "\n")
        return Launcher(threads, fresh, environment).start(words, job.folder / "log.txt")

    def _fit_words(self, job: Job) -> list[str]:
        words = []
        if self.launch.distributed:
            words += [f"--trainer.devices={self.launch.devices}", f"--trainer.num_nodes={self.launch.nodes}"]
            words += ["--trainer.strategy=ddp"]
        last = job.folder / "checkpoints" / "last.ckpt"
        return [*words, f"--ckpt_path={last}"] if last.is_file() else words

    def _follow(self, planned: Planned) -> None:
        """On ranks that an outer launcher started beside rank 0: join its fits, wait for the rest."""
        for job in planned.jobs:
            if job.done:
                continue
            if planned.stage.command == "fit":
                running = self._join(planned, job)
                while running.code is None:
                    time.sleep(POLL_SECONDS)
                if running.code:
                    raise failure(running, f"{planned.stage.name} on rank {self.launch.rank}")
            while not job.done:
                time.sleep(POLL_SECONDS)

    def _join(self, planned: Planned, job: Job) -> Running:
        environment = self.launch.job_environment(self._fits)
        self._fits += 1
        words = (*job.words, *self._fit_words(job))
        log = job.folder / f"log-rank{self.launch.rank}.txt"
        return Launcher(max(1, cores() // self.launch.devices), True, environment).start(words, log)


def _collect(planned: Planned, running: dict[str, tuple[Job, Running]]) -> None:
    for name, (job, process) in list(running.items()):
        if process.code is None:
            continue
        del running[name]
        if process.code != 0:
            title = planned.stage.name if name == planned.stage.name else f"{planned.stage.name} {name}"
            raise failure(process, title)
        seconds = round(time.monotonic() - process.started, 2)
        write_json(job.folder / JOB_DONE, {"words": list(job.words), "inputs": inputs(job), "seconds": seconds})


def _state(planned: Planned, running: dict[str, tuple[Job, Running]], finished: int) -> str:
    lines = [f"{planned.stage.name}: {finished} of {len(planned.jobs)} jobs done"]
    lines += [f"  {name}: {process.last_line()[:100]}" for name, (_, process) in running.items()]
    return "\n".join(lines).replace("[", "\\[")


def inputs(job: Job) -> dict[str, str]:
    """Weights that a job was given: path -> sha256, from their manifests."""
    found = {}
    for word in job.words:
        path = Path(word.split("=", 1)[-1])
        if path.suffix == ".safetensors" and path.with_suffix(".json").is_file():
            found[str(path)] = read_json(path.with_suffix(".json")).get("sha256", "")
    return found


def close(planned: Planned, seconds: float) -> None:
    """Collect the jobs' results into the stage's, and write `stage.json` last."""
    results = planned.folder / "results.jsonl"
    lines = []
    for job in planned.jobs:
        source = job.folder / "results.jsonl"
        if job.folder != planned.folder and source.is_file():
            weights = sorted(read_json(job.folder / JOB_DONE)["inputs"].values())
            stamp = {"config_sha256": planned.fingerprint}
            stamp["weights_sha256"] = sha256_json(weights) if len(weights) > 1 else (weights or [None])[0]
            for line in read_results(source):
                # the stage's rows are finer than those that a module knows of itself
                row = job.row if job.row and line.row not in UNTRAINED else line.row
                seed = None if line.row in UNTRAINED else job.seed if planned.stage.seeded else line.seed
                lines.append(replace(line, row=row, seed=seed, task=job.task or line.task, **stamp))
    if lines:
        results.unlink(missing_ok=True)
        append_results(results, dict.fromkeys(lines))
    outputs = {name: str(planned.folder / path) for name, path in planned.stage.outputs.items()}
    done = {
        "stage": planned.stage.name,
        "data": planned.data,
        "fingerprint": planned.fingerprint,
        "resolved": planned.resolved,
        "needs": {name: str(need.folder) for name, need in planned.needs.items()},
        "outputs": outputs,
        "jobs": [job.name for job in planned.jobs],
        "seconds": round(seconds, 1),
        "code_version": code_version(),
    }
    write_json(planned.folder / DONE, done)


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
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            other = file.read().strip() or "unknown"
            raise KuleshovError(
                f"another runner (process {other}) works in {folder}: wait for it, or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def console() -> Console:
    """Where progress goes: stderr."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=True)
