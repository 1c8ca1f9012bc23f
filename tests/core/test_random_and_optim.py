import math

import pytest
import torch
from torch import nn

from kuleshov.core.errors import KuleshovError
from kuleshov.core.random import numpy_generator, torch_generator
from kuleshov.training.optimization import parameter_groups, warmup_cosine


def test_generators_belong_to_the_sample():
    keys = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    draws = {key: numpy_generator(*key).random() for key in keys}
    assert len(set(draws.values())) == len(draws)
    for key, value in draws.items():
        assert numpy_generator(*key).random() == value


def test_torch_generators_too():
    draws = [torch.rand(1, generator=torch_generator(0, 0, index)).item() for index in range(50)]
    assert len(set(draws)) == 50
    assert torch.rand(1, generator=torch_generator(0, 0, 3)).item() == draws[3]


def test_only_kernels_decay():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    module[2].weight.requires_grad_(False)
    decayed, others = parameter_groups(module, 0.1)
    assert [p.ndim for p in decayed["params"]] == [4] and decayed["weight_decay"] == 0.1
    assert all(p.ndim == 1 for p in others["params"]) and others["weight_decay"] == 0.0


def test_schedule_against_its_formula():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, warmup_steps=4, total_steps=12, final_factor=0.1)
    for step in range(15):
        if step < 4:
            expected = 2.0 * (step + 1) / 4
        else:
            share = min(1.0, (step - 4) / 8)
            expected = 2.0 * (0.1 + 0.9 * (1 + math.cos(math.pi * share)) / 2)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)
        optimizer.step()
        schedule.step()
    with pytest.raises(KuleshovError, match="warm-up of 9 steps exceeds the 8 of training"):
        warmup_cosine(optimizer, 9, 8)
