"""Level 1's networks, and weights of them: ours and other people's.

The public names are loaded on first use, so that asking for help does not load torch.
"""

import importlib
from typing import Any

_HOMES = {
    "build": "kuleshov.backbones.architectures",
    "ClipFormat": "kuleshov.video.clip_format",
    "load": "kuleshov.backbones.loading",
    "load_classifier": "kuleshov.backbones.loading",
    "manifest": "kuleshov.backbones.loading",
    "save": "kuleshov.backbones.loading",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
