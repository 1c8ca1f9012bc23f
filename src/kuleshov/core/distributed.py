"""Collectives that also work in one process, in which they change nothing."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def active() -> bool:
    """Whether a process group is there."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """This process's rank, 0 without a process group."""
    return dist.get_rank() if active() else 0


def world_size() -> int:
    """Number of processes, 1 without a process group."""
    return dist.get_world_size() if active() else 1


class _Gather(torch.autograd.Function):
    """All-gather along the first dimension whose backward sums the gradients of all ranks."""

    @staticmethod
    def forward(ctx, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(world_size())]
        dist.all_gather(parts, local.contiguous())
        ctx.rows = local.shape[0]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def gather_with_gradient(local: Tensor) -> Tensor:
    """Concatenate (B, ...) tensors of equal shape over the ranks, in rank order, keeping gradients.

    The backward pass sums the gradients that all ranks hold for a row: a loss that every rank computes
    over the whole gathered batch is therefore to be averaged over ranks, as DDP does.
    """
    return _Gather.apply(local) if world_size() > 1 else local


@torch.no_grad()
def gather_rows(local: Tensor) -> Tensor:
    """Concatenate (n, ...) tensors over the ranks, in rank order; n may differ between ranks; no gradient."""
    if world_size() == 1:
        return local.detach()
    counts = [torch.zeros(1, dtype=torch.long, device=local.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([local.shape[0]], device=local.device))
    sizes = [int(count) for count in counts]
    padded = local.new_zeros((max(sizes), *local.shape[1:]))
    padded[: local.shape[0]] = local.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def gather_objects(local: list[Any]) -> list[Any]:
    """Concatenate lists of picklable objects over the ranks, in rank order, on every rank."""
    if world_size() == 1:
        return list(local)
    parts: list[list[Any] | None] = [None] * world_size()
    dist.all_gather_object(parts, local)
    return [item for part in parts for item in part or []]


def leave_group() -> None:
    """Leave the process group, if this process is in one: gloo's threads that outlive the interpreter abort it."""
    if active():
        dist.destroy_process_group()
