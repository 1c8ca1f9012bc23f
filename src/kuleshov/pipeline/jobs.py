"""Running one job: its own process, its own log, killed with the runner."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path

from kuleshov.core.errors import KuleshovError

RUNNER = "KULESHOV_RUNNER"  # set in a job's environment to the pid of its runner


@dataclass
class Running:
    """A job's process, however it was started."""

    process: multiprocessing.process.BaseProcess | subprocess.Popen
    log: Path
    started: float

    @property
    def code(self) -> int | None:
        """Exit code, None while it runs."""
        if isinstance(self.process, subprocess.Popen):
            return self.process.poll()
        return self.process.exitcode

    def kill(self) -> None:
        """Kill the process and all that it started."""
        pid = self.process.pid
        if pid is not None and self.code is None:
            kill_group(pid)

    def last_line(self) -> str:
        """The log's last line that is not blank."""
        lines = tail(self.log, 1)
        return lines[-1] if lines else ""


def kill_group(pid: int) -> None:
    """Kill a process and its group, where it still leads one."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # between fork and setsid the job has no group of its own yet
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def tail(path: Path, count: int) -> list[str]:
    """The last `count` lines of a log that are not blank; progress bars' carriage returns end a line."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 16_384))
        text = file.read().decode("utf-8", errors="replace")
    return [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()][-count:]


class Launcher:
    """Starts jobs: forked from a server that has imported everything once, or as fresh interpreters.

    Args:
        threads: compute threads of each job.
        fresh: start a fresh interpreter per job, as DDP's own launcher needs (it repeats the command line).
        environment: variables added in a fresh interpreter.
    """

    def __init__(self, threads: int, fresh: bool, environment: dict[str, str] | None = None) -> None:
        self._threads, self._fresh, self._environment = threads, fresh, environment or {}

    def start(self, words: tuple[str, ...], log: Path) -> Running:
        """Start `kuleshov WORDS` with its output in `log`."""
        log.parent.mkdir(parents=True, exist_ok=True)
        if self._fresh:
            return Running(self._interpreter(words, log), log, time.monotonic())
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["kuleshov.pipeline.preload"])
        process = context.Process(target=_job, args=(words, str(log), self._threads))
        process.start()
        return Running(process, log, time.monotonic())

    def _interpreter(self, words: tuple[str, ...], log: Path) -> subprocess.Popen:
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._threads), **self._environment}
        environment[RUNNER] = str(os.getpid())
        with log.open("ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "kuleshov", *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )


def _job(words: tuple[str, ...], log: str, threads: int) -> None:
    os.setsid()
    parent = multiprocessing.parent_process()
    sentinel = parent.sentinel if parent is not None else None
    if sentinel is not None:
        threading.Thread(target=_die_with, args=(sentinel,), daemon=True).start()
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
    os.killpg(0, signal.SIGKILL)


def watch_runner() -> None:
    """In a fresh interpreter started by a runner: die, with all that was started, when the runner is gone."""
    runner = os.environ.pop(RUNNER, None)
    if runner is None:
        return

    def watch() -> None:
        while os.getppid() == int(runner):
            time.sleep(0.5)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def failure(running: Running, name: str) -> KuleshovError:
    """The error for a job that failed: its last lines and its log's path."""
    lines = tail(running.log, 12)
    said = next((line for line in reversed(lines) if line.startswith("error: ")), "")
    detail = said.removeprefix("error: ") or f"exit code {running.code}"
    if not said:
        print(*(f"    {line}" for line in lines), sep="\n", file=sys.stderr)
    return KuleshovError(f"{name} failed: {detail} (log: {running.log})")
