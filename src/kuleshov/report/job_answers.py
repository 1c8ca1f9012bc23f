"""What the jobs of some runs predict on VidSitu: the answers of seed 0, by row."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import read_json
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.datasets.vidsitu_predictions import read_predictions
from kuleshov.report.lineage import JobRecord, RunRecord, beside

# a field of a prediction file's records -> the task whose structure it is
_STRUCTURES = {"pred_vbs_ev": "verbs", "vb_output": "roles", "pred_evrels_ev": "relations"}


@dataclass(frozen=True)
class JobAnswers:
    """A job's predictions: the annotations' root, split and list of segments, the task, the file and what it says."""

    job: JobRecord
    annotations: tuple[Path, str, str | None]
    task: str
    path: Path


@dataclass(frozen=True)
class SplitAnswers:
    """All rows' answers for one split of VidSitu: (task, row, number of the segment -> what was predicted)."""

    root: Path
    split: str
    split_file: str | None
    rows: list[tuple[str, str, dict[int, Any]]]

    def segments(self) -> list[str]:
        """The split's segments, in the order that their numbers count in."""
        return VidSitu(self.root).segments(self.split, self.split_file)


def read_answers(runs: Iterable[RunRecord]) -> tuple[SplitAnswers | None, list[str]]:
    """The answers of the runs' jobs of seed 0, None where none predicts, and sentences on those that cannot be read."""
    found = [one for run in runs for job in run.job_records() if not job.seed and (one := _answers(job)) is not None]
    if not found:
        return None, []
    notes: list[str] = []
    whole = SplitAnswers(*found[0].annotations, rows=[])
    for one in found:
        folder = one.job.folder
        if one.annotations != found[0].annotations:
            notes.append(f"{folder.parent.name}/{folder.name} is on other annotations and not in the film strips")
            continue
        try:
            predicted = read_predictions(one.path, one.task, len(whole.segments()))
            whole.rows.append((one.task, one.job.row, predicted))
        except KuleshovError as error:
            notes.append(f"not in the film strips: {error}")
    return whole if whole.rows else None, notes


def job_config(job: JobRecord) -> dict[str, Any]:
    """The `init_args` of the data that a job was configured with, {} where it has no configuration."""
    return (job.config().get("data") or {}).get("init_args") or {}


def _answers(job: JobRecord) -> JobAnswers | None:
    """What a job's configuration and predictions say; None for jobs that do not predict on VidSitu."""
    data = job_config(job)
    if "split" not in data or not data.get("annotations"):
        return None
    annotations = beside(job.folder, Path(data["annotations"])), data["split"], data.get("split_file")
    for path in sorted((job.folder / "predictions").glob("*.json")):
        records = read_json(path)
        first = records[0] if isinstance(records, list) and records and isinstance(records[0], dict) else {}
        for name, task in _STRUCTURES.items():
            if name in first:
                return JobAnswers(job, annotations, task, path)
    return None
