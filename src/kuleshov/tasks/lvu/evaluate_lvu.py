"""`kuleshov evaluate lvu`: the scores of a CSV of predictions against LVU's own files."""

import csv
import io
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from kuleshov.core.errors import FormatError, KuleshovError
from kuleshov.core.files import read_csv, sha256_ids, write_atomic
from kuleshov.datasets.lvu import Lvu, LvuRow, LvuTaskInfo, constant_score, find_lvu_task, trivial_prediction
from kuleshov.metrics import lvu_metrics

HEADER = ("video_id", "prediction")


@dataclass(frozen=True)
class LvuScores:
    """Scores of predictions beside those of a predictor that looks at nothing; prints itself as a table."""

    task: str
    split: str
    metrics: dict[str, float]  # `top1` and `balanced_top1` in per cent, or `mse`
    n: int  # movies scored
    of: int  # movies of the split
    sample_ids_sha256: str  # of the movies scored
    trivial: dict[str, float]  # the metrics of `trivial_prediction`
    trivial_prediction: float  # the most frequent training class, or 0
    beats_trivial: bool  # whether the task's metric is strictly better than the trivial predictor's
    predicted_classes: int | None  # different classes among the predictions; None for a regression

    def __str__(self) -> str:
        lines = [f"LVU {self.task}, {self.split}: {self.n} of {self.of} movies"]
        lines.append(f"{'metric':<16}{'value':>10}{'trivial':>10}")
        lines += [f"{name:<16}{value:>10.4f}{self.trivial[name]:>10.4f}" for name, value in self.metrics.items()]
        return "\n".join(lines)


def evaluate_lvu(
    task: str,
    predictions: Path,
    annotations: Path,
    split: Literal["train", "val", "test"] = "test",
    allow_missing: bool = False,
) -> LvuScores:
    """Score a file of predictions, with a warning on stderr where they do not beat the trivial predictor.

    Args:
        task: relationship, way_speaking, scene, director, writer, year, genre, like_ratio or view_count.
        predictions: CSV of `video_id,prediction`, a line a movie, with or without that header: a class id or its
            name; or the regression's value in centered units (10 * likes / (likes + dislikes) - 9.1382, or
            ln(views) - 11.7643). Movies of other splits are left out.
        annotations: LVU's root, which holds `lvu_1.0/`.
        split: the split to score.
        allow_missing: score what is there when movies of the split have no prediction.

    Raises:
        MissingDataError: a file is not there.
        FormatError: a broken line, an unknown class, a video twice.
        KuleshovError: an unknown task; movies without a prediction.
    """
    chosen, lvu = find_lvu_task(task), Lvu(annotations)
    rows = {name: lvu.rows(chosen.name, name) for name in (split, "train")}
    predicted = read_predictions(predictions, chosen, lvu.class_names(chosen.name))
    of, missing = len(rows[split]), [row.video_id for row in rows[split] if row.video_id not in predicted]
    if missing and not (allow_missing and len(missing) < of):
        raise KuleshovError(
            f"{predictions}: {len(missing)} of the {of} movies of {chosen.name} {split} have no "
            f"prediction (first {missing[0]}): add them, or score the rest with --allow-missing"
        )
    found = score_movies(chosen, rows, split, predicted)
    if not found.beats_trivial:
        constant = found.trivial_prediction
        print(f"{task}: no better than the trivial predictor (it always answers {constant})", file=sys.stderr)
    return found


def score_movies(
    task: LvuTaskInfo, rows: Mapping[str, list[LvuRow]], split: str, predicted: Mapping[str, float]
) -> LvuScores:
    """Scores of the movies of a split that are predicted; the rows of `train` decide the trivial prediction."""
    scored = [row for row in rows[split] if row.video_id in predicted]
    labels = np.array([row.label for row in scored])
    values = np.array([predicted[row.video_id] for row in scored])
    answer = trivial_prediction(task, rows["train"])
    metrics = _metrics(task, values, labels)
    trivial_score = constant_score(task, scored, answer)
    return LvuScores(
        task=task.name,
        split=split,
        metrics=metrics,
        n=len(scored),
        of=len(rows[split]),
        sample_ids_sha256=sha256_ids(row.video_id for row in scored),
        trivial=_metrics(task, np.full(len(labels), answer, dtype=values.dtype), labels),
        trivial_prediction=answer,
        beats_trivial=lvu_metrics.beats(metrics[task.metric], trivial_score, task.higher_is_better),
        predicted_classes=len(np.unique(values)) if task.classes else None,
    )


def _metrics(task: LvuTaskInfo, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    if task.classes:
        balanced = lvu_metrics.balanced_top1(predicted, labels)
        return {"top1": lvu_metrics.top1(predicted, labels), "balanced_top1": balanced}
    return {"mse": lvu_metrics.mean_squared_error(predicted, labels)}


def read_predictions(path: str | Path, task: LvuTaskInfo, names: Mapping[int, str]) -> dict[str, float]:
    """Read `video_id,prediction` lines; class names are turned to ids."""
    ids = {name: label for label, name in names.items()}
    predicted: dict[str, float] = {}
    for number, cells in read_csv(path, "predictions", "check --predictions"):
        if number == 1 and tuple(cells) == HEADER:
            continue
        if len(cells) != 2 or not all(cells):
            raise FormatError(path, f"'video_id,prediction' expected, found {','.join(cells)!r}", number)
        if cells[0] in predicted:
            raise FormatError(path, f"video {cells[0]} occurs twice", number, "video_id")
        predicted[cells[0]] = _value(path, number, cells[1], task, ids)
    return predicted


def _value(path: str | Path, number: int, text: str, task: LvuTaskInfo, ids: Mapping[str, int]) -> float:
    if task.classes and text in ids:
        # years and other names that look like numbers are class names first, unless they are ids too
        return int(text) if text.isdigit() and int(text) < task.classes else ids[text]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not task.classes:
        if not math.isfinite(value):
            raise FormatError(path, f"a finite number expected, found {text!r}", number, "prediction")
        return value
    if not (value.is_integer() and 0 <= value < task.classes):
        known = f"an id from 0 to {task.classes - 1} or a name ({', '.join(ids)})"
        raise FormatError(path, f"{task.name} has no class {text!r}: {known} expected", number, "prediction")
    return int(value)


def write_predictions(path: str | Path, predictions: Mapping[str, float]) -> None:
    """Write `video_id,prediction` lines, sorted by id, by an atomic rename."""
    text = io.StringIO()
    csv.writer(text).writerows([HEADER, *sorted(predictions.items())])
    write_atomic(path, text.getvalue())
