"""Activations computed again: the same step to the bit, with less kept."""

import copy

import pytest
import torch

from kuleshov.backbones.architectures import slow_d_r50, slow_r50
from kuleshov.core.errors import KuleshovError
from kuleshov.pretraining.batch_norm import exact_batch_norm


def step(network: torch.nn.Module, clips: torch.Tensor) -> tuple[list[torch.Tensor], int]:
    """Features, gradients and buffers of a training step, and the bytes that its forward pass kept."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        features = network(clips)
    features.square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    return [features.detach(), *gradients, *network.buffers()], sum(kept.values())


@pytest.mark.parametrize("exact", [False, True])
def test_the_step_is_the_same_and_less_is_kept(exact):
    torch.manual_seed(0)
    network = slow_d_r50(width=2, zero_init_final_gamma=False)
    if exact:
        exact_batch_norm(network)
    clips = torch.rand(3, 3, 4, 64, 64)
    expected, most = step(copy.deepcopy(network), clips)
    before = most
    for stages in (1, 2, 4):
        other = copy.deepcopy(network)
        other.recompute(stages)
        found, kept = step(other, clips)
        for true, value in zip(expected, found, strict=True):
            assert torch.equal(true, value)
        assert kept < before
        before = kept
    assert before < 0.6 * most


def test_nothing_changes_without_gradients():
    torch.manual_seed(0)
    network = slow_r50(width=1).eval()
    clips = torch.rand(1, 3, 2, 32, 32)
    expected = network(clips)
    network.recompute(4)
    assert torch.equal(network(clips), expected)
    with pytest.raises(KuleshovError, match="4 residual stages: 5 of them cannot be computed again"):
        network.recompute(5)


def test_compiled_code_steps_out_of_it():
    torch.manual_seed(0)
    network = slow_d_r50(width=1)
    network.recompute(2)
    clips = torch.rand(2, 3, 2, 32, 32)
    expected, _ = step(copy.deepcopy(network), clips)
    # eager backend: the graph is taken apart and run as it is, which needs no compiler here
    compiled = copy.deepcopy(network)
    compiled.compile(backend="eager")
    found, _ = step(compiled, clips)
    for true, value in zip(expected, found, strict=True):
        torch.testing.assert_close(value, true)
