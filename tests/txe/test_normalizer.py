import pytest
import torch

from kuleshov.core.errors import KuleshovError
from kuleshov.txe.feature_normalizer import FeatureNormalizer, whitening


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


def test_a_direction_without_variance_stays_small():
    centered = torch.randn(50, 3).double()
    centered[:, 2] = 0
    white = centered @ whitening(centered - centered.mean(0))
    assert white.isfinite().all() and white[:, 2].abs().max() == 0


@pytest.mark.parametrize("mode", ["center", "standardize", "whiten"])
def test_statistics_travel_with_the_state(mode: str):
    fitted, other = FeatureNormalizer(6, mode), FeatureNormalizer(6, mode)
    with pytest.raises(KuleshovError, match=f"normalize={mode} has no statistics yet"):
        fitted(rows(3))
    fitted.fit(rows())
    other.load_state_dict(fitted.state_dict())
    assert torch.equal(fitted(rows(7)), other(rows(7)))
    assert fitted(rows()).mean(0).abs().max() < 1e-3


def test_unknown_modes_are_refused():
    with pytest.raises(KuleshovError, match="none, center, standardize or whiten, not 'zca'"):
        FeatureNormalizer(6, "zca")
