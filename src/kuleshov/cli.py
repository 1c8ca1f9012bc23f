"""The `kuleshov` command: finds the subcommand, runs it, and turns a user's mistake into one line.

Only the chosen subcommand's module is imported, so that `kuleshov --help` answers at once.
"""

import argparse
import importlib
import sys

from kuleshov import __version__
from kuleshov.core.errors import KuleshovError, UsageError, message

LIGHTNING = {
    "fit": "train: `kuleshov fit -c A.yaml -c B.yaml` (LightningCLI)",
    "validate": "run a module's validation (LightningCLI)",
    "test": "run a module's test (LightningCLI)",
    "predict": "run a module's predictions (LightningCLI)",
}
COMMANDS = {
    "run": "run a stage of the pipeline and whatever it needs that is not done yet",
    "world": "write the generated movies and their annotations",
    "gallery": "write a contact sheet of the generated movies' stories",
    "extract": "event features of any videos",
    "instances": "region features of tracked boxes, for the Object Transformer",
    "describe": "what the trained hierarchy sees in a movie, event by event",
    "evaluate": "the benchmark's own scores of a prediction file",
    "probe": "what labels a frozen backbone tells apart: k-NN and a linear probe",
    "import-weights": "convert PySlowFast, Caffe2, pytorchvideo or Lightning weights",
    "import-features": "make an event store of VidSitu's or plain .npy features",
    "export-features": "write an event store as .npy files",
    "motion": "precompute the motion input of MoDist",
    "check": "what of a data set is there, readable, and overlapping with another",
    "ceiling": "scores of a perfect observer of the generated world",
    "report": "tables and figures of runs",
}


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after `kuleshov`; None takes the process's own.

    Returns:
        0 when it did what was asked, 1 when it could not, 2 on wrong usage.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if words else 2
    if words[0] == "--version":
        print(__version__)
        return 0
    name = words[0]
    if name not in COMMANDS and name not in LIGHTNING:
        from kuleshov.core.errors import nearest

        print(f"error: no command {name!r}{nearest(name, COMMANDS | LIGHTNING)}", file=sys.stderr)
        return 2
    return guarded(name, words[1:])


def guarded(name: str, words: list[str]) -> int:
    """Run one subcommand; a `KuleshovError` becomes one line on stderr and exit code 1."""
    try:
        return lightning(name, words) if name in LIGHTNING else command(name, words)
    except KuleshovError as error:
        print(f"error: {message(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output has gone, as `| head` does
        sys.stderr.close()
        return 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1


def command(name: str, words: list[str]) -> int:
    """Parse and run one of this project's own subcommands."""
    module = importlib.import_module(f"kuleshov.commands.{name.replace('-', '_')}")
    description = module.__doc__.split("\n", 1)[0] + module.__doc__.partition("\n")[2]
    parser = argparse.ArgumentParser(f"kuleshov {name}", description=description, formatter_class=_Help)
    module.add_arguments(parser)
    return module.run(parser.parse_args(words))


def lightning(name: str, words: list[str]) -> int:
    """Run LightningCLI; what it prints beyond results goes to stderr."""
    from contextlib import redirect_stdout

    from kuleshov.pipeline.jobs import watch_runner
    from kuleshov.training.lightning_cli import main as run_lightning

    watch_runner()
    asks = any(word in ("-h", "--help") or word.startswith(("--print_config", "--print-config")) for word in words)
    # LightningCLI warns of arguments given twice, and DDP's launcher repeats the process's own
    arguments = None if sys.argv[1:] == [name, *words] else [name, *words]
    if asks:
        run_lightning(arguments)
        return 0
    with redirect_stdout(sys.stderr):
        run_lightning(arguments)
    return 0


def overview() -> str:
    """The text of `kuleshov --help`."""
    width = max(map(len, COMMANDS))
    lines = ["usage: kuleshov COMMAND ...", "", "Hierarchical self-supervised learning for movie understanding."]
    for title, commands in (("commands", COMMANDS), ("training", LIGHTNING)):
        lines += ["", f"{title}:"] + [f"  {name:<{width}}  {text}" for name, text in commands.items()]
    return "\n".join([*lines, "", "`kuleshov COMMAND --help` says more."])
