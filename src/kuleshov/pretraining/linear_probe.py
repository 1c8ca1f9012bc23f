"""A linear probe in closed form: what labels a linear map reads off frozen features."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kuleshov.core.errors import KuleshovError

# strengths that are tried, as multiples of the features' mean energy per sample
STRENGTHS = tuple(10.0**power for power in (-5, -4, -3, -2, -1, 0))


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe.

    Attributes:
        mean: (D,) of the features it was fitted on.
        scale: (D,) their standard deviations.
        weight: (D, V).
        bias: (V,).
        strength: the regularization that was chosen.
        accuracy: leave-one-out accuracy that it was chosen by.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    strength: float
    accuracy: float

    def predict(self, features: Tensor) -> Tensor:
        """Labels (B,) of features (B, D)."""
        scores = ((features.double() - self.mean) / self.scale) @ self.weight + self.bias
        return scores.argmax(dim=1)


@torch.no_grad()
def fit_linear(features: Tensor, labels: Tensor, strengths: tuple[float, ...] = STRENGTHS) -> LinearProbe:
    """Ridge regression onto one-hot labels, its strength chosen by leave-one-out accuracy; ties go to the greater.

    The leave-one-out scores are exact: the residual of each sample over one minus its leverage.

    Args:
        features: (M, D), standardized here by their own mean and deviation.
        labels: (M,) class indices.
        strengths: what to choose from, as multiples of M.

    Raises:
        KuleshovError: fewer than two samples, or counts that differ.
    """
    count = features.shape[0]
    if count < 2 or count != labels.shape[0]:
        raise KuleshovError(f"a linear probe needs labeled features, got {count} and {labels.shape[0]} labels")
    x = features.double()
    mean, scale = x.mean(dim=0), x.std(dim=0)
    # a unit that never changes says nothing
    scale = torch.where(scale > 1e-8 * scale.max().clamp(min=1e-300), scale, torch.inf)
    x = (x - mean) / scale
    targets = torch.nn.functional.one_hot(labels, int(labels.max()) + 1).double()
    bias = targets.mean(dim=0)
    energies, basis = torch.linalg.eigh(x.T @ x)  # (D,), (D, D)
    turned = x @ basis  # (M, D)
    towards = turned.T @ (targets - bias)  # (D, V)
    best: tuple[float, float, Tensor] | None = None
    for strength in sorted(strengths):
        shrink = 1 / (energies.clamp(min=0) + strength * count)
        fitted = turned @ (shrink[:, None] * towards) + bias
        leverage = 1 / count + (turned.square() * shrink).sum(dim=1, keepdim=True)
        left_out = targets - (targets - fitted) / (1 - leverage).clamp(min=1e-9)
        accuracy = float((left_out.argmax(dim=1) == labels).double().mean())
        if best is None or accuracy >= best[0]:
            best = (accuracy, strength, basis @ (shrink[:, None] * towards))
    accuracy, strength, weight = best
    return LinearProbe(mean, scale, weight, bias, strength, accuracy)
