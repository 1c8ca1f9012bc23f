"""What the rows of a run differ in: their jobs' configurations, compared, and what went into their networks."""

from collections.abc import Iterable, Mapping
from typing import Any

from kuleshov.core.files import flatten
from kuleshov.report.lineage import JobRecord, RunRecord

PARTS = ("model", "data", "trainer")
ITS_OWN = ("trainer.default_root_dir", "model.init_args.row")
INPUT = "normalization of the features that go in"
SHORT = 24  # characters of a value that is shown; longer ones are paths and lists


def row_differences(runs: Iterable[RunRecord]) -> list[str]:
    """For runs with several rows the settings in which they differ, short values with them; runs alike together."""
    found: dict[str, list[str]] = {}
    for run in runs:
        jobs: dict[str, JobRecord] = {}
        for job in run.job_records():
            if job.row:
                jobs.setdefault(job.row, job)
        if len(jobs) < 2:
            continue
        # a job that has not begun has no settings yet
        settings = {row: flat for row, job in jobs.items() if (flat := _settings(job.config()))}
        names = sorted({name for one in settings.values() for name in one})
        differ = [_difference(name, [one.get(name) for one in settings.values()]) for name in names]
        inputs = [result.origin["input"] for result in run.results() if "input" in result.origin]
        differ = list(filter(None, [*differ, _difference(INPUT, inputs)]))
        found.setdefault(", ".join(differ), []).append(run.folder.name)
    return [f"{', '.join(names)}: rows differ in {differ}" for differ, names in found.items() if differ]


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A job's settings by dotted name, without where it writes and its row's name; {} without a configuration."""
    flat = flatten({part: config[part] for part in PARTS if part in config})
    return {name.replace(".init_args", ""): value for name, value in flat.items() if name not in ITS_OWN}


def _difference(name: str, values: list[Any]) -> str:
    """A setting's name, and its values where they are short; empty where all rows have the same."""
    words = list(dict.fromkeys("null" if value is None else str(value) for value in values))
    if len(words) < 2:
        return ""
    short = [word for word in words if "/" not in word and len(word) <= SHORT]
    return f"{name} ({', '.join(words)})" if len(short) == len(words) else name
