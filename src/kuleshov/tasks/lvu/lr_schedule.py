"""The learning rate's course: a linear rise, then a fall to 0."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from kuleshov.core.errors import KuleshovError
from kuleshov.training.optimization import warmup_cosine


def linear_or_cosine(optimizer: Optimizer, kind: str, warmup_steps: int, total_steps: int) -> LambdaLR:
    """`linear` or `cosine` fall to 0 at `total_steps` after `warmup_steps` of linear rise.

    Raises:
        KuleshovError: another kind.
    """
    if kind == "cosine":
        return warmup_cosine(optimizer, warmup_steps, total_steps)
    if kind != "linear":
        raise KuleshovError(f"schedule is linear or cosine, not {kind!r}")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))

    return LambdaLR(optimizer, factor)
