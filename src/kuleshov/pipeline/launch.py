"""The machine that a runner works on: cores, devices, and launchers such as torchrun and SLURM."""

import os
import shutil
from dataclasses import dataclass

from kuleshov.core.processes import number, under_srun

RANKS = ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS")  # what launchers tell their processes


@dataclass(frozen=True)
class Launch:
    """Who starts the ranks, and how many there are.

    Attributes:
        rank: this process's rank among those that an outer launcher started; 0 without one.
        outer: whether torchrun or SLURM started one process a rank.
        devices: devices a node; None leaves it to the configuration.
        nodes: number of nodes.
    """

    rank: int
    outer: bool
    devices: int | None
    nodes: int

    def ranks(self, configured: int) -> int:
        """Number of processes that train together, where the configuration asks for `configured` devices."""
        return (self.devices or configured) * self.nodes

    def environment(self, fit: int | None) -> dict[str, str]:
        """A job's environment variables.

        Args:
            fit: number of the fit: each takes a port of its own, as an outer launcher's store serves one only. None
                for other jobs, which run on rank 0 alone.
        """
        environment = dict(os.environ)
        if not self.outer:
            return environment
        if fit is None:
            return {name: value for name, value in environment.items() if name not in RANKS}
        if "MASTER_PORT" in environment:
            port = str(int(environment["MASTER_PORT"]) + 1 + fit)
            environment |= {"MASTER_PORT": port, "TORCHELASTIC_USE_AGENT_STORE": "False"}
        return environment

    def threads(self, processes: int) -> int:
        """Threads of each of `processes` side by side: what the user's OMP_NUM_THREADS says, else an even share."""
        asked = os.environ.get("OMP_NUM_THREADS", "")
        return int(asked) if asked.isdigit() and int(asked) else max(1, cores() // processes)


def detect(devices: int | None, nodes: int) -> Launch:
    """Read torchrun's or srun's environment; `devices` and `nodes` hold where there is neither."""
    env = os.environ
    if number("WORLD_SIZE") > 1 and "RANK" in env:
        local = number("LOCAL_WORLD_SIZE", number("WORLD_SIZE"))
        return Launch(number("RANK", 0), True, local, number("WORLD_SIZE") // local)
    if under_srun() and number("SLURM_NTASKS") > 1:
        count = number("SLURM_NNODES")
        return Launch(number("SLURM_PROCID", 0), True, number("SLURM_NTASKS") // count, count)
    return Launch(0, False, devices, nodes)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu() -> bool:
    """Whether an NVIDIA GPU seems to be there, without importing torch."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") != "" and shutil.which("nvidia-smi") is not None
