"""What of LVU is there, and what predictors that look at nothing score on it."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from kuleshov.datasets.lvu import SPLITS, TASKS, Lvu, Row, Task


def trivial_prediction(task: Task, train: list[Row]) -> int | float:
    """The answer that looks at no movie: the most frequent training class (ties to the lowest id), or 0.

    0 in centered units is the constant that the official centring makes the natural guess.
    """
    if not task.classes:
        return 0.0
    counts = Counter(int(row.label) for row in train)
    return min(counts, key=lambda label: (-counts[label], label)) if counts else 0


def constant_score(task: Task, rows: list[Row], prediction: float) -> float:
    """Score of one answer for all rows: per cent right, or the mean squared error; nan without rows."""
    if not rows:
        return float("nan")
    labels = np.array([row.label for row in rows], dtype=np.float64)
    if task.classes:
        return 100.0 * float(np.mean(labels == prediction))
    return float(np.mean((labels - prediction) ** 2))


def best_constant(task: Task, rows: list[Row]) -> tuple[int | float, float]:
    """The constant that scores best on these very rows, and its score: what no constant can beat."""
    if not rows:
        return 0, float("nan")
    answer = trivial_prediction(task, rows) if task.classes else float(np.mean([row.label for row in rows]))
    return answer, constant_score(task, rows, answer)


def check(root: str | Path, videos: str | Path | None = None) -> dict[str, Any]:
    """Per task and split: rows, videos present, classes, and the trivial predictors' scores on test.

    Args:
        root: folder that holds `lvu_1.0/` and `videos/`.
        videos: folder of the videos, if they lie elsewhere.

    Returns:
        {task: {kind, metric, higher_is_better, splits, trivial, movie_disjoint, classes_without_training}}.
        Tasks whose folder is missing are listed under "missing_tasks".

    Raises:
        MissingDataError: no task is there, or a split's file is missing.
        FormatError: a broken line.
    """
    lvu = Lvu(root, videos)
    report: dict[str, Any] = {"videos": str(lvu.video_root), "tasks": {}, "missing_tasks": []}
    for task in TASKS.values():
        if (lvu.annotations / task.name).is_dir():
            report["tasks"][task.name] = _check_task(lvu, task)
        else:
            report["missing_tasks"].append(task.name)
    ids = lvu.video_ids()
    report["movies"] = len(ids)
    report["movies_present"] = sum(lvu.path(video_id) is not None for video_id in ids)
    return report


def _check_task(lvu: Lvu, task: Task) -> dict[str, Any]:
    names = lvu.class_names(task.name)
    rows = {split: lvu.rows(task.name, split) for split in SPLITS}
    trained = {row.label for row in rows["train"]}
    return {
        "kind": task.kind,
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "outputs": task.outputs,
        "splits": {split: _check_split(lvu, names, rows[split]) for split in SPLITS},
        "trivial": _trivial(task, names, rows),
        "movie_disjoint": _disjoint(rows),
        "classes_without_training": [name for label, name in names.items() if label not in trained],
    }


def _check_split(lvu: Lvu, names: dict[int, str], rows: list[Row]) -> dict[str, Any]:
    present = sum(lvu.path(row.video_id) is not None for row in rows)
    counts = Counter(row.label for row in rows)
    return {
        "rows": len(rows),
        "present": present,
        "missing": len(rows) - present,
        "classes": {name: counts[label] for label, name in names.items()},
    }


def _trivial(task: Task, names: dict[int, str], rows: dict[str, list[Row]]) -> dict[str, Any]:
    answer = trivial_prediction(task, rows["train"])
    best, best_score = best_constant(task, rows["test"])
    told = {
        "prediction": names.get(int(answer), str(answer)) if task.classes else answer,
        "score": constant_score(task, rows["test"], answer),
        "best_constant": names.get(int(best), str(best)) if task.classes else best,
        "best_constant_score": best_score,
    }
    if not task.classes:
        mean = float(np.mean([row.label for row in rows["train"]])) if rows["train"] else 0.0
        told["train_mean"] = mean
        told["train_mean_score"] = constant_score(task, rows["test"], mean)
    return told


def _disjoint(rows: dict[str, list[Row]]) -> bool:
    """Whether no film (IMDb id) lies in two splits."""
    films = [{row.imdb_id for row in rows[split]} for split in SPLITS]
    return not (films[0] & films[1] or films[0] & films[2] or films[1] & films[2])


def table(report: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The report as a header and rows of text, a row a task, for printing."""
    header = ["task", "metric", "classes", "train", "val", "test", "trivial (test)", "best constant", "films apart"]
    rows = []
    for name, task in report["tasks"].items():
        splits = [f"{task['splits'][s]['present']} of {task['splits'][s]['rows']}" for s in SPLITS]
        occurring = len(task["splits"]["train"]["classes"])
        digits = 2 if task["kind"] == "classification" else 4
        classes = f"{occurring} of {task['outputs']}" if task["kind"] == "classification" else "-"
        scores = [f"{task['trivial'][key]:.{digits}f}" for key in ("score", "best_constant_score")]
        rows.append([name, task["metric"], classes, *splits, *scores, "yes" if task["movie_disjoint"] else "no"])
    return header, rows
