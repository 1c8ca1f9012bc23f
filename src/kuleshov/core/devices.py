"""Where a network runs."""

import os
from typing import TYPE_CHECKING, Literal

from kuleshov.core.errors import KuleshovError

if TYPE_CHECKING:
    import torch

Accelerator = Literal["auto", "cpu", "cuda"]


def device_of(accelerator: Accelerator, rank: int = 0) -> "torch.device":
    """A process's device: the one of its rank on this machine, the CPU where there is none.

    Raises:
        KuleshovError: cuda was asked for, and there is none.
    """
    import torch

    if accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise KuleshovError("no CUDA device here: use --accelerator cpu")
    return torch.device(f"cuda:{int(os.environ.get('LOCAL_RANK', rank)) % torch.cuda.device_count()}")
