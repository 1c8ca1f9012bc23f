"""Kuleshov: hierarchical self-supervised learning for movie understanding.

The names of `__all__` are loaded on first use, so that importing the package takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "EventStore": "features.feature_store.EventStore",
    "KuleshovError": "core.errors.KuleshovError",
    "VideoReader": "video.reader.VideoReader",
    "contextualize": "txe.contextualize.contextualize",
    "describe": "report.describe.describe_command",
    "evaluate": "report.evaluation.evaluate",
    "extract": "features.extract.extract_command",
    "load_backbone": "backbones.protocol.load_backbone",
    "load_task": "tasks.event_task.load_task",
    "load_txe": "txe.encoder.load",
    "search": "report.search.search",
}

__all__ = [
    "EventStore",
    "KuleshovError",
    "VideoReader",
    "contextualize",
    "describe",
    "evaluate",
    "extract",
    "load_backbone",
    "load_task",
    "load_txe",
    "search",
]

if TYPE_CHECKING:
    from kuleshov.backbones.protocol import load_backbone
    from kuleshov.core.errors import KuleshovError
    from kuleshov.features.extract import extract_command as extract
    from kuleshov.features.feature_store import EventStore
    from kuleshov.report.describe import describe_command as describe
    from kuleshov.report.evaluation import evaluate
    from kuleshov.report.search import search
    from kuleshov.tasks.event_task import load_task
    from kuleshov.txe.contextualize import contextualize
    from kuleshov.txe.encoder import load as load_txe
    from kuleshov.video.reader import VideoReader


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, attribute = _HOMES[name].rpartition(".")
    value = globals()[name] = getattr(importlib.import_module(f"kuleshov.{home}"), attribute)
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
