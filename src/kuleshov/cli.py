"""The `kuleshov` command: finds the subcommand, runs it, and turns a user's mistake into one line.

A subcommand is a typed function of another package; its parser follows from its signature and docstring. Only the
chosen one's module is imported, and nothing else before that, so that `kuleshov --help` answers at once.
"""

import dataclasses
import importlib
import inspect
import io
import itertools
import json
import os
import re
import sys
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from kuleshov import __version__
from kuleshov.core.errors import KuleshovError, UsageError, message, nearest, one_line
from kuleshov.core.files import limit_yaml
from kuleshov.core.plugins import trust
from kuleshov.core.processes import end_with_parent
from kuleshov.core.project import find_configs


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        function: path, below `kuleshov`, of the function that does the work and returns a result.
        summary: one line for the overview.
        positional: parameters that are given without a name.
        fixed: parameters that the subcommand's name decides.
    """

    function: str
    summary: str
    positional: tuple[str, ...] = ()
    fixed: dict[str, Any] = field(default_factory=dict)


_VIDSITU = "tasks.evaluate_vidsitu.evaluate_vidsitu"
COMMANDS = {
    "run": Command(
        "pipeline.run_command.run_command", "run a stage and whatever it needs that is not done", ("stage",)
    ),
    "world": Command("synthetic.build.generate", "write the generated movies and their annotations"),
    "gallery": Command("synthetic.contact_sheet.gallery", "write a contact sheet of the generated movies' stories"),
    "extract": Command("features.extract.extract_command", "event features of any videos"),
    "contextualize": Command("txe.contextualize.contextualize", "a store of event features through TxE"),
    "search": Command("report.search.search", "the events of a store that are most like one", ("store",)),
    "instances": Command("features.instances.instances_command", "region features of tracked boxes"),
    "describe": Command(
        "report.describe.describe_command", "what the trained hierarchy sees in films, event by event", ("videos",)
    ),
    "evaluate verbs": Command(_VIDSITU, "VidSitu's own scores of verbs", fixed={"task": "verbs"}),
    "evaluate roles": Command(_VIDSITU, "VidSitu's own scores of roles", fixed={"task": "roles"}),
    "evaluate relations": Command(_VIDSITU, "VidSitu's own scores of event relations", fixed={"task": "relations"}),
    "evaluate lvu": Command("tasks.lvu.evaluate_lvu.evaluate_lvu", "an LVU task's own scores"),
    "probe": Command("pretraining.probing.probe_command", "what labels a frozen backbone tells apart"),
    "import-weights": Command(
        "backbones.import_weights.import_weights", "convert PySlowFast's, Caffe2's and other weights", ("file",)
    ),
    "import-features": Command("features.npy.import_features", "make an event store of .npy features", ("folder",)),
    "export-features": Command("features.npy.export_features", "write an event store as .npy files", ("store",)),
    "motion": Command("datasets.motion.motion_command", "precompute the motion input of MoDist"),
    "prepare": Command(
        "datasets.prepare.prepare_command", "encode a data set's videos so that they are read fast", ("data",)
    ),
    "pack": Command("datasets.shards.pack_command", "pack a data set's videos into tar shards, or index such shards"),
    "check": Command("datasets.checks.check_command", "what of a data set is there, readable and shared", ("data",)),
    "sample": Command("datasets.sample.sample_command", "take a few videos of a data set, laid out as the whole"),
    "ceiling": Command("report.report_command.ceiling_command", "scores of a perfect observer of the generated world"),
    "report": Command("report.report_command.report_command", "tables and figures of runs", ("runs",)),
}
LIGHTNING = {
    "fit": "train: `kuleshov fit -c A.yaml -c B.yaml` (LightningCLI)",
    "validate": "run a module's validation (LightningCLI)",
    "test": "run a module's test (LightningCLI)",
    "predict": "write a module's predictions (LightningCLI)",
}
EPILOG = "--trust PACKAGE lets files name classes of that package, which are imported; it may be repeated."


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: words after `kuleshov`; None takes the process's own.

    Returns:
        0 when it did what was asked, 1 when it could not, 2 on wrong usage.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if arguments is None and isinstance(sys.stdout, io.TextIOWrapper):
        # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _run(words)
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
    except OSError as error:
        # a folder that cannot be written, a file where a folder has to be, a full disk
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {one_line(error.strerror or str(error))}{where}", file=sys.stderr)
        return 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1


def _run(words: list[str]) -> int:
    """Take `--trust PACKAGE` out of the words, and run what they name."""
    kept, given = [], iter(words)
    for word in given:
        option, equals, value = word.partition("=")
        if option == "--trust":
            trust([value if equals else next(given, "")])
        else:
            kept.append(word)
    end_with_parent()
    if not kept or kept[0] in ("-h", "--help", "help", "--version"):
        print(__version__ if kept[:1] == ["--version"] else overview(), flush=True)
        return 0 if kept else 2
    if os.getcwd() not in sys.path:
        # as with `python -m`: modules of the user's own lie in the working directory
        sys.path.append(os.getcwd())
    if kept[0] in LIGHTNING:
        return lightning(kept, own=kept == sys.argv[1:])
    for length in (2, 1):
        name = " ".join(kept[:length])
        if name in COMMANDS:
            return command(name, kept[length:])
    group = [name for name in COMMANDS if name.startswith(f"{kept[0]} ")]
    if group and kept[1:2] in (["-h"], ["--help"]):
        print(overview(group))
        return 0
    known = group or [*dict.fromkeys(name.split()[0] for name in COMMANDS), *LIGHTNING]
    raise UsageError(f"no command {' '.join(kept[: 2 if group else 1])!r}{nearest(' '.join(kept[:2]), known)}")


def command(name: str, words: list[str]) -> int:
    """Parse and run one of this project's own subcommands, and print its result."""
    from jsonargparse import ArgumentError, ArgumentParser

    chosen = COMMANDS[name]
    home, _, attribute = f"kuleshov.{chosen.function}".rpartition(".")
    function: Callable[..., Any] = getattr(importlib.import_module(home), attribute)
    types = parameter_types(function, chosen)
    limit_yaml()
    parser = ArgumentParser(f"kuleshov {name}", exit_on_error=False, epilog=EPILOG)
    parser.add_argument("--config", action="config", help="YAML file with arguments")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    for positional in (True, False):
        skip: set[str | int] = {key for key in types if (key in chosen.positional) != positional}
        skip.update(chosen.fixed)
        parser.add_function_arguments(function, as_group=False, as_positional=positional, skip=skip)
    parser.description = inspect.cleandoc(function.__doc__ or "").partition("\nArgs:")[0]
    try:
        values = parser.parse_args(spelled_out(words, types, chosen.positional))
    except ArgumentError as error:
        text = one_line(str(error))
        raise UsageError(re.sub(r'^Parser key "(\w+)":', r"--\1:", text)) from error
    show(function(**{key: values[key] for key in types}, **chosen.fixed), as_json=values.json)
    return 0


def parameter_types(function: Callable[..., Any], chosen: Command) -> dict[str, Any]:
    """The types of a function's parameters, without those that the subcommand decides."""
    hints = typing.get_type_hints(function)
    return {name: hints.get(name, str) for name in inspect.signature(function).parameters if name not in chosen.fixed}


def spelled_out(words: list[str], types: dict[str, Any], positional: tuple[str, ...]) -> list[str]:
    """Words as jsonargparse takes them: `--batch-size 2` as `--batch_size=2`, `--flag` as `--flag=true`, lists as JSON.

    Raises:
        UsageError: an option that is not there; the nearest is offered.
    """
    done: list[str] = []
    free: list[str] = []
    lists: dict[str, list[str]] = {}
    rest = list(words)
    known = [f"--{name.replace('_', '-')}" for name in types if name not in positional]
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        name = option[2:].replace("-", "_")
        if not option.startswith("--"):
            (done if option == "-h" else free).append(option + equals + value)
        elif name in ("json", "help", "print_config"):
            done.append(option)
        elif name not in types and name != "config":
            raise UsageError(f"no option {option}{nearest(option, known)}")
        elif has(list, types.get(name)):
            given = [value] if equals else [rest.pop(0) for _ in itertools.takewhile(is_value, list(rest))]
            lists.setdefault(name, []).extend(given)
        elif has(bool, types.get(name)) and not equals:
            done.append(f"--{name}={rest.pop(0) if rest[:1] in (['true'], ['false']) else 'true'}")
        else:
            done.append(f"--{name}={value if equals or not rest else rest.pop(0)}")
    first = len(positional) - 1
    if positional and has(list, types[positional[-1]]) and len(free) >= first:
        free[first:] = [json.dumps(free[first:] + lists.pop(positional[-1], []))]
    return [*free, *done, *(f"--{name}={as_list(values, types[name])}" for name, values in lists.items())]


def as_list(values: list[str], hint: Any) -> str:
    """Values of a list as jsonargparse takes them: numbers without quotes."""
    numbers = "int" in str(hint) or "float" in str(hint)
    return f"[{','.join(values)}]" if numbers else json.dumps(values)


def is_value(word: str) -> bool:
    """Whether a word is no option."""
    return not word.startswith("--")


def has(kind: type, hint: Any) -> bool:
    """Whether a type is `kind`, or a union with it."""
    return kind in (hint, typing.get_origin(hint)) or any(
        kind in (one, typing.get_origin(one)) for one in typing.get_args(hint)
    )


def show(result: Any, as_json: bool) -> None:
    """Print a command's result as text, or its plain values as JSON."""
    if as_json:
        print(json.dumps(plain(result), ensure_ascii=False, default=str))
    elif result is not None and str(result):
        print("\n".join(map(str, result)) if isinstance(result, (list, tuple)) else result)


def plain(result: Any) -> Any:
    """A result's plain values: of `to_dict()`, or a dataclass's fields."""
    if hasattr(result, "to_dict"):
        return result.to_dict()
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return dataclasses.asdict(result)
    return [plain(one) for one in result] if isinstance(result, (list, tuple)) else result


def lightning(words: list[str], own: bool) -> int:
    """Run LightningCLI; what it prints beyond results goes to stderr.

    Args:
        words: subcommand and arguments.
        own: whether they are the process's own command line, which DDP's launcher repeats.
    """
    from contextlib import nullcontext, redirect_stdout

    from kuleshov.training.lightning_cli import main as run_lightning

    words = find_configs(words)
    if own:
        sys.argv[1:] = words
    asks = any(word in ("-h", "--help") or word.startswith(("--print_config", "--print-config")) for word in words)
    with nullcontext() if asks else redirect_stdout(sys.stderr):
        # LightningCLI warns of arguments given twice
        run_lightning(None if own else words)
    return 0


def overview(names: Iterable[str] = COMMANDS) -> str:
    """The text of `kuleshov --help`, or of some subcommands."""
    width = max(map(len, COMMANDS))
    lines = ["usage: kuleshov COMMAND ...", "", "Hierarchical self-supervised learning for movie understanding."]
    shown = {name: COMMANDS[name].summary for name in names}
    for title, commands in (("commands", shown), ("training", LIGHTNING if names is COMMANDS else {})):
        lines += ["", f"{title}:", *(f"  {name:<{width}}  {text}" for name, text in commands.items())] * bool(commands)
    return "\n".join([*lines, "", "`kuleshov COMMAND --help` says more.", EPILOG])
