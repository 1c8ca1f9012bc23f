"""Running one job: its own process, its own log, killed with the runner."""

import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path

from kuleshov.core.errors import KuleshovError
from kuleshov.core.processes import PARENT, end

POLL_SECONDS = 0.1


@dataclass
class Running:
    """A job's process, however it was started, and the GPU that it was given, if any."""

    process: multiprocessing.process.BaseProcess | subprocess.Popen
    log: Path
    started: float
    gpu: str = ""

    @property
    def code(self) -> int | None:
        """Exit code, None while it runs."""
        return self.process.poll() if isinstance(self.process, subprocess.Popen) else self.process.exitcode

    def kill(self) -> None:
        """Kill the process and all that it started, also what is left of it when it has ended."""
        if self.process.pid is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            # between fork and setsid the job has no group of its own yet; at its end it has none any more
            self.process.kill()

    def last_line(self) -> str:
        """The log's last line that is not blank."""
        return "".join(tail(self.log, 1))

    def failure(self, name: str) -> KuleshovError:
        """The error for a job that failed: its own error or its last lines, and its log's path."""
        lines = tail(self.log, 12)
        reason = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), "")
        if not reason:
            print(*(f"    {line}" for line in lines), sep="\n", file=sys.stderr)
        if self.code == -signal.SIGKILL:
            reason = reason or "killed, most likely for lack of memory: try fewer devices, workers or samples"
        return KuleshovError(f"{name} failed: {reason or f'exit code {self.code}'} (log: {self.log})")


def tail(path: Path, count: int) -> list[str]:
    """The last `count` lines of a log that are not blank; progress bars' carriage returns end a line."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        text = file.read().decode("utf-8", errors="replace")
    return [line.rstrip() for line in text.replace("\r", "\n").split("\n") if line.strip()][-count:]


def start(
    words: Sequence[str], log: Path, threads: int, environment: Mapping[str, str], preload: Sequence[str] | None = None
) -> Running:
    """Start `kuleshov WORDS`, which ends with this process.

    Args:
        words: command line.
        log: file that takes what it prints.
        threads: of each of its processes.
        environment: its variables.
        preload: modules that a server imports once, of which the job is forked: importing torch, Lightning and a task
            takes five seconds of processor time, longer than many a job. None starts a fresh interpreter, as DDP's
            launcher needs, which repeats the command line.
    """
    environment = {**environment, "OMP_NUM_THREADS": str(threads), PARENT: str(os.getpid())}
    if preload is not None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(preload))
        process = context.Process(target=_job, args=(tuple(words), str(log), threads, environment))
        process.start()
        return Running(process, log, time.monotonic())
    with log.open("ab") as file:
        command = [sys.executable, "-m", "kuleshov", *words]
        none, both = subprocess.DEVNULL, subprocess.STDOUT
        fresh = subprocess.Popen(command, stdin=none, stdout=file, stderr=both, env=environment, start_new_session=True)
    return Running(fresh, log, time.monotonic())


def _job(words: tuple[str, ...], log: str, threads: int, environment: dict[str, str]) -> None:
    os.setsid()
    parent = multiprocessing.parent_process()
    if parent is not None:
        # forked of the server: the runner is no parent whose death the system would show
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.environ.clear()
    os.environ.update(environment)
    # its data loaders start their workers as everywhere, not by a server of their own, which imports torch for each
    multiprocessing.set_start_method(None, force=True)  # type: ignore[arg-type]
    import torch

    torch.set_num_threads(threads)
    # the same as `python -m kuleshov WORDS`, without importing everything again
    sys.argv = ["kuleshov", *words]
    runpy.run_module("kuleshov", run_name="__main__", alter_sys=True)


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    end()


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(processes: int) -> int:
    """Threads of each of some processes that share this machine: OMP_NUM_THREADS where the user has set it."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(given) if given.isdigit() and int(given) else max(1, cores() // processes)


@cache
def gpus() -> tuple[str, ...]:
    """Names of the NVIDIA GPUs that this process may use, without importing torch."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shutil.which("nvidia-smi") is None or given == "":
        return ()
    if given is not None:
        return tuple(name.strip() for name in given.split(","))
    found = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    return tuple(found.stdout.split()) if found.returncode == 0 else ()
