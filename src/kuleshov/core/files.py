"""Manifests and atomic writes: a file is either whole or not there."""

import functools
import hashlib
import json
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kuleshov import __version__
from kuleshov.core.errors import FormatError, MissingDataError


def write_through(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, whose path it is given, then rename it onto `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | Path, data: str | bytes) -> None:
    """Write a text (UTF-8) or bytes to `path` by an atomic rename."""
    raw = data.encode("utf-8") if isinstance(data, str) else data
    write_through(path, lambda temporary: temporary.write_bytes(raw))


def write_json(path: str | Path, value: Any, indent: int | None = 1) -> None:
    """Write `value` as JSON with sorted keys by an atomic rename."""
    write_atomic(path, json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        MissingDataError: the file is not there.
        FormatError: it is not JSON; the line and column are named.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError("JSON file", path.absolute(), "check the path")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        reason = f"not valid JSON at line {error.lineno} column {error.colno} ({error.msg})"
        raise FormatError(path, reason) from error
    except UnicodeDecodeError as error:
        raise FormatError(path, f"not UTF-8 text ({error.reason} at byte {error.start})") from error


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_ids(ids: Iterable[str]) -> str:
    """SHA-256 of a set of sample ids: sorted, joined by newlines, so that their order does not matter."""
    return hashlib.sha256("\n".join(sorted(ids)).encode("utf-8")).hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys, no blanks)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def is_whole_archive(path: str | Path) -> bool:
    """Whether a zip file, such as a checkpoint, is whole: every entry has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False


@functools.cache
def code_version() -> str:
    """The package's version, with the git commit and `+changes` where it runs from a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return __version__
    try:
        commit = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", "src")
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+g{commit}{'.changes' if changed else ''}"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


@functools.cache
def _umask() -> int:
    # the mask can only be read by setting it
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
