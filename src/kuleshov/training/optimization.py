"""Optimizers, schedules and their arguments, declared once for every module that learns."""

import math
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from kuleshov.core.errors import KuleshovError

OptimizerName = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "linear", "constant"]


MOST = torch.finfo(torch.float32).max


class OptimizedModule(pl.LightningModule):
    """A LightningModule whose optimizer and schedule follow from its hyper-parameters.

    Args:
        lr: peak learning rate.
        lr_batch: the global batch that `lr` is meant for: the rate is scaled in proportion to the batch used; null
            takes `lr` as it is.
        optimizer: adamw or sgd.
        weight_decay: of kernels (two or more dimensions); biases and norms get none.
        beta2: decay of AdamW's second moment.
        momentum: of SGD.
        nesterov: Nesterov's form of it.
        schedule: after the warm-up: half a cosine or a line down to `final_lr_factor`, or constant.
        final_lr_factor: share of the rate at the end of a cosine.
        warmup_epochs: epochs of linear warm-up.
    """

    def __init__(
        self,
        *,
        lr: float = 1e-4,
        lr_batch: int | None = None,
        optimizer: OptimizerName = "adamw",
        weight_decay: float = 0.01,
        beta2: float = 0.999,
        momentum: float = 0.9,
        nesterov: bool = False,
        schedule: Schedule = "cosine",
        final_lr_factor: float = 0.0,
        warmup_epochs: float = 0.0,
    ) -> None:
        super().__init__()
        numbers = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "final_lr_factor": final_lr_factor}
        for name, value in {**numbers, "warmup_epochs": warmup_epochs}.items():
            if not 0 <= value <= MOST:
                raise KuleshovError(f"{name} must be a number of at least 0 that float32 has, got {value}")
        if not 0 <= beta2 < 1:
            raise KuleshovError(f"beta2 must be at least 0 and below 1, got {beta2}")
        if lr_batch is not None and lr_batch < 1:
            raise KuleshovError(f"lr_batch must be at least 1, got {lr_batch}")
        if nesterov and not momentum:
            raise KuleshovError("nesterov needs a momentum above 0")
        self.save_hyperparameters()

    def lr_of(self, module: nn.Module) -> float:
        """The learning rate of one of the module's children."""
        return self.hparams.lr

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the children, each with its rate; kernels decay."""
        decay = self.hparams.weight_decay
        return [
            {**group, "lr": self.lr_of(child)} for child in self.children() for group in parameter_groups(child, decay)
        ]

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimizer, and its schedule by the step.

        Raises:
            KuleshovError: a training without end, for which a schedule has no length.
        """
        given, trainer = self.hparams, self.trainer
        groups, scale = self.parameter_groups(), 1.0
        if given.lr_batch is not None:
            scale = trainer.datamodule.batch_size * trainer.accumulate_grad_batches / given.lr_batch
        groups = [{**group, "lr": group["lr"] * scale} for group in groups]
        if given.optimizer == "sgd":
            optimizer: Optimizer = torch.optim.SGD(groups, given.lr, momentum=given.momentum, nesterov=given.nesterov)
        else:
            optimizer = torch.optim.AdamW(groups, given.lr, betas=(0.9, given.beta2))
        total = trainer.estimated_stepping_batches
        if math.isinf(total):
            raise KuleshovError("the schedule needs an end: set trainer.max_epochs or trainer.max_steps")
        epochs = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else 1
        # a shortened training (fast_dev_run) is all warm-up
        warmup = min(round(given.warmup_epochs * total / epochs), int(total))
        schedule = lr_schedule(optimizer, given.schedule, warmup, int(total), given.final_lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: kernels (two or more dimensions), which decay, and the rest, which does not."""
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    kernels = [parameter for parameter in learned if parameter.ndim >= 2]
    others = [parameter for parameter in learned if parameter.ndim < 2]
    groups = [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def lr_schedule(
    optimizer: Optimizer, kind: Schedule, warmup_steps: int, total_steps: int, final_factor: float = 0.0
) -> LambdaLR:
    """Linear warm-up to the base rates, then their course until `total_steps`.

    Args:
        optimizer: carries the base rates.
        kind: `cosine` falls by half a cosine to `final_factor`, `linear` to 0, `constant` stays. The first step's
            rate is base / warmup_steps, with `linear` 0 (as Hugging Face's schedule, which LVU's code uses).
        warmup_steps: steps of the warm-up.
        total_steps: step at which the final rate is reached.
        final_factor: share of the base rate at the end of a cosine.

    Raises:
        KuleshovError: the warm-up is longer than the training.
    """
    if warmup_steps > total_steps:
        raise KuleshovError(f"warm-up of {warmup_steps} steps exceeds the {total_steps} of training: shorten it")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + (kind != "linear")) / warmup_steps
        if kind == "constant":
            return 1.0
        rest = max(1, total_steps - warmup_steps)
        if kind == "linear":
            return max(0.0, (total_steps - step) / rest)
        progress = min(1.0, (step - warmup_steps) / rest)
        return final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)
