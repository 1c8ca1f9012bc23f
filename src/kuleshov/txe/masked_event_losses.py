"""Losses of masked-event pretraining and its recall: pure functions, a value a token."""

import torch
from torch import Tensor


def masked_event_infonce(
    predictions: Tensor, targets: Tensor, distractors: Tensor, temperature: float = 0.1, ignored: Tensor | None = None
) -> Tensor:
    """Equation 1 of the paper for each hidden event: (M, D) -> (M,).

    -log( exp(p t / tau) / (exp(p t / tau) + sum_i exp(p d_i / tau)) ).

    Args:
        predictions: L2-normalized reconstructions p (M, D).
        targets: L2-normalized true features t (M, D).
        distractors: L2-normalized d (K, D); K may be 0.
        temperature: tau.
        ignored: int64 (2, P), pairs (prediction, distractor) of which the distractor does not count.
    """
    scaled = predictions / temperature
    positive = (scaled * targets).sum(-1)  # (M,)
    if distractors.shape[0] == 0:
        return torch.zeros_like(positive)
    negative = scaled @ distractors.to(scaled.dtype).T  # (M, K)
    if ignored is not None and ignored.shape[1]:
        # in place: a copy of (M, K) costs as much as everything else outside the product
        negative.index_put_((ignored[0], ignored[1]), negative.new_tensor(-torch.inf))
    return torch.logaddexp(positive, negative.logsumexp(-1)) - positive


def masked_event_l2(predictions: Tensor, targets: Tensor) -> Tensor:
    """Squared distance of L2-normalized predictions and targets for each hidden event: (M, D) -> (M,)."""
    return (predictions - targets).square().sum(-1)


@torch.no_grad()
def nearest_is_true(predictions: Tensor, targets: Tensor, distractors: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Whether a prediction is nearer (cosine) to its true event than to every distractor: bool (M,).

    A tie counts as a miss, so that collapsed predictions score nothing.

    Args:
        predictions: L2-normalized (M, D).
        targets: L2-normalized (M, D).
        distractors: L2-normalized (R, D).
        ignored: bool (M, R), true for distractors that do not count for a prediction.
    """
    if distractors.shape[0] == 0:
        return torch.ones(predictions.shape[0], dtype=torch.bool, device=predictions.device)
    others = predictions @ distractors.to(predictions.dtype).T
    if ignored is not None:
        others = others.masked_fill(ignored, -torch.inf)
    return (predictions * targets).sum(-1) > others.amax(-1)
