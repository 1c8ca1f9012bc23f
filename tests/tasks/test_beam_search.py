"""Beam search against exhaustive search, cached against uncached, batched against one by one."""

import itertools

import pytest
import torch

from kuleshov.core.errors import KuleshovError
from kuleshov.tasks.beam_search import beam_search
from kuleshov.tasks.role_decoder import RoleDecoder

END, PAD = 1, 0


def decoder(vocabulary=6, events=1, memory_width=5, seed=0, end_bias=0.0):
    torch.manual_seed(seed)
    network = RoleDecoder(
        vocabulary, memory_width, width=16, layers=2, heads=2, feedforward=16, bottleneck=8, longest=32, events=events
    )
    with torch.no_grad():  # sharper than fresh weights, so that hypotheses differ
        for parameter in network.parameters():
            parameter.mul_(2.0)
        network.output.bias[END] += end_bias
    return network.eval()


@torch.no_grad()
def sequence_score(network, first, memory, text, penalty):
    tokens = torch.tensor([[first, *text]])
    scores = network(tokens, memory).log_softmax(-1)
    total = sum(scores[0, i, token] for i, token in enumerate(text))
    return float(total) / len(text) ** penalty


def exhaustive(network, first, memory, allowed, longest, penalty):
    texts = [
        [*body, END]
        for length in range(longest)
        for body in itertools.product([t for t in allowed if t != END], repeat=length)
    ]
    scored = [(sequence_score(network, first, memory, text, penalty), text) for text in texts]
    return max(scored)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_wide_beam_finds_what_exhaustive_search_finds(penalty, seed):
    network = decoder(vocabulary=5, seed=seed)
    memory = network.memories(torch.randn(1, 3, 5))
    first = torch.tensor([2, 3, 4])
    options = {"end": END, "pad": PAD, "never": [PAD], "beam": 200, "longest": 4, "length_penalty": penalty}
    tokens, scores = beam_search(network, first, memory, **options)
    for event in range(3):
        score, text = exhaustive(network, int(first[event]), memory[event : event + 1], [1, 2, 3, 4], 4, penalty)
        assert [int(token) for token in tokens[event] if token != PAD] == text
        assert float(scores[event]) == pytest.approx(score, abs=1e-5)


def uncached_greedy(network, first, memory, never, longest):
    tokens = [first]
    while len(tokens) <= longest:
        scores = network(torch.tensor([tokens]), memory)[0, -1].clone()
        scores[never] = -torch.inf
        tokens.append(int(scores.argmax()) if len(tokens) < longest else END)
        if tokens[-1] == END:
            break
    return tokens[1:]


@pytest.mark.parametrize("events", [1, 5])
def test_cached_greedy_equals_uncached_greedy(events):
    network = decoder(vocabulary=30, events=events, end_bias=4.0)
    memory = network.memories(torch.randn(4, 5, 5))
    first = torch.arange(20) % 28 + 2
    written, _ = beam_search(network, first, memory, end=END, pad=PAD, never=[PAD, 7], longest=12)
    lengths = set()
    for event in range(20):
        plain = uncached_greedy(network, int(first[event]), memory[event : event + 1], [PAD, 7], 12)
        found = [int(token) for token in written[event] if token != PAD]
        assert found == plain
        lengths.add(len(found))
    assert len(lengths) > 1


@pytest.mark.parametrize("beam", [1, 3])
def test_batched_equals_one_by_one(beam):
    network = decoder(vocabulary=30, events=5)
    memory = network.memories(torch.randn(4, 5, 5))
    first = torch.arange(20) % 28 + 2
    options = {"end": END, "pad": PAD, "never": [PAD], "beam": beam, "longest": 10}
    together, scores = beam_search(network, first, memory, **options)
    for event in range(20):
        alone, score = beam_search(network, first[event : event + 1], memory[event : event + 1], **options)
        assert alone[0].tolist() == together[event].tolist()
        assert float(score[0]) == pytest.approx(float(scores[event]), abs=1e-5)


def test_what_is_never_written_is_not_written_and_every_text_ends():
    network = decoder(vocabulary=30)
    memory = network.memories(torch.randn(2, 5, 5))
    never = [PAD, 5, 6, 7, 8]
    options = {"end": END, "pad": PAD, "never": never, "beam": 4, "longest": 9}
    written, scores = beam_search(network, torch.full((10,), 2), memory, **options)
    assert not torch.isin(written, torch.tensor(never[1:])).any()
    assert ((written == END).sum(1) == 1).all()
    ends = (written == END).long().argmax(1)
    for tokens, end in zip(written.tolist(), ends.tolist(), strict=True):
        assert tokens[end + 1 :] == [PAD] * (8 - end) and PAD not in tokens[:end]
    assert scores.isfinite().all()


def test_language_only_needs_no_memory():
    network = decoder(memory_width=None)
    written, _ = beam_search(network, torch.tensor([2, 3]), None, end=END, pad=PAD, never=[PAD], beam=2, longest=6)
    assert written.shape == (2, 6)
    assert network.memories(torch.randn(1, 2, 5)) is None


def test_a_beam_of_nothing_is_refused():
    with pytest.raises(KuleshovError, match="beam and longest must be at least 1, got 0 and 6"):
        beam_search(decoder(), torch.tensor([2]), None, end=END, pad=PAD, never=[], beam=0, longest=6)
