"""Parameter groups and learning-rate schedules."""

import math

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from kuleshov.core.errors import KuleshovError


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups: kernels (two or more dimensions), which decay, and the rest, which does not.

    Args:
        module: its trainable parameters are grouped, in order.
        weight_decay: decay of the kernels; biases and norms get none.
    """
    kernels, others = [], []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (kernels if parameter.ndim >= 2 else others).append(parameter)
    groups = [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def warmup_cosine(
    optimizer: Optimizer, warmup_steps: int, total_steps: int, final_factor: float = 0.0
) -> LambdaLR:
    """Linear warm-up from 0 to the base rate, then half a cosine down to `final_factor` of it.

    Args:
        optimizer: carries the base rates.
        warmup_steps: number of steps of warm-up; the first step has rate base / warmup_steps.
        total_steps: step at which the final rate is reached; it stays there.
        final_factor: share of the base rate at the end.

    Raises:
        KuleshovError: the warm-up is longer than the training.
    """
    if warmup_steps > total_steps:
        raise KuleshovError(
            f"warm-up of {warmup_steps} steps exceeds the {total_steps} of training: shorten it"
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
