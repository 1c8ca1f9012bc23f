"""Parameter groups and schedules against their formulas, and the optimizer that a module's arguments make."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kuleshov.core.errors import KuleshovError
from kuleshov.training.optimization import OptimizedModule, lr_schedule, parameter_groups


def test_only_kernels_decay():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    module[2].weight.requires_grad_(False)
    decayed, others = parameter_groups(module, 0.1)
    assert [p.ndim for p in decayed["params"]] == [4] and decayed["weight_decay"] == 0.1
    assert all(p.ndim == 1 for p in others["params"]) and others["weight_decay"] == 0.0


def expected(kind: str, step: int) -> float:
    share = min(1.0, max(0, step - 4) / 8)
    if step < 4:
        return (step + (kind != "linear")) / 4
    return {"cosine": 0.1 + 0.9 * (1 + math.cos(math.pi * share)) / 2, "linear": 1 - share, "constant": 1.0}[kind]


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_schedule_against_its_formula(kind: str):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = lr_schedule(optimizer, kind, warmup_steps=4, total_steps=12, final_factor=0.1)
    for step in range(15):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2.0 * expected(kind, step))
        optimizer.step()
        schedule.step()
    with pytest.raises(KuleshovError, match="warm-up of 9 steps exceeds the 8 of training"):
        lr_schedule(optimizer, kind, 9, 8)


class Two(OptimizedModule):
    def __init__(self, **shared) -> None:
        super().__init__(**shared)
        self.body, self.head = nn.Linear(2, 2), nn.Linear(2, 2)

    def lr_of(self, module: nn.Module) -> float:
        return 0.5 if module is self.head else super().lr_of(module)


def test_rates_follow_the_child_and_the_global_batch():
    module = Two(lr=0.1, lr_batch=4, optimizer="sgd", momentum=0.5, schedule="constant", weight_decay=0.2)
    trainer = {"estimated_stepping_batches": 10, "max_epochs": 5, "accumulate_grad_batches": 2}
    module._trainer = SimpleNamespace(datamodule=SimpleNamespace(batch_size=8), **trainer)
    optimizer = module.configure_optimizers()["optimizer"]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.4, 0.4, 2.0, 2.0])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.2, 0.0, 0.2, 0.0]
    module._trainer.estimated_stepping_batches = math.inf
    with pytest.raises(KuleshovError, match="max_epochs or trainer.max_steps"):
        module.configure_optimizers()


def test_a_rate_below_zero_is_refused():
    with pytest.raises(KuleshovError, match="lr must be a number of at least 0 that float32 has, got -1"):
        Two(lr=-1.0)
