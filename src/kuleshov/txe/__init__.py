"""Level 2: TxE, the contextualizer, and its masked-event pretraining.

The public names are loaded on first use, so that asking for help does not load torch.
"""

import importlib
from typing import Any

__all__ = ["TxE", "load", "save"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("kuleshov.txe.encoder"), name)
