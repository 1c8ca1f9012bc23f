"""Running one job: its own process, its own log, killed with the runner."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from kuleshov.core.errors import KuleshovError
from kuleshov.core.processes import RUNNER, forks_die_too, kill_group


@dataclass
class Running:
    """A job's process, however it was started."""

    process: multiprocessing.process.BaseProcess | subprocess.Popen
    log: Path
    started: float

    @property
    def code(self) -> int | None:
        """Exit code, None while it runs."""
        return self.process.poll() if isinstance(self.process, subprocess.Popen) else self.process.exitcode

    def kill(self) -> None:
        """Kill the process, if it still runs, and all that it started."""
        if self.code is None:
            # between fork and setsid the job has no group of its own yet
            self.process.kill()
        if self.process.pid is not None:
            kill_group(self.process.pid)

    def last_line(self) -> str:
        """The log's last line that is not blank."""
        return "".join(tail(self.log, 1))

    def failure(self, name: str) -> KuleshovError:
        """The error for a job that failed: its own error or its last lines, and its log's path."""
        lines = tail(self.log, 12)
        reason = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), "")
        if not reason:
            print(*(f"    {line}" for line in lines), sep="\n", file=sys.stderr)
        return KuleshovError(f"{name} failed: {reason or f'exit code {self.code}'} (log: {self.log})")


def tail(path: Path, count: int) -> list[str]:
    """The last `count` lines of a log that are not blank; progress bars' carriage returns end a line."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        text = file.read().decode("utf-8", errors="replace")
    return [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()][-count:]


def start_forked(words: Sequence[str], log: Path, threads: int, preload: Sequence[str]) -> Running:
    """Start `kuleshov WORDS`, forked from a server that has imported the modules `preload` once.

    Importing torch, Lightning and a task takes about five seconds of processor time, longer than many a job.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    process = context.Process(target=_job, args=(tuple(words), str(log), threads))
    process.start()
    return Running(process, log, time.monotonic())


def start_interpreter(words: Sequence[str], log: Path, threads: int, environment: Mapping[str, str]) -> Running:
    """Start `kuleshov WORDS` in a fresh interpreter, as DDP's launcher needs, which repeats the command line."""
    environment = {**environment, "OMP_NUM_THREADS": str(threads), RUNNER: str(os.getpid())}
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "kuleshov", *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    return Running(process, log, time.monotonic())


def _job(words: tuple[str, ...], log: str, threads: int) -> None:
    os.setsid()
    forks_die_too()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    import torch

    torch.set_num_threads(threads)
    # the same as `python -m kuleshov WORDS`, without importing everything again
    sys.argv = ["kuleshov", *words]
    runpy.run_module("kuleshov", run_name="__main__", alter_sys=True)


def _die_with(sentinel: int) -> None:
    wait([sentinel])
    kill_group(0)
