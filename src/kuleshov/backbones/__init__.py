"""Level 1's networks, and weights of them: ours and other people's.

The public names are loaded on first use, so that asking for help does not load torch.
"""

import importlib
from typing import Any

_HOMES = {
    "build": "architectures",
    "ClipFormat": "clip_format",
    "load": "weights",
    "load_classifier": "weights",
    "manifest": "weights",
    "save": "weights",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
