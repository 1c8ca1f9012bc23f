"""The machine a runner finds itself on: cores, devices, and launchers such as torchrun and SLURM."""

import os
import shutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """Who starts the ranks, and how many there are.

    Attributes:
        rank: this process's rank among those that an outer launcher started; 0 without one.
        outer: whether torchrun or SLURM started one process a rank.
        devices: devices a node.
        nodes: number of nodes.
    """

    rank: int
    outer: bool
    devices: int
    nodes: int

    @property
    def distributed(self) -> bool:
        """Whether a fit has more than one rank."""
        return self.devices * self.nodes > 1

    def job_environment(self, number: int) -> dict[str, str]:
        """Variables for the `number`-th fit: a port of its own, as an outer store serves one only."""
        if not self.outer or "MASTER_PORT" not in os.environ:
            return {}
        port = int(os.environ["MASTER_PORT"]) + 1 + number
        return {"MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "False"}


def detect(devices: int, nodes: int) -> Launch:
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
