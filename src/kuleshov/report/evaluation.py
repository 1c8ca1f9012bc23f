"""`kuleshov.evaluate`: the scores of a prediction file, whichever benchmark its task is of."""

from pathlib import Path

from kuleshov.core.errors import KuleshovError, nearest
from kuleshov.datasets.lvu import LVU_TASKS
from kuleshov.metrics.vidsitu_scorers import SCORERS
from kuleshov.tasks.evaluate_vidsitu import VidSituScores, evaluate_vidsitu
from kuleshov.tasks.lvu.evaluate_lvu import LvuScores, evaluate_lvu


def evaluate(
    task: str, predictions: str | Path, annotations: str | Path, split: str = "", allow_missing: bool = False
) -> VidSituScores | LvuScores:
    """Score a prediction file as the task's own benchmark does; as text the result is a table.

    Args:
        task: verbs, roles or relations (VidSitu), or one of LVU's: genre, scene, like_ratio, ...
        predictions: VidSitu's official structure (JSON, pickle), or for LVU a CSV of `video_id,prediction`.
        annotations: root of the benchmark's annotations.
        split: its name; by default `valid` of VidSitu and `test` of LVU.
        allow_missing: score what is predicted where the file is incomplete.

    Raises:
        KuleshovError: an unknown task, or files that the official code would refuse.
    """
    predictions, annotations = Path(predictions), Path(annotations)
    if task in SCORERS:
        return evaluate_vidsitu(task, annotations, predictions, split or "valid", allow_missing=allow_missing)
    if task in LVU_TASKS:
        return evaluate_lvu(task, predictions, annotations, split or "test", allow_missing)
    raise KuleshovError(f"no benchmark has a task {task!r}{nearest(task, [*SCORERS, *LVU_TASKS])}")
