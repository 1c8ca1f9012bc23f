"""The generated movie world: stories from a seed, their frames, and annotations in the real formats."""

from importlib import import_module

_HOME = {
    "generate": "build",
    "check_root": "build",
    "sizes": "counts",
    "Sizes": "counts",
    "gallery": "contact_sheet",
    "oracle": None,
}


def __getattr__(name: str):
    """Import a public name when it is first asked for, so that `--help` stays light."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOME[name]
    if home is None:
        return import_module(f"{__name__}.{name}")
    return getattr(import_module(f"{__name__}.{home}"), name)
