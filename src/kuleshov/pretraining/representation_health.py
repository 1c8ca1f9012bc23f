"""How good a representation looks without labels: pure functions, cheap enough for every few steps."""

import math

import torch
from torch import Tensor


@torch.no_grad()
def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance between the two views' embeddings (B, D); 0 is perfect.

    Wang and Isola, Understanding Contrastive Representation Learning, ICML 2020, with exponent 2.
    """
    return (first - second).float().square().sum(dim=1).mean()


@torch.no_grad()
def uniformity(embeddings: Tensor, scale: float = 2.0) -> Tensor:
    """Log of the mean Gaussian potential over pairs of rows of (B, D); 0 is collapse, lower is better.

    Wang and Isola, ICML 2020, with t = 2. Minus infinity for one row.
    """
    distances = torch.pdist(embeddings.float()).square()  # (B * (B - 1) / 2,)
    return torch.logsumexp(-scale * distances, dim=0) - math.log(max(1, distances.numel()))


@torch.no_grad()
def embedding_std(embeddings: Tensor) -> Tensor:
    """Spread of (B, D) L2-normalized embeddings: root mean square standard deviation times sqrt(D).

    1 where the directions are spread evenly over the sphere, 0 where all are the same.
    """
    return embeddings.float().var(dim=0, unbiased=False).sum().sqrt()


def embedding_measures(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Alignment of two views' embeddings (B, D), and uniformity and spread of the first's."""
    return {"alignment": alignment(first, second), "uniformity": uniformity(first), "embed_std": embedding_std(first)}


@torch.no_grad()
def effective_rank(features: Tensor) -> Tensor:
    """Exponential of the entropy of the normalized singular values of centered features (B, D).

    At most min(B - 1, D); 0 where all rows are the same. Roy and Vetterli, EUSIPCO 2007.
    """
    centered = features.float() - features.float().mean(dim=0)
    values = torch.linalg.svdvals(centered)
    total = values.sum()
    if total <= 1e-12 * max(1.0, float(features.float().norm())):
        return total.new_zeros(())
    share = values / total
    return torch.exp(-torch.special.xlogy(share, share).sum())


@torch.no_grad()
def contrast_top1(first: Tensor, second: Tensor) -> Tensor:
    """Share of the rows of `first` (B, D) whose nearest row in `second`, by cosine, is their own other view.

    Ties count as misses, so that collapsed embeddings score 0.
    """
    cosines = (first @ second.T).float()  # (B, B)
    own = cosines.diagonal()
    rivals = cosines.masked_fill(torch.eye(len(own), dtype=torch.bool, device=own.device), -2.0)
    return (own > rivals.amax(dim=1)).float().mean()


@torch.no_grad()
def queue_top1(queries: Tensor, keys: Tensor, queue: Tensor) -> Tensor:
    """Share of the queries (B, D) that are nearer to their own key than to any row of the queue (K, D)."""
    own = (queries * keys).sum(dim=1)
    if queue.shape[0] == 0:
        return own.new_tensor(float("nan"))
    return (own > (queries @ queue.to(queries.dtype).T).amax(dim=1)).float().mean()


def collapse_reason(
    loss: float, chance_loss: float, spread: float, min_spread: float = 0.05, margin: float = 0.02
) -> str | None:
    """A line about a representation that has collapsed or learns nothing; None where neither is so.

    `spread` is the epoch's `embedding_std`, below `min_spread` a collapse; its mean loss may come as near to the
    `chance_loss` of embeddings that are all the same as `margin`, a share of it.
    """
    if spread < min_spread:
        return f"collapsed: all embeddings point the same way (spread {spread:.3f}, 1 is even)"
    if chance_loss > 0 and loss > (1 - margin) * chance_loss:
        return f"learns nothing: the loss {loss:.3f} sits at chance ({chance_loss:.3f})"
    return None
