"""TxD: causality, the memory, the loss."""

import math

import pytest
import torch

from kuleshov.core.errors import KuleshovError
from kuleshov.tasks.role_decoder import RoleDecoder, next_token_loss


def small(memory_width=6, events=1):
    torch.manual_seed(0)
    return RoleDecoder(
        20, memory_width, width=16, layers=2, heads=4, feedforward=8, bottleneck=8, longest=12, events=events
    ).eval()


def test_later_tokens_change_nothing_before():
    network = small()
    memory = network.memories(torch.randn(1, 2, 6))
    tokens = torch.randint(20, (2, 8))
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 3) % 20
    before, after = network(tokens, memory), network(changed, memory)
    assert torch.allclose(before[:, :5], after[:, :5], atol=1e-6)
    assert not torch.allclose(before[:, 5:], after[:, 5:], atol=1e-3)


def test_an_event_sees_its_own_feature_or_all_five():
    events = torch.randn(2, 5, 6)
    moved = events.clone()
    moved[0, 3] += 1.0
    tokens = torch.randint(20, (10, 4))
    for count, touched in ((1, [3]), (5, [0, 1, 2, 3, 4])):
        network = small(events=count)
        a, b = network(tokens, network.memories(events)), network(tokens, network.memories(moved))
        different = [row for row in range(10) if not torch.allclose(a[row], b[row], atol=1e-6)]
        assert different == touched


def test_the_described_event_is_told_apart_among_five():
    network = small(events=5)
    memory = network.memories(torch.randn(1, 5, 6))
    tokens = torch.full((5, 3), 4)
    assert not torch.allclose(network(tokens, memory)[0], network(tokens, memory)[1], atol=1e-5)


def test_one_token_of_memory_adds_the_same_vector_everywhere():
    """With one token the attention's weight is 1: the layer adds a linear map of it."""
    layer, memory = small().layers[0], torch.randn(3, 1, 16)
    key, value = layer.memory_keys_values(memory)
    seen = layer.attend(torch.randn(3, 4, 7, 4), key, value)
    made = torch.nn.functional.linear(memory, layer.memory_to_kv.weight[16:], layer.memory_to_kv.bias[16:])
    assert torch.allclose(seen, made.expand_as(seen), atol=1e-6)


def test_loss_is_the_mean_over_what_follows_the_verb():
    logits = torch.randn(2, 4, 7)
    tokens = torch.tensor([[5, 2, 3, 1], [6, 1, 0, 0]])
    total = 0.0
    for row, position, target in ((0, 0, 2), (0, 1, 3), (0, 2, 1), (1, 0, 1)):
        total -= float(logits[row, position].log_softmax(-1)[target])
    assert float(next_token_loss(logits, tokens, pad=0)) == pytest.approx(total / 4, abs=1e-5)
    assert float(next_token_loss(torch.zeros(2, 4, 7), tokens, pad=0)) == pytest.approx(math.log(7), abs=1e-6)


def test_sizes_of_the_paper():
    with torch.device("meta"):
        network = RoleDecoder(8000, 1024)
    assert len(network.layers) == 3
    per_layer = 4 * 1024 * 1025 * 2 + 1024 * 2049 + 2048 * 1025 + 6 * 1024
    counted = sum(p.numel() for p in network.layers.parameters())
    assert counted == pytest.approx(3 * per_layer, rel=0.01)


def test_mistakes_are_told():
    with pytest.raises(KuleshovError, match="width 10 .* heads 4"):
        RoleDecoder(5, None, width=10, heads=4)
    with pytest.raises(KuleshovError, match="needs the memory that `memories` makes"):
        small()(torch.zeros(1, 2, dtype=torch.long))
    with pytest.raises(KuleshovError, match="is blind: give it no memory"):
        small(memory_width=None)(torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 1, 16))
