"""Progress over many files: a rich bar at a terminal, a plain line at every tenth in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(name: str, total: int, done: int = 0, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Show on stderr how much of `total` is done, `done` of it before; gives the function that counts one more."""
    if not shown:
        yield lambda: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(name, total=total, completed=done)
            yield lambda: bar.advance(task)
    else:
        started = time.monotonic()

        def advance() -> None:
            nonlocal done
            done += 1
            if done * 10 // total > (done - 1) * 10 // total:
                passed = time.monotonic() - started
                print(f"{name} {done}/{total}  {passed:.0f} s", file=sys.stderr, flush=True)

        yield advance
