"""Activations that the backward pass computes again instead of keeping them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


# compiled code cannot tell batch norm to leave its running statistics alone the second time
@torch.compiler.disable
def recomputed(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`forward(x)`, of which only x is kept for the backward pass (Chen et al., arXiv 1604.06174).

    Args:
        module: the module whose batch norms `forward` uses; their running statistics move once.
        forward: draws no random numbers.
        x: any tensor.
    """
    return checkpoint(
        forward,
        x,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), _statistics_held(module)),
    )


@contextmanager
def _statistics_held(module: nn.Module) -> Iterator[None]:
    # `track_running_stats` would not do: without them batch norm saves other tensors than the first time
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
