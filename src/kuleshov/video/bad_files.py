"""Unreadable files of a training run: listed with their reasons, replaced, and refused when too many."""

import json
from pathlib import Path

from filelock import FileLock

from kuleshov.core.errors import KuleshovError, VideoError
from kuleshov.core.files import write_atomic
from kuleshov.video.metadata import file_state

BAD_FILES_FILE = "bad_files.jsonl"
# so many are named in an error or summary; all are in the file
_NAMED = 5


class BadFiles:
    """The files that one run could not read, shared by its workers and ranks.

    It only counts: a listed file is tried again, so that what a sample holds does not depend on what other
    workers met before. A line holds the file's path, reason, size and modification time: a file that was
    replaced since no longer counts.

    Args:
        total: number of distinct files of the data set.
        path: the JSON-lines file shared by workers and ranks; None to remember in this process only.
        limit: share of distinct files that may be bad.
    """

    def __init__(self, total: int, path: str | Path | None = None, limit: float = 0.2) -> None:
        if total < 1 or not 0 <= limit <= 1:
            raise KuleshovError(f"bad files need a number of files and a limit in [0, 1], got {total} and {limit}")
        self.total, self.limit = total, limit
        self.path = None if path is None else Path(path)
        self._entries: dict[str, dict] = {}

    def add(self, error: VideoError) -> None:
        """List a file.

        Raises:
            KuleshovError: more than the permitted share of the files is bad; names the first ones.
        """
        if error.path not in self.reasons:
            self._entries[error.path] = {"path": error.path, "reason": error.reason, "state": _state(error.path)}
            self._write(self._entries[error.path])
        if len(self.reasons) > self.limit * self.total:
            raise KuleshovError(f"{self.summary()}; more than {self.limit:.0%} is refused")

    @property
    def reasons(self) -> dict[str, str]:
        """Path -> reason of every bad file that any process has listed, sorted by path."""
        if self.path is not None and self.path.exists():
            lines = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
            self._entries |= {entry["path"]: entry for entry in lines}
        entries = sorted(self._entries.items())
        return {path: entry["reason"] for path, entry in entries if entry["state"] == _state(path)}

    def summary(self) -> str:
        """One line: how many of how many, the first ones with their reasons, and where all are listed."""
        reasons = self.reasons
        named = [f"{path} ({reason})" for path, reason in list(reasons.items())[:_NAMED]]
        more = f" and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
        where = f"; all in {self.path}" if self.path is not None else ""
        text = f"{len(reasons)} of {self.total} videos cannot be read"
        return f"{text}: {'; '.join(named)}{more}{where}" if named else text

    def _write(self, entry: dict) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(entry, sort_keys=True) + "\n"
        with FileLock(f"{self.path}.lock"):
            # the file is replaced as a whole: readers need no lock, and a killed writer leaves no half line
            before = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            write_atomic(self.path, before + line)


def _state(path: str | Path) -> list[int] | None:
    try:
        modified, size = file_state(path)
    except VideoError:
        return None
    return [size, modified]
