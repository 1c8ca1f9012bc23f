"""The machine that a runner works on: cores, devices, and launchers such as torchrun and SLURM."""

import os
import shutil
from dataclasses import dataclass

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


def detect(devices: int | None, nodes: int) -> Launch:
    """Read torchrun's or SLURM's environment; `devices` and `nodes` hold where there is neither."""
    env = os.environ
    if int(env.get("WORLD_SIZE", "1")) > 1 and "RANK" in env:
        local = int(env.get("LOCAL_WORLD_SIZE", env["WORLD_SIZE"]))
        return Launch(int(env["RANK"]), True, local, int(env["WORLD_SIZE"]) // local)
    if int(env.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in env:
        count = int(env.get("SLURM_NNODES", "1"))
        return Launch(int(env["SLURM_PROCID"]), True, int(env["SLURM_NTASKS"]) // count, count)
    return Launch(0, False, devices, nodes)


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_gpu() -> bool:
    """Whether an NVIDIA GPU seems to be there, without importing torch."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") != "" and shutil.which("nvidia-smi") is not None
