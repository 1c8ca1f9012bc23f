"""Groups of classes that are scored by themselves."""

from collections.abc import Sequence
from pathlib import Path

from kuleshov.core.errors import KuleshovError, MissingDataError


def class_groups(words: Sequence[str], names_file: Path | None = None) -> dict[str, list[int]]:
    """Read `NAME=LABEL,LABEL,..` words, where a label is a class's number or the first word of its name.

    Args:
        words: a group each.
        names_file: class names, one a line, in the order of their numbers.

    Raises:
        KuleshovError: a word without a name or labels, or a label that no class has.
        MissingDataError: no such file.
    """
    numbers: dict[str, int] = {}
    if names_file is not None:
        if not names_file.is_file():
            raise MissingDataError("the class names", names_file.absolute(), "check --classes")
        lines = names_file.read_text(encoding="utf-8").splitlines()
        numbers = {line.split()[0]: number for number, line in enumerate(lines) if line.strip()}
    groups = {}
    for word in words:
        name, _, labels = word.partition("=")
        if not name or not labels:
            raise KuleshovError(f"a group of classes is NAME=LABEL,LABEL,.. not {word!r}")
        groups[name] = [_number(label, numbers, name) for label in labels.split(",")]
    return groups


def _number(label: str, numbers: dict[str, int], group: str) -> int:
    if label in numbers:
        return numbers[label]
    if label.isdigit():
        return int(label)
    known = f"known: {', '.join(numbers)}" if numbers else "name the classes' file with --classes"
    raise KuleshovError(f"group {group}: no class {label!r} ({known})")
