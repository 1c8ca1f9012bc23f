"""Errors that a user can act on: one clear line that says what, where, and what to do."""

import difflib
import math
from collections.abc import Iterable
from numbers import Real
from pathlib import Path


class KuleshovError(Exception):
    """A mistake in the input or the call, in one line; the command line exits with 1."""


class UsageError(KuleshovError):
    """A command line or configuration that cannot be understood; the command line exits with 2."""


class VideoError(KuleshovError):
    """A video that cannot be read, with its path and the reason."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"cannot read video {path}: {one_line(reason)}")
        self.path = str(path)
        self.reason = one_line(reason)

    def __reduce__(self):
        # data loader workers send errors by pickle, which calls the class with `args` otherwise
        return type(self), (self.path, self.reason)


class FormatError(KuleshovError):
    """A file whose content is not what its format promises: file, record, field and reason."""

    def __init__(
        self, path: str | Path, reason: str, record: str | int | None = None, field: str | None = None
    ) -> None:
        named = [f"{kind} {value}" for kind, value in (("record", record), ("field", field)) if value is not None]
        super().__init__(f"{', '.join([str(path), *named])}: {one_line(reason)}")
        self.path, self.reason, self.record, self.field = str(path), one_line(reason), record, field

    def __reduce__(self):
        return type(self), (self.path, self.reason, self.record, self.field)


class MissingDataError(KuleshovError):
    """Data that is not on disk: what is missing, where it was looked for, how to get it."""

    def __init__(self, what: str, where: str | Path, how: str) -> None:
        super().__init__(f"{what} not found at {where}: {one_line(how)}")
        self.what, self.where, self.how = what, str(where), one_line(how)

    def __reduce__(self):
        return type(self), (self.what, self.where, self.how)


class OutputError(KuleshovError, OSError):
    """A file or folder that cannot be written, and why."""

    def __init__(self, path: str | Path, error: OSError) -> None:
        reason = one_line(error.strerror or str(error))
        super().__init__(f"cannot write {path} ({reason}): name another place, or make room")
        self.path, self.reason = str(path), reason

    def __reduce__(self):
        return type(self), (self.path, OSError(self.reason))


class WeightsError(KuleshovError):
    """Weights that do not fit what they are loaded into."""


class StoreError(KuleshovError):
    """A store of features that is damaged or not the one that was asked for."""


def message(error: BaseException) -> str:
    """An error's text in one line; of an error that a data loader's worker sent, only what it said itself."""
    text = str(error)
    if "in DataLoader worker process" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2] or text
    return one_line(text)


def one_line(text: str) -> str:
    """Fold a text to one line, white space runs to single blanks."""
    return " ".join(str(text).split())


def require_positive(**values: float) -> None:
    """Refuse options of a command that are not finite numbers above 0; `_` of a name is `-` of its option.

    Raises:
        UsageError: the first such option and its value.
    """
    for name, value in values.items():
        if not isinstance(value, Real) or not 0 < value < math.inf:
            raise UsageError(f"--{name.replace('_', '-')} has to be a number above 0, not {value}")


def require_workers(workers: int) -> None:
    """Refuse a number of processes below 0; 0 stands for none beside this one.

    Raises:
        UsageError: it is below 0.
    """
    if workers < 0:
        raise UsageError(f"--workers has to be 0 or more, not {workers}")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a word that is not among the known ones: the nearest, then all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    meant = f"; did you mean {close[0]}?" if close else ""
    return f"{meant} (known: {', '.join(names)})"
