"""Run by test_ranks.py, one process a rank: three steps of CVRL and of MoDist on a share of a fixed batch.

Usage: ranks.py RANK WORLD RENDEZVOUS OUTPUT PRECISION
"""

import sys

import torch
import torch.distributed as dist

from kuleshov.backbones.architectures import architecture
from kuleshov.backbones.resnet3d import ResNet3d
from kuleshov.pretraining import modist as modist_module
from kuleshov.pretraining import pretraining_module as pretraining
from kuleshov.pretraining.batch_norm import share_batch_norm
from kuleshov.pretraining.cvrl import CVRL
from kuleshov.pretraining.modist import MoDist

BATCH = 8
STEPS = 3
NARROW = {"width": 2, "hidden_width": 16, "embedding_width": 8}


def clips(step: int, name: str) -> torch.Tensor:
    """One fixed tensor (B, 3, T, H, W) of the global batch."""
    number = ("clip_a", "clip_b", "motion_a", "motion_b").index(name)
    generator = torch.Generator().manual_seed(10 * step + number)
    return torch.rand(BATCH, 3, 4, 32, 32, generator=generator)


def average_gradients(module: torch.nn.Module, world: int) -> None:
    """What DistributedDataParallel does with gradients."""
    for parameter in module.parameters():
        if parameter.grad is not None and world > 1:
            dist.all_reduce(parameter.grad)
            parameter.grad /= world


def train(module: torch.nn.Module, names: tuple[str, ...], rank: int, world: int) -> dict[str, torch.Tensor]:
    """Losses and first gradients of three steps, and the state after them."""
    share_batch_norm(module, "cpu")
    share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
    found = {}
    for step in range(STEPS):
        batch = {name: clips(step, name)[share].to(next(module.parameters()).dtype) for name in names}
        loss = module.loss(batch)[0] if "motion_a" in batch else module.loss(*batch.values())[0]
        optimizer.zero_grad()
        loss.backward()
        average_gradients(module, world)
        total = loss.detach().clone()
        if world > 1:
            dist.all_reduce(total)
        found[f"loss/{step}"] = total / world
        if step == 0 or "motion_a" in batch:
            # MoDist's first step has empty queues and therefore no gradient
            found |= {f"grad{step}/{n}": p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
        optimizer.step()
    return found | {f"state/{name}": value.clone() for name, value in module.state_dict().items()}


def shallow(name: str, width: int | None = None, zero_init_final_gamma: bool = False) -> ResNet3d:
    """A backbone with one block a stage, so that there are fewer collectives to wait for."""
    sizes = architecture(name)
    network = ResNet3d(width or 2, sizes.stem_kernel, sizes.stem_stride, sizes.temporal_kernels, depths=(1, 1, 1, 1))
    network.architecture = name
    return network


def modules() -> dict[str, tuple[torch.nn.Module, tuple[str, ...]]]:
    """The two methods at tiny size, from a fixed seed, with blocks that start at full strength."""
    torch.manual_seed(0)
    pretraining.build = modist_module.build = shallow
    cvrl = CVRL(**NARROW)
    # the queue is no multiple of the batch, and wraps round
    sizes = {**NARROW, "motion_width": 2, "queue_size": 20, "key_momentum": 0.9, "motion_weight": 0.5}
    modist, batch = MoDist(**sizes), MoDist(**sizes, batch_negatives=True, recompute_stages=2)
    parts = ("clip_a", "clip_b", "motion_a", "motion_b")
    return {
        "cvrl": (cvrl, ("clip_a", "clip_b")),
        "modist": (modist, parts),
        "modist, the batch's negatives": (batch, parts),
    }


def run(rank: int, world: int, precision: torch.dtype) -> dict[str, dict[str, torch.Tensor]]:
    """All results of one process."""
    return {name: train(module.to(precision), names, rank, world) for name, (module, names) in modules().items()}


def main() -> None:
    rank, world, rendezvous, output, precision = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    # one thread with few clips would take other convolutions than one with many, which round differently
    torch.set_num_threads(1 if precision == "float64" else 2)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    results = run(rank, world, getattr(torch, precision))
    torch.save(results, f"{output}.{rank}")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
