"""Unreadable files in a training run: set aside with their reasons, replaced, and refused when too many.

Workers and ranks share one JSON-lines file; each line is appended by one write, so that a run killed at any
moment leaves whole lines.
"""

import fcntl
import json
import os
from pathlib import Path

from kuleshov.core.errors import KuleshovError, VideoError

# so many are named in an error or summary; all are in the file
_NAMED = 5


class BadFiles:
    """The files that one run could not read.

    It counts and tells; it does not keep a file from being tried again, so that what a sample holds does
    not depend on what other workers met before. A line holds the file's path, reason, size and modification
    time: a file that was replaced since no longer counts.

    Args:
        total: number of distinct files of the data set.
        path: the JSON-lines file shared by workers and ranks; None to remember in this process only.
        limit: share of distinct files that may be bad.
    """

    def __init__(self, total: int, path: str | Path | None = None, limit: float = 0.2) -> None:
        if total < 1 or not 0 <= limit <= 1:
            raise KuleshovError(f"a bad_files needs files and a limit in [0, 1], got {total} and {limit}")
        self.total, self.limit = total, limit
        self.path = None if path is None else Path(path)
        self._reasons: dict[str, dict] = {}
        self._read_up_to = 0

    def add(self, error: VideoError) -> None:
        """Set a file aside.

        Raises:
            KuleshovError: more than the permitted share of the files is bad; names the first ones.
        """
        self.refresh()
        if error.path not in self.reasons:
            entry = {"path": error.path, "reason": error.reason, "state": _state(error.path)}
            self._reasons[error.path] = entry
            self._append(entry)
            self.refresh()
        if len(self.reasons) > self.limit * self.total:
            raise KuleshovError(f"{self.summary()}; more than {self.limit:.0%} is refused")

    def refresh(self) -> None:
        """Take in what other processes have appended since the last look."""
        if self.path is None or not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read_up_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read_up_to += len(line)
                entry = json.loads(line)
                self._reasons[entry["path"]] = entry

    @property
    def reasons(self) -> dict[str, str]:
        """Path -> reason of every bad file known here, sorted by path."""
        entries = sorted(self._reasons.items())
        return {path: entry["reason"] for path, entry in entries if entry["state"] == _state(path)}

    def summary(self) -> str:
        """One line: how many of how many, the first ones with their reasons, and where all are listed."""
        reasons = self.reasons
        named = [f"{path} ({reason})" for path, reason in list(reasons.items())[:_NAMED]]
        more = f" and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
        where = f"; all in {self.path}" if self.path is not None else ""
        text = f"{len(reasons)} of {self.total} videos cannot be read"
        return f"{text}: {'; '.join(named)}{more}{where}" if named else text

    def _append(self, entry: dict) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = (json.dumps(entry, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8")
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            _end_torn_line(handle)
            os.write(handle, line)
        finally:
            os.close(handle)


def _end_torn_line(handle: int) -> None:
    # a writer killed inside its write leaves half a line: cut it off
    size = os.fstat(handle).st_size
    tail = os.pread(handle, size, 0) if size else b"\n"
    if not tail.endswith(b"\n"):
        os.ftruncate(handle, tail.rfind(b"\n") + 1)


def _state(path: str | Path) -> list[int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
