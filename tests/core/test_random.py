import torch

from kuleshov.core.random import numpy_generator, torch_generator


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
