"""What the runs left out: unreadable videos, movies without features, samples without a score."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kuleshov.core.errors import FormatError
from kuleshov.core.files import read_json
from kuleshov.core.results import Result
from kuleshov.report.lineage import Run
from kuleshov.report.tables import Source


@dataclass(frozen=True)
class Skipped:
    """Something that was left out.

    Attributes:
        run: the run's folder name.
        what: a path or an id.
        reason: why, as it was recorded.
    """

    run: str
    what: str
    reason: str


def skipped(runs: Iterable[Run]) -> list[Skipped]:
    """Everything that the runs have put into bad_files or could not extract, each once.

    Raises:
        FormatError: a bad_files file or a manifest that cannot be read.
    """
    found: dict[Skipped, None] = {}
    for run in runs:
        for file in _near(run, "bad_files.jsonl"):
            found.update(dict.fromkeys(_bad_filesd(run.folder.name, file)))
        for file in _near(run, "manifest.json"):
            found.update(dict.fromkeys(_missing(run.folder.name, file)))
    return list(found)


def _near(run: Run, name: str) -> list[Path]:
    """Files of this name in the run's folder, its jobs' folders, and one folder deeper."""
    return sorted(path for depth in (name, f"*/{name}", f"*/*/{name}") for path in run.folder.glob(depth))


def _bad_filesd(run: str, file: Path) -> list[Skipped]:
    found = []
    # a line without an end is still being written
    lines = file.read_text(encoding="utf-8").split("\n")[:-1]
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            what = record.get("path") or record.get("id") or record["video"]
            found.append(Skipped(run, str(what), str(record.get("reason", ""))))
        except (json.JSONDecodeError, KeyError, AttributeError) as error:
            raise FormatError(file, f"not a line of a bad_files list ({error!r})", number) from error
    return found


def _missing(run: str, file: Path) -> list[Skipped]:
    raw = read_json(file)
    missing = raw.get("missing", []) if isinstance(raw, dict) else []
    return [Skipped(run, str(one.get("id", one)), str(one.get("reason", ""))) for one in missing]


def incomplete(measured: Iterable[tuple[Source, Result]]) -> list[str]:
    """A sentence for each run and task that was scored on fewer samples than its split has."""
    found: dict[str, None] = {}
    for source, result in measured:
        if result.n < result.of and not result.metric.startswith("acc1_"):
            missing = result.of - result.n
            sentence = f"{source.name}: {result.task} {result.split} is scored on {result.n} of {result.of} samples"
            found[f"{sentence}, {missing} are missing"] = None
    return list(found)
