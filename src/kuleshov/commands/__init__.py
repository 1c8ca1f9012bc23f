"""BRIDGE: the old modules of the subcommands, until their functions are there. To be removed as a whole."""

import argparse
import importlib
import inspect

OLD = {"ceiling", "describe", "extract", "evaluate", "gallery", "instances", "probe", "report"}
OLD |= {"world", "import-weights", "import-features", "export-features"}


def is_old(home: str, attribute: str) -> bool:
    """Whether the function of the table is not there yet."""
    try:
        function = getattr(importlib.import_module(home), attribute, None)
    except ImportError:
        return True
    return function is None or "BRIDGE" in (function.__doc__ or "") or not inspect.isfunction(function)


def bridge(name: str, words: list[str]) -> int:
    """Run an old module."""
    if name.startswith("evaluate "):
        name, words = "evaluate", [name.split()[1], *words]
    module = importlib.import_module(f"kuleshov.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(f"kuleshov {name}", description=module.__doc__)
    module.add_arguments(parser)
    return module.run(parser.parse_args(words))
