"""Event features on a scale that suits a contrast: centered, standardized, or whitened, wholly or half-way."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError

Normalization = Literal["none", "center", "standardize", "whiten", "soft-whiten"]
# of the modes that whiten: share of the mean variance that is added to every direction's
SHRINKAGE = {"whiten": 0.05, "soft-whiten": 1.0}


class FeatureNormalizer(nn.Module):
    """Subtracts a fixed mean from event features and divides by a fixed scale, (..., D) -> (..., D).

    Pooled features that follow a ReLU share a large mean, which flattens cosine contrasts, and a few directions of
    large variance (scenery, light) hide the others. The statistics are buffers: they are saved with the weights.

    Args:
        width: D.
        mode: `none` changes nothing (the paper), `center` subtracts the mean of every dimension,
            `standardize` also divides by its standard deviation, `whiten` also turns and scales the space so
            that every direction has about the same variance (shrunken ZCA), `soft-whiten` half-way so: with as much
            shrinkage as there is variance, the few large directions stay larger and noise is not blown up.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, mode: Normalization = "none") -> None:
        super().__init__()
        if mode not in get_args(Normalization):
            raise KuleshovError(f"feature_normalization is one of {', '.join(get_args(Normalization))}, not {mode!r}")
        self.mode = mode
        # NaN marks statistics that nobody has fitted yet
        self.register_buffer("mean", torch.full((width,), 0.0 if mode == "none" else math.nan))
        self.register_buffer("scale", torch.ones(width))
        if mode in SHRINKAGE:
            self.register_buffer("whitener", torch.eye(width))  # (D, D)
        self._ready = mode == "none"

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Take the statistics from features (M, D); without effect for `none`."""
        if self.mode == "none":
            return
        rows = features.reshape(-1, features.shape[-1])
        rows = rows.to(torch.float64) if rows.is_cpu else rows.float()
        mean = rows.mean(0)
        self.mean.copy_(mean)
        if self.mode == "standardize":
            deviation = (rows - mean).square().mean(0).sqrt()
            # a dead dimension stays 0 instead of becoming noise
            self.scale.copy_(torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation)))
        elif self.mode in SHRINKAGE:
            self.whitener.copy_(whitening(rows - mean, SHRINKAGE[self.mode]))

    def forward(self, features: Tensor) -> Tensor:
        """Normalize (..., D).

        Raises:
            KuleshovError: not floats of this width, or statistics that nobody has fitted.
        """
        width, dtype = len(self.mean), self.scale.dtype
        if not isinstance(features, Tensor):
            raise KuleshovError(f"features {dtype} (..., {width}) are expected, got a {type(features).__name__}")
        same = features.dtype == dtype or torch.is_autocast_enabled(features.device.type)
        if features.shape[-1:] != (width,) or not same:
            raise KuleshovError(
                f"features {dtype} (..., {width}) are expected, got {features.dtype} {tuple(features.shape)}: "
                "take those of the store that this network was trained on, or convert them"
            )
        if self.mode == "none":
            return features
        if not self._ready and bool(self.mean.isnan().any()):
            raise KuleshovError(
                f"feature_normalization={self.mode} has no statistics yet: fit them on the training features first"
            )
        self._ready = True
        centered = (features - self.mean) / self.scale
        return centered @ self.whitener if self.mode in SHRINKAGE else centered


def whitening(centered: Tensor, shrinkage: float) -> Tensor:
    """The symmetric matrix (D, D) that gives rows (M, D) of mean zero nearly the identity as covariance.

    `shrinkage` of the mean variance is added to every direction's, so that those without variance do not explode.
    """
    covariance = centered.T @ centered / centered.shape[0]
    values, vectors = torch.linalg.eigh(covariance)
    floor = shrinkage * values.mean().clamp_min(torch.finfo(values.dtype).tiny)
    return (vectors * (values.clamp_min(0) + floor).rsqrt()) @ vectors.T
