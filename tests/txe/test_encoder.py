"""TxE and its input's normalization: shapes, masks, attention, statistics, files."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.weights import save_weights
from kuleshov.txe import TxE, load, save
from kuleshov.txe.feature_normalizer import FeatureNormalizer, whitening


def reference(txe: TxE, events: torch.Tensor) -> torch.Tensor:
    """The encoder by PyTorch's own post-norm layer, one layer a block."""
    hidden = txe.project(events) + txe.position[: events.shape[1]]
    for block in txe.blocks:
        layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True).eval()
        pairs = {
            "self_attn.in_proj_": block.to_qkv,
            "self_attn.out_proj.": block.from_heads,
            "linear1.": block.widen,
            "linear2.": block.narrow,
            "norm1.": block.attention_norm,
            "norm2.": block.feedforward_norm,
        }
        weights = {f"{name}{part}": getattr(m, part) for name, m in pairs.items() for part in ("weight", "bias")}
        layer.load_state_dict(weights)
        hidden = layer(hidden)
    return hidden


def test_equals_pytorchs_encoder(tiny_txe):
    txe, events = tiny_txe(), torch.randn(3, 5, 6)
    torch.testing.assert_close(txe(events), reference(txe, events))


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_runs_on_any_length_up_to_its_own(positions: str, tiny_txe):
    txe = tiny_txe(positions=positions, max_events=7)
    assert [tuple(txe(torch.randn(2, n, 6)).shape) for n in (1, 4, 7)] == [(2, 1, 8), (2, 4, 8), (2, 7, 8)]
    with pytest.raises(KuleshovError, match=r"a window of 8 events is longer than max_events=7"):
        txe(torch.randn(2, 8, 6))


def test_a_hidden_events_input_changes_nothing(tiny_txe):
    txe, events = tiny_txe(), torch.randn(2, 5, 6)
    masked = torch.tensor([[False, True, True, False, False]] * 2)
    other = torch.where(masked.unsqueeze(-1), torch.full_like(events, 1e6), events)
    assert torch.equal(txe(events, masked), txe(other, masked))
    # the check can fail: what is shown does matter
    assert not torch.equal(txe(events, masked), txe(events + 1, masked))
    assert not torch.equal(txe(events, masked), txe(events))


def test_reconstructions_and_targets_have_unit_length(tiny_txe):
    txe, events = tiny_txe(), torch.randn(2, 5, 6) * 3
    torch.testing.assert_close(txe.reconstruct(txe(events)).norm(dim=-1), torch.ones(2, 5))
    torch.testing.assert_close(txe.targets(events), F.normalize(events, dim=-1))
    assert not txe.targets(events.requires_grad_()).requires_grad


def test_attention_maps_are_those_of_the_forward_pass(tiny_txe):
    txe, events = tiny_txe(), torch.randn(2, 5, 6)
    maps = txe.attention_maps(events)
    assert maps.shape == (2, 2, 2, 5, 5)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, 2, 5))
    block, hidden = txe.blocks[0], txe.begin(txe.embed(events))
    mixed = (maps[0] @ block.qkv(hidden)[2]).transpose(1, 2).reshape(hidden.shape)
    expected = block.attention_norm(hidden + block.from_heads(mixed))
    expected = block.feedforward_norm(expected + block.narrow(F.relu(block.widen(expected))))
    torch.testing.assert_close(block(hidden), expected)


def test_full_size_has_the_papers_shape():
    with torch.device("meta"):
        txe = TxE(2048)
    assert txe.position.shape == (5, 1024) and len(txe.blocks) == 3 and txe.blocks[0].heads == 16
    count = sum(parameter.numel() for parameter in txe.parameters())
    layer = 4 * (1024 * 1024 + 1024) + 2 * 1024 * 2048 + 1024 + 2048 + 4 * 1024
    assert count == 3 * layer + (2048 * 1024 + 1024) + (1024 * 2048 + 2048) + 6 * 1024


@pytest.mark.parametrize("mode", ["none", "center", "standardize"])
def test_normalizer_does_what_it_says(mode: str):
    normalizer = FeatureNormalizer(4, mode)
    features = torch.randn(50, 4) * torch.tensor([1.0, 2.0, 3.0, 0.0]) + 7
    normalizer.fit(features)
    found = normalizer(features)
    expected = {
        "none": features,
        "center": features - features.mean(0),
        "standardize": (features - features.mean(0)) / torch.cat([features[:, :3].std(0, False), torch.ones(1)]),
    }[mode]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_weights_come_back_with_their_statistics(tmp_path: Path, tiny_txe):
    txe = tiny_txe(feature_normalization="standardize", positions="sinusoidal")
    txe.normalizer.fit(torch.randn(20, 6) + 3)
    save(tmp_path / "txe.safetensors", txe, {"method": "masked-event"})
    again = load(tmp_path / "txe.safetensors", dropout=0.3)
    events = torch.randn(2, 5, 6)
    assert torch.equal(again(events), txe(events)) and again.drop.p == 0.3


def test_other_weights_are_refused(tmp_path: Path):
    save_weights(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, {"architecture": "slow_d_r50"})
    with pytest.raises(WeightsError, match=r"w\.safetensors holds slow_d_r50 weights, not a TxE"):
        load(tmp_path / "w.safetensors")
    save_weights(tmp_path / "old.safetensors", {}, {"architecture": "txe", "arguments": {"normalize": "none"}})
    with pytest.raises(WeightsError, match=r"old\.safetensors was written by another version .*normalize.*: train"):
        load(tmp_path / "old.safetensors")


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (torch.zeros(1, 5, 5), r"features torch.float32 \(..., 6\) are expected, got torch.float32 \(1, 5, 5\)"),
        (torch.zeros(1, 5, 6).double(), r"features torch.float32 \(..., 6\) are expected, got torch.float64"),
        (torch.zeros(1, 5, 6).half(), r"are expected, got torch.float16 \(1, 5, 6\)"),
        (torch.zeros(5, 6), r"TxE takes windows \(B, N, 6\), got \(5,\) events: a single window has B = 1"),
        (torch.zeros(1, 6, 6), r"a window of 6 events is longer than max_events=5"),
    ],
)
def test_other_input_is_refused_with_what_would_be_right(events: torch.Tensor, message: str, tiny_txe):
    with pytest.raises(KuleshovError, match=message):
        tiny_txe()(events)


def test_mixed_precision_takes_what_it_takes(tiny_txe):
    with torch.autocast("cpu", torch.bfloat16):
        assert tiny_txe()(torch.zeros(1, 5, 6).bfloat16()).shape == (1, 5, 8)


def test_heads_must_divide(tiny_txe):
    with pytest.raises(KuleshovError, match=r"8 is not a multiple of heads 3"):
        tiny_txe(heads=3)


def rows(count: int = 4000) -> torch.Tensor:
    mixing = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    scales = torch.tensor([10.0, 5.0, 2.0, 1.0, 0.5, 0.2])
    draws = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
    return (draws * scales) @ mixing + 3.0


def test_whitened_rows_have_the_identity_as_covariance():
    features = rows().double()
    centered = features - features.mean(0)
    white = centered @ whitening(centered, shrinkage=0.0)
    torch.testing.assert_close(white.T @ white / len(white), torch.eye(6).double(), atol=1e-6, rtol=0)


def test_two_directions_in_closed_form():
    centered = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double()
    # variances 2 and 0.5, mean 1.25: each plus a tenth of the mean
    expected = torch.diag(torch.tensor([2.125, 0.625]).double().rsqrt())
    torch.testing.assert_close(whitening(centered, shrinkage=0.1), expected)


def test_a_direction_without_variance_stays_tiny_txe(tiny_txe):
    centered = torch.randn(50, 3).double()
    centered[:, 2] = 0
    white = centered @ whitening(centered - centered.mean(0), shrinkage=0.05)
    assert white.isfinite().all() and white[:, 2].abs().max() == 0


@pytest.mark.parametrize("mode", ["center", "standardize", "whiten", "soft-whiten"])
def test_statistics_travel_with_the_state(mode: str):
    fitted, other = FeatureNormalizer(6, mode), FeatureNormalizer(6, mode)
    with pytest.raises(KuleshovError, match=f"feature_normalization={mode} has no statistics yet"):
        fitted(rows(3))
    fitted.fit(rows())
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(fitted(rows(7)), other(rows(7)))
    assert fitted(rows()).mean(0).abs().max() < 1e-3


def test_soft_whitening_in_closed_form():
    features = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) + 5.0
    normalizer = FeatureNormalizer(2, "soft-whiten")
    normalizer.fit(features)
    # variances 2 and 0.5 and their mean, 1.25, added to each
    scales = torch.tensor([3.25, 1.75]).rsqrt()
    torch.testing.assert_close(normalizer(features), (features - 5.0) * scales)


def test_unknown_modes_are_refused():
    with pytest.raises(KuleshovError, match="one of none, center, standardize, whiten, soft-whiten, not 'zca'"):
        FeatureNormalizer(6, "zca")
