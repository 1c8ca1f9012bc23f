"""Segments on one grid, and the three kinds of context."""

from pathlib import Path

import pytest
import torch

from kuleshov.core.errors import KuleshovError, StoreError
from kuleshov.features.feature_store import EventStore
from kuleshov.txe import load, save
from kuleshov.txe.contextualizer import Contextualizer, segment_features

SIZES = {"hidden": 8, "layers": 1, "heads": 2, "feedforward": 12}


@pytest.fixture
def weights(tmp_path: Path, tiny_txe) -> str:
    txe = tiny_txe(feature_normalization="center", layers=1)
    txe.normalizer.fit(torch.rand(30, 6))
    save(tmp_path / "txe.safetensors", txe, {})
    return str(tmp_path / "txe.safetensors")


def make(kind: str, weights: str, **options) -> Contextualizer:
    torch.manual_seed(0)
    if kind == "pretrained":
        return Contextualizer(kind, 6, weights, **options).eval()
    sizes = SIZES if kind == "scratch" else {}
    return Contextualizer(kind, 6, **sizes, **options).eval()


def test_segments_come_on_the_grid_asked_for(make_store):
    store = EventStore(make_store(counts=[9, 12, 9], stride=1.0))
    ids, events = segment_features(store, ["movie002", "movie000"])
    assert events.shape == (2, 5, 6) and ids == ["movie002", "movie000"]
    assert torch.equal(events[0], store.events("movie002")[::2])
    _, every_second = segment_features(store, ["movie001"], n=9, stride_s=1.0)
    assert torch.equal(every_second[0], store.events("movie001")[:9])


def test_missing_segments_are_named_or_left_out(make_store):
    store = EventStore(make_store(counts=[5, 5]))
    with pytest.raises(StoreError, match=r"2 of 3 segments are not in .*store \(first gone\): extract"):
        segment_features(store, ["gone", "movie001", "lost"])
    ids, events = segment_features(store, ["gone", "movie001"], allow_missing=True)
    assert ids == ["movie001"] and events.shape == (1, 5, 6)
    with pytest.raises(StoreError, match="1 of 1 segments are not in"):
        segment_features(store, ["gone"], allow_missing=True)


@pytest.mark.parametrize("kind", ["none", "scratch", "pretrained"])
def test_kinds_agree_in_all_but_their_width(kind: str, weights: str):
    context = make(kind, weights)
    assert context(torch.rand(3, 5, 6)).shape == (3, 5, context.out_width)
    assert context.out_width == (6 if kind == "none" else 8)


def test_none_passes_features_on(weights: str):
    events = torch.rand(2, 5, 6)
    assert torch.equal(make("none", weights)(events), events)
    normed = make("none", weights, layer_norm=True)(events)
    torch.testing.assert_close(normed.mean(-1), torch.zeros(2, 5), atol=1e-6, rtol=0)


def test_pretrained_brings_its_weights_and_statistics(weights: str):
    context, events = make("pretrained", weights), torch.rand(2, 5, 6)
    context.fit_statistics(torch.rand(9, 6) + 50)
    assert torch.equal(context(events), load(weights)(events))


@pytest.mark.parametrize("kind", ["none", "scratch"])
def test_statistics_are_taken_from_the_training_features(kind: str, weights: str):
    context = make(kind, weights, feature_normalization="standardize")
    features = torch.rand(40, 5, 6) * 9 + 4
    context.fit_statistics(features)
    normalizer = context.normalizer if kind == "none" else context.txe.normalizer
    found = normalizer(features).flatten(0, 1)
    torch.testing.assert_close(found.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(0, False), torch.ones(6), atol=1e-4, rtol=0)


def test_every_trainable_parameter_gets_a_gradient(weights: str):
    for kind in ("scratch", "pretrained"):
        context = make(kind, weights)
        context(torch.rand(2, 5, 6)).square().sum().backward()
        named = [(name, p) for name, p in context.named_parameters() if p.requires_grad]
        assert named and all(p.grad is not None for _, p in named)


def test_frozen_learns_nothing_and_drops_nothing(weights: str):
    context = make("pretrained", weights, frozen=True, dropout=0.5).train()
    assert not any(p.requires_grad for p in context.parameters())
    events = torch.rand(2, 5, 6)
    assert torch.equal(context(events), context(events))
    # the check can fail: what is not frozen does drop
    loose = make("pretrained", weights, dropout=0.5).train()
    assert not torch.equal(loose(events), loose(events))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("pretrained", {}, "context=pretrained needs txe_weights: got None"),
        ("none", {"txe_weights": "w.safetensors"}, "context=none takes no txe_weights: got w.safetensors"),
        ("some", {}, "context is none, scratch or pretrained, not 'some'"),
    ],
)
def test_contradictions_are_refused(kind, options, message):
    with pytest.raises(KuleshovError, match=message):
        Contextualizer(kind, 6, **options)


def test_sizes_that_disagree_with_the_weights_are_refused(weights: str):
    with pytest.raises(KuleshovError, match=r"was trained with hidden=8, the configuration has 16"):
        Contextualizer("pretrained", 6, weights, hidden=16)
    with pytest.raises(KuleshovError, match=r"was trained with input_width=6, the configuration has 7"):
        Contextualizer("pretrained", 7, weights)


def slow_long(context: Contextualizer, events: torch.Tensor, step: int, windows: str) -> torch.Tensor:
    """Window by window: each event from its most central window, or from its block."""
    out = torch.zeros(len(events), context.out_width)
    for phase in range(step):
        rows = list(range(phase, len(events), step))
        size = min(5, len(rows))
        if windows == "blocks":
            begins = [*range(0, len(rows) - size + 1, max(size, 1)), len(rows) - size]
        else:
            begins = range(len(rows) - size + 1)
        found: dict[int, list] = {row: [] for row in rows}
        for begin in begins if rows else []:
            window = rows[begin : begin + size]
            for place, value in enumerate(context(events[window][None])[0]):
                found[window[place]].append((abs(place - size // 2), value))
        for row, values in found.items():
            # the moved last block takes its events from the block before it
            out[row] = values[-1][1] if windows == "blocks" else min(values, key=lambda pair: pair[0])[1]
    return out


@torch.no_grad()
@pytest.mark.parametrize("windows", ["sliding", "blocks"])
@pytest.mark.parametrize("length", [1, 3, 5, 6, 10, 17])
def test_long_sequences_equal_window_by_window(length: int, windows: str, weights: str):
    context, events = make("pretrained", weights), torch.rand(length, 6)
    for step in (1, 2, 3):
        found = context.contextualize_long(events, step, windows)
        torch.testing.assert_close(found, slow_long(context, events, step, windows), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("windows", ["sliding", "blocks"])
def test_padded_batches_equal_sequence_by_sequence(windows: str, weights: str):
    events, length = torch.rand(3, 13, 6), torch.tensor([13, 4, 9])
    for kind in ("none", "scratch", "pretrained"):
        context = make(kind, weights)
        found = context.contextualize_padded(events, length, windows, step=2)
        for one, sequence, size in zip(found, events, length.tolist(), strict=True):
            torch.testing.assert_close(one[:size], context.contextualize_long(sequence[:size], 2, windows))
            assert not one[size:].any()
    with pytest.raises(KuleshovError, match="windows is sliding or blocks, not 'whole'"):
        make("scratch", weights).contextualize_long(events, 1, "whole")


@pytest.mark.parametrize("kind", ["scratch", "pretrained"])
def test_a_residual_path_adds_the_embedded_input(kind: str, weights: str):
    plain, residual = make(kind, weights), make(kind, weights, residual=True)
    events = torch.rand(1, 12, 6)
    torch.testing.assert_close(residual(events[:, :5]), plain(events[:, :5]) + plain.txe.embed(events[:, :5]))
    for windows in ("sliding", "blocks"):
        expected = plain.contextualize_long(events, windows=windows) + plain.txe.embed(events)
        torch.testing.assert_close(residual.contextualize_long(events, windows=windows), expected)
