"""Reading text, JSON, YAML and CSV that may be damaged; atomic writes: a file is either whole or not there."""

import csv
import functools
import hashlib
import json
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from kuleshov import __version__
from kuleshov.core.errors import FormatError, MissingDataError, OutputError

YAML_NODES = 100_000  # more than this, aliases followed, is no configuration


def write_through(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `path`, whose path it is given, then rename it onto `path`.

    Raises:
        OutputError: no such place, no right to write there, or no room.
    """
    path, temporary = Path(path), None
    make_folder(path.parent)
    try:
        # a short prefix, so that any name that fits has a temporary one that fits
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def make_folder(path: str | Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        OutputError: there is a file of that name, or no right to make it.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(path, error) from error


def write_atomic(path: str | Path, data: str | bytes) -> None:
    """Write a text (UTF-8; a name's other bytes spelled out) or bytes to `path` by an atomic rename."""
    raw = data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data
    write_through(path, lambda temporary: temporary.write_bytes(raw))


def write_json(path: str | Path, value: Any, indent: int | None = 1) -> None:
    """Write `value` as JSON with sorted keys by an atomic rename."""
    write_atomic(path, json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False) + "\n")


def read_text(path: str | Path, what: str = "file", how: str = "check the path") -> str:
    """Read a UTF-8 text, with or without a byte order mark.

    Args:
        path: the file.
        what: what it is, for the message where it is not there.
        how: what to do then.

    Raises:
        MissingDataError: the file is not there.
        FormatError: it cannot be read, or is not UTF-8.
    """
    if not os.path.isfile(path):
        raise MissingDataError(what, Path(path).absolute(), how)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(path, f"not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise FormatError(path, f"cannot be read ({error.strerror or error})") from error


def read_json(
    path: str | Path, what: str = "JSON file", how: str = "check the path", expected: type | None = None
) -> Any:
    """Read a JSON file; see `read_text` for what is raised beside FormatError where it is not JSON.

    Args:
        path: the file.
        what: what it is, for the message where it is not there.
        how: what to do then.
        expected: dict or list, where nothing else will do.
    """
    value = _parse_json(path, read_text(path, what, how))
    if expected is not None and not isinstance(value, expected):
        raise FormatError(path, f"holds a {type(value).__name__}, a {expected.__name__} was expected")
    return value


def read_json_lines(path: str | Path, what: str = "file", how: str = "check the path") -> Iterator[tuple[int, Any]]:
    """Yield number and value of each line of JSON, blank lines left out; see `read_json`."""
    for number, line in enumerate(read_text(path, what, how).split("\n"), 1):
        if line.strip():
            yield number, _parse_json(path, line, number)


def _parse_json(path: str | Path, text: str, record: int | None = None) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"not valid JSON at line {error.lineno} column {error.colno} ({error.msg})"
        raise FormatError(path, reason, record) from error
    except ValueError as error:  # a number of thousands of digits
        raise FormatError(path, f"not readable JSON ({error})", record) from error
    except RecursionError as error:
        raise FormatError(path, "JSON that is nested too deep", record) from error


def read_csv(path: str | Path, what: str = "table", how: str = "check the path") -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells, without blanks around them, of each line of a CSV that is not empty; see `read_text`."""
    lines = csv.reader(read_text(path, what, how).splitlines(keepends=True))
    try:
        for cells in lines:
            if any(cell.strip() for cell in cells):
                yield lines.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise FormatError(path, f"not CSV ({error})", lines.line_num) from error


def read_yaml(path: str | Path, what: str = "YAML file", how: str = "check the path") -> Any:
    """Read a YAML file; see `read_text` for what is raised beside FormatError where it is not YAML, or a bomb."""
    return parse_yaml(read_text(path, what, how), path)


def parse_yaml(text: str, source: str | Path) -> Any:
    """The plain value of a YAML text, whose origin `source` names in messages.

    Raises:
        FormatError: not YAML, nested too deep, or grown too large by aliases.
    """
    import yaml  # only who reads YAML waits for it

    try:
        check_yaml_size(text)
        return yaml.load(text, _yaml_loader())
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError) as error:
        raise FormatError(source, f"not readable as YAML ({_yaml_reason(error)})") from error


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """What nested mappings and lists hold, by dotted names: `{"a": {"b": [1]}}` -> `{"a.b.0": 1}`."""
    if not isinstance(value, (dict, list)):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    flat: dict[str, Any] = {}
    for key, child in items:
        flat |= flatten(child, f"{prefix}.{key}" if prefix else str(key))
    return flat


def limit_yaml() -> None:
    """Let jsonargparse, which reads `-c` and `--config`, refuse what `check_yaml_size` refuses."""
    import yaml
    from jsonargparse import get_loader, set_loader

    load = get_loader("yaml")
    if getattr(load, "limited", False):
        return

    @functools.wraps(load)
    def limited(stream: str) -> Any:
        try:
            check_yaml_size(stream)
            return load(stream)
        except (RecursionError, ValueError, TypeError, LookupError) as error:
            raise yaml.YAMLError(_yaml_reason(error)) from error

    limited.limited = True  # type: ignore[attr-defined]
    set_loader("yaml", limited, (yaml.YAMLError,))


def check_yaml_size(text: str) -> None:
    """Raise a YAMLError where a text has more nodes, its aliases followed, than any configuration."""
    import yaml

    if "*" not in text and len(text) < YAML_NODES:
        return
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = YAML_NODES + 1  # what holds itself is endless
            values = [*chain(*node.value)] if isinstance(node, yaml.MappingNode) else node.value
            sizes[id(node)] = 1 if isinstance(node, yaml.ScalarNode) else 1 + sum(map(size, values))
        return sizes[id(node)]

    root = yaml.compose(text, _yaml_loader())
    if root is not None and size(root) > YAML_NODES:
        raise yaml.YAMLError(f"it has more than {YAML_NODES} values, aliases followed")


def _yaml_loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is not installed everywhere


def _yaml_reason(error: Exception) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


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
