"""Level 1's networks: any `nn.Module` with `feature_width`, `clip` and a forward pass to (B, D); see `protocol`.

The public names are loaded on first use, so that asking for help does not load torch.
"""

import importlib
from typing import Any

_HOMES = {
    **dict.fromkeys(("backbone_manifest", "build_backbone", "load_backbone", "load_classifier"), "backbones.protocol"),
    **dict.fromkeys(("resolve_backbone", "save_backbone"), "backbones.protocol"),
    "BackboneSpec": "backbones.backbone_spec",
    "ClipFormat": "video.clip_format",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"kuleshov.{_HOMES[name]}"), name)
