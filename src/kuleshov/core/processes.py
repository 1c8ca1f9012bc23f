"""Who started this process and its ranks, and that it ends with who started it. No torch is imported."""

import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kuleshov.core.errors import KuleshovError, UsageError

PARENT = "KULESHOV_PARENT"  # pid of the process that the next one started must not outlive
POLL_SECONDS = 0.25
LAUNCHERS = {  # what torchrun, srun and Lightning tell their processes
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK"),
    *("ROLE_NAME", "ROLE_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_NTASKS", "SLURM_PROCID"),
}


@dataclass(frozen=True)
class Launch:
    """Who starts the ranks, and how many there are.

    Attributes:
        rank: this process's rank among those that a launcher, or the user on each node, started; 0 without one.
        outer: whether torchrun or SLURM started one process a rank.
        devices: devices a node; None leaves it to the configuration.
        nodes: number of nodes.
        address, port: where the ranks meet; of no use where there is one process.
    """

    rank: int = 0
    outer: bool = False
    devices: int | None = None
    nodes: int = 1
    address: str = "127.0.0.1"
    port: int = 29500

    @property
    def members(self) -> int:
        """Number of processes that run this same command."""
        return self.ranks(1) if self.outer else self.nodes

    def ranks(self, configured: int) -> int:
        """Number of processes that train together, where the configuration asks for `configured` devices."""
        return (self.devices or configured) * self.nodes

    def environment(self, port: int | None = None) -> dict[str, str]:
        """Environment variables of a process that trains with the other members' over `port`, or alone without one.

        SLURM's ranks are told as torchrun's are, which needs less.
        """
        kept = {key: value for key, value in os.environ.items() if key not in LAUNCHERS and key[:13] != "TORCHELASTIC_"}
        if port is None or self.members == 1:
            return kept
        kept |= {"MASTER_ADDR": self.address, "MASTER_PORT": str(port)}
        if not self.outer:
            return {**kept, "NODE_RANK": str(self.rank)}
        each = self.devices or 1
        numbers = {"RANK": self.rank, "WORLD_SIZE": self.members, "LOCAL_RANK": self.rank % each}
        numbers |= {"LOCAL_WORLD_SIZE": each, "GROUP_RANK": self.rank // each}
        words = {"TORCHELASTIC_RUN_ID": "kuleshov", "TORCHELASTIC_USE_AGENT_STORE": "False"}
        return {**kept, **words, **{name: str(number) for name, number in numbers.items()}}


def detect(devices: int | None = None, nodes: int = 1) -> Launch:
    """Read torchrun's or SLURM's environment; `devices` and `nodes` hold where there is neither.

    Raises:
        UsageError: ranks that are not shared evenly by the nodes, or several nodes that were not told of each other.
    """
    address, port = os.environ.get("MASTER_ADDR", "127.0.0.1"), number("MASTER_PORT", 29500)
    world, slurm = number("WORLD_SIZE", 1), slurm_tasks()
    if "RANK" in os.environ and (world > 1 or "TORCHELASTIC_RUN_ID" in os.environ):
        each = number("LOCAL_WORLD_SIZE", world)
        return Launch(number("RANK", 0), world > 1, *shares(world, world // max(each, 1), "torchrun"), address, port)
    if slurm is not None:
        rank, tasks, count = slurm
        listed = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
        if count > 1 and "MASTER_ADDR" not in os.environ:
            address = first_host(os.environ.get("SLURM_JOB_NODELIST", listed))
        if "MASTER_PORT" not in os.environ:
            # as Lightning does: jobs that share a node seldom share the port
            port = 15000 + int((re.sub(r"\D", "", os.environ.get("SLURM_JOB_ID", "")) or "0")[-4:])
        return Launch(rank, True, *shares(tasks, count, "srun"), address, port)
    if nodes > 1 and not {"MASTER_ADDR", "NODE_RANK"} <= os.environ.keys():
        raise UsageError(
            f"--num_nodes {nodes} needs torchrun, srun, or on every node MASTER_ADDR (the first node's name) and "
            "NODE_RANK (0, 1, ...)"
        )
    return Launch(number("NODE_RANK", 0) if nodes > 1 else 0, False, devices, nodes, address, port)


def shares(ranks: int, nodes: int, launcher: str) -> tuple[int, int]:
    """Ranks of each node, and the nodes.

    Raises:
        UsageError: the nodes have different numbers of ranks.
    """
    if nodes < 1 or ranks % nodes:
        raise UsageError(f"{launcher} started {ranks} processes on {nodes} nodes: give each node the same number")
    return ranks // nodes, nodes


def slurm_tasks() -> tuple[int, int, int] | None:
    """This process's rank, the tasks and the nodes of the `srun` that started it, None where none or a lone one did.

    An allocation's variables also stand in its batch script and its shells, which are no ranks.
    """
    env = os.environ
    shell = env.get("SLURM_JOB_NAME") in ("bash", "interactive") or "SLURM_PTY_PORT" in env
    step = "SLURM_STEP_ID" in env or "SLURM_STEPID" in env
    if "SLURM_PROCID" not in env or shell or (not step and env.get("ENVIRONMENT") == "BATCH"):
        return None
    tasks = task_count(env.get("SLURM_STEP_NUM_TASKS") or env.get("SLURM_NTASKS", "1"))
    nodes = number("SLURM_STEP_NUM_NODES", number("SLURM_NNODES", 1))
    return (number("SLURM_PROCID", 0), tasks, nodes) if tasks > 1 else None


def settle_slurm() -> None:
    """For a training that Lightning starts: complete `srun`'s variables, hide an allocation's where no `srun` runs it.

    Lightning takes SLURM_NTASKS alone for `srun`, and refuses it without SLURM_NTASKS_PER_NODE.
    """
    found = slurm_tasks()
    if found is None or "RANK" in os.environ:
        os.environ.pop("SLURM_NTASKS", None)
        return
    rank, tasks, count = found
    each, _ = shares(tasks, count, "srun")
    os.environ |= {"SLURM_NTASKS": str(tasks), "SLURM_NTASKS_PER_NODE": str(each), "SLURM_NNODES": str(count)}
    for name, value in (("SLURM_LOCALID", rank % each), ("SLURM_NODEID", rank // each)):
        os.environ.setdefault(name, str(value))


def task_count(text: str) -> int:
    """Tasks that SLURM writes as a number, or as `2(x3),1` by node; 1 for what is neither."""
    found = [re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip()) for part in text.split(",")]
    return sum(int(part[1]) * int(part[2] or 1) for part in found if part) if all(found) else 1


def first_host(nodes: str) -> str:
    """The first name of SLURM's list of nodes: `gpu[03-05,9],cpu1` -> `gpu03`."""
    return re.sub(r"\[([^],-]+)[^]]*\].*", r"\1", nodes).split(",")[0].split(" ")[0]


def number(name: str, default: int) -> int:
    """A whole number of the environment.

    Raises:
        UsageError: the variable holds something else.
    """
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdigit():
        raise UsageError(f"the environment's {name} has to be a whole number, got {text!r}")
    return int(text)


def map_in_processes(
    function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int, unfinished: str
) -> Iterator[Any]:
    """Yield what `function` returns for each job's arguments, as they end; 0 workers: one after the other, here.

    The processes are spawned, so that they share nothing that this one has imported or opened, and end with it.

    Args:
        function: of a module, as processes need it.
        jobs: the arguments of each call.
        workers: most processes.
        unfinished: what is not complete, and what to do, where a process dies.

    Raises:
        KuleshovError: a process died.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed  # only who has such jobs waits for it
    from concurrent.futures.process import BrokenProcessPool

    if workers == 0 or not jobs:
        yield from (function(*job) for job in jobs)
        return
    count, spawn = min(workers, len(jobs)), multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=spawn, initializer=end_with_parent) as pool:
        futures = [pool.submit(function, *job) for job in jobs]
        try:
            yield from (future.result() for future in as_completed(futures))
        except BrokenProcessPool as error:
            raise KuleshovError(unfinished) from error
        finally:
            pool.shutdown(cancel_futures=True)


def end_with_parent() -> None:
    """End this process, and the group that it leads, when the process that started it is gone, however it went.

    For a process of Python's `multiprocessing`, and for one that inherits the variable PARENT. What this one forks,
    such as a data loader's workers, and the `kuleshov` processes that it starts end with it in turn.
    """
    parent = os.environ.get(PARENT, "0")
    started_by = multiprocessing.parent_process()
    if started_by is not None:
        parent = str(started_by.pid)
    if os.getppid() == int(parent):
        watch(int(parent))
    elif not is_alive(int(parent)):
        end()
    os.environ[PARENT] = str(os.getpid())
    if not _forks["guarded"]:
        os.register_at_fork(after_in_child=_after_fork)
    _forks["guarded"] = os.getpid()


def watch(parent: int) -> None:
    """Begin to wait, in a thread, for the death of the parent of this process."""

    def wait() -> None:
        # a child sees its parent's death by its parent's number, on any system
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        end()

    threading.Thread(target=wait, name="watch-parent", daemon=True).start()


def end() -> None:
    """Kill this process at once, and the group that it leads."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def is_alive(process: int) -> bool:
    """Whether there is a process of this number; 0 stands for one that is not known."""
    try:
        os.kill(process or os.getpid(), 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return True


_forks = {"guarded": 0}  # the process whose forks end with it


def _after_fork() -> None:
    parent, _forks["guarded"] = _forks["guarded"], os.getpid()
    watch(parent)
