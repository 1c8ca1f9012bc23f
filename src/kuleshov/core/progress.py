"""Progress over many files: a rich bar at a terminal, a plain line at every tenth in a log."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(name: str, total: int, done: int = 0, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Show on stderr how much of `total` is done; gives the function that counts one more.

    Args:
        name: what is counted, at the beginning of the line.
        total: how many there are.
        done: how many were there before.
        shown: whether anything is to be shown.
    """
    if not shown:
        yield lambda: None
    elif sys.stderr.isatty():
        with _rich_bar(name, total, done) as advance:
            yield advance
    else:
        yield _Lines(name, total, done).advance


@contextlib.contextmanager
def _rich_bar(name: str, total: int, done: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, completed=done)
        yield lambda: bar.advance(task)


class _Lines:
    """Counts, and prints a line whenever another tenth is done."""

    def __init__(self, name: str, total: int, done: int) -> None:
        self._name, self._total, self._done = name, total, done
        self._started = time.monotonic()

    def advance(self) -> None:
        before, self._done = self._done, self._done + 1
        if self._done * 10 // self._total > before * 10 // self._total:
            passed = time.monotonic() - self._started
            print(f"{self._name} {self._done}/{self._total}  {passed:.0f} s", file=sys.stderr, flush=True)
