"""Processes beside this one: who started them, and that none outlives it. Importing this does not import torch."""

import ctypes
import os
import signal
import sys
import threading
import time
from functools import cache

from kuleshov.core.errors import UsageError

RUNNER = "KULESHOV_RUNNER"  # set in a job's environment to the pid of its runner
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends, however it ends; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@cache
def forks_die_too() -> None:
    """The same for every process that this one forks from now on, such as the workers of data loaders."""
    os.register_at_fork(after_in_child=die_with_parent)


def watch_runner() -> None:
    """In a fresh interpreter started by a runner: die, with all that was started, when the runner is gone."""
    runner = os.environ.pop(RUNNER, None)
    if runner is None:
        return

    def watch() -> None:
        while os.getppid() == int(runner):
            time.sleep(0.5)
        kill_group(0)

    threading.Thread(target=watch, daemon=True).start()


def kill_group(leader: int) -> None:
    """Kill what is left of a process group, its leader gone or not."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # the group is gone, or its leader has not made it yet
        return


def number(name: str, default: int = 1) -> int:
    """A whole number of the environment, as launchers set them.

    Raises:
        UsageError: it is something else.
    """
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise UsageError(f"the environment says {name}={text}: a whole number is expected; correct or unset it")
    return int(text)


def under_srun() -> bool:
    """Whether `srun` started this process: batch scripts and shells in an allocation have many of its variables too."""
    if "SLURM_PROCID" not in os.environ:
        return False
    stepped = any(name.startswith(("SLURM_STEP", "SLURM_SRUN", "SLURM_LAUNCH")) for name in os.environ)
    # a batch script is task 0 of its job
    return stepped or number("SLURM_PROCID", 0) > 0 or "SLURM_JOB_ID" not in os.environ
