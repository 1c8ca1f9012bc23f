"""What the rows of a run differ in: their jobs' configurations, compared, and what went into their networks."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from kuleshov.core.results import TRIVIAL
from kuleshov.report.lineage import JobRecord, RunRecord

PARTS = ("model", "data", "trainer")
SHORT = 24  # characters of a value that is shown; longer ones are paths and lists


def row_differences(runs: Iterable[RunRecord]) -> list[str]:
    """For runs with several rows the settings in which they differ, short values with them; runs alike together."""
    found: dict[str, list[str]] = {}
    for run in runs:
        jobs: dict[str, JobRecord] = {}
        for job in run.job_records():
            if job.row and (job.folder / "config.yaml").is_file():
                jobs.setdefault(job.row, job)
        if len(jobs) < 2:
            continue
        settings = {row: _settings(job.folder) for row, job in jobs.items()}
        for result in run.results():
            if result.row in settings and result.row != TRIVIAL and result.origin.get("input"):
                settings[result.row]["normalization of the features that go in"] = result.origin["input"]
        names = sorted({name for one in settings.values() for name in one})
        differ = [named for name in names if (named := _difference(name, [one.get(name) for one in settings.values()]))]
        found.setdefault(", ".join(differ), []).append(run.folder.name)
    return [f"{', '.join(names)}: rows differ in {differ}" for differ, names in found.items() if differ]


def _settings(folder: Path) -> dict[str, Any]:
    """A job's settings by dotted name, without those that say where it writes, its row's name and its task."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    flat: dict[str, Any] = {}

    def collect(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, child in value.items():
                collect(f"{name}.{key}" if name else key, child)
        else:
            flat[name.replace(".init_args", "")] = value

    collect("", {part: config.get(part) for part in PARTS})
    return {name: value for name, value in flat.items() if name not in ("trainer.default_root_dir", "model.row")}


def _difference(name: str, values: list[Any]) -> str:
    """A setting's name, and its values where they are short; empty where all rows have the same."""
    words = list(dict.fromkeys("null" if value is None else str(value) for value in values))
    if len(words) < 2:
        return ""
    short = [word for word in words if "/" not in word and len(word) <= SHORT]
    return f"{name} ({', '.join(words)})" if len(short) == len(words) else name
