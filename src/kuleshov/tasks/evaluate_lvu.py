"""`kuleshov evaluate lvu`: the scores of a CSV of predictions against LVU's own files."""

import argparse
import csv
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError
from kuleshov.core.files import sha256_ids, write_through
from kuleshov.datasets.lvu import TASKS, Lvu, Row, Task, task_named
from kuleshov.datasets.lvu_check import best_constant, constant_score, trivial_prediction
from kuleshov.metrics import lvu_metrics as scores

HEADER = ("video_id", "prediction")


def evaluate(
    task: str, predictions_csv: str | Path, annotations: str | Path, split: str = "test", allow_missing: bool = False
) -> dict[str, Any]:
    """Score a file of predictions.

    Args:
        task: one of the nine.
        predictions_csv: `video_id,prediction`, a line a movie, with or without that header: a class id or its
            name; or the regression's value in centered units (10 * likes / (likes + dislikes) - 9.1382, or
            ln(views) - 11.7643). Movies of other splits are left out.
        annotations: LVU's root, which holds `lvu_1.0/`.
        split: train, val or test.
        allow_missing: score what is there when movies of the split have no prediction.

    Returns:
        `metrics`, `n`, `of`, `sample_ids_sha256`, `trivial` (the same metrics of the most frequent training
        class or of 0), `best_constant`, `beats_trivial`, `predicted_classes`.

    Raises:
        FormatError: a broken line, an unknown class, a video twice.
        KuleshovError: an unknown task; movies without a prediction.
    """
    chosen = task_named(task)
    lvu = Lvu(annotations)
    rows = lvu.rows(chosen.name, split)
    predicted = read_predictions(predictions_csv, chosen, lvu.class_names(chosen.name))
    scored = [row for row in rows if row.video_id in predicted]
    missing = [row.video_id for row in rows if row.video_id not in predicted]
    if missing and not (allow_missing and scored):
        raise KuleshovError(
            f"{predictions_csv}: {len(missing)} of the {len(rows)} movies of {chosen.name} {split} have no "
            f"prediction (first {missing[0]}): add them, or score the rest with --allow-missing"
        )
    return summary(chosen, lvu.rows(chosen.name, "train"), scored, len(rows), predicted)


def summary(task: Task, train: list[Row], scored: list[Row], of: int, predicted: Mapping[str, float]) -> dict[str, Any]:
    """Metrics of predictions for some rows, beside those of the trivial predictor on the same rows."""
    labels = np.array([row.label for row in scored])
    values = np.array([predicted[row.video_id] for row in scored])
    answer = trivial_prediction(task, train)
    metrics = _metrics(task, values, labels)
    trivial = _metrics(task, np.full(len(labels), answer, dtype=values.dtype), labels)
    best, best_score = best_constant(task, scored)
    return {
        "task": task.name,
        "metrics": metrics,
        "n": len(scored),
        "of": of,
        "sample_ids_sha256": sha256_ids(row.video_id for row in scored),
        "trivial": trivial,
        "trivial_prediction": answer,
        "best_constant": {"prediction": best, task.metric: best_score},
        "beats_trivial": scores.beats(
            metrics[task.metric], constant_score(task, scored, answer), task.higher_is_better
        ),
        "predicted_classes": len(np.unique(values)) if task.classes else None,
    }


def _metrics(task: Task, predicted: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    if task.classes:
        return {"top1": scores.top1(predicted, labels), "balanced_top1": scores.balanced_top1(predicted, labels)}
    return {"mse": scores.mean_squared_error(predicted, labels)}


def read_predictions(path: str | Path, task: Task, names: Mapping[int, str]) -> dict[str, float]:
    """Read `video_id,prediction` lines; class names are turned to ids.

    Raises:
        MissingDataError: the file is not there.
        FormatError: a line that is not a video and a prediction, by its number.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError("predictions", path.absolute(), "check --predictions")
    ids = {name: label for label, name in names.items()}
    predicted: dict[str, float] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, cells in enumerate(csv.reader(file), 1):
                cells = [cell.strip() for cell in cells]
                if not any(cells) or (number == 1 and tuple(cells) == HEADER):
                    continue
                if len(cells) != 2 or not all(cells):
                    raise FormatError(path, f"'video_id,prediction' expected, found {','.join(cells)!r}", number)
                if cells[0] in predicted:
                    raise FormatError(path, f"video {cells[0]} occurs twice", number, "video_id")
                predicted[cells[0]] = _value(path, number, cells[1], task, ids)
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(path, f"not a UTF-8 CSV file ({error})") from error
    return predicted


def _value(path: Path, number: int, text: str, task: Task, ids: Mapping[str, int]) -> float:
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

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            writer.writerows(sorted(predictions.items()))

    write_through(path, write)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to a parser."""
    parser.add_argument("--task", required=True, help=f"one of {', '.join(TASKS)}")
    parser.add_argument(
        "--predictions",
        required=True,
        help="CSV of video_id,prediction: a class id or name, or a centered regression value",
    )
    parser.add_argument("--annotations", required=True, help="LVU's root, which holds lvu_1.0/")
    parser.add_argument("--split", default="test", help="train, val or test (default: %(default)s)")
    parser.add_argument("--allow-missing", action="store_true", help="score the movies that have a prediction")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(arguments: argparse.Namespace) -> int:
    """Print the scores on stdout, a warning on stderr where they do not beat the trivial row; return 0."""
    result = evaluate(
        arguments.task, arguments.predictions, arguments.annotations, arguments.split, arguments.allow_missing
    )
    if not result["beats_trivial"]:
        print(
            f"{result['task']}: no better than the trivial predictor "
            f"(it always answers {result['trivial_prediction']})",
            file=sys.stderr,
        )
    if arguments.json:
        print(json.dumps(result, indent=1, sort_keys=True))
        return 0
    _print_table(result, arguments.split)
    return 0


def _print_table(result: dict[str, Any], split: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"LVU {result['task']}, {split}: {result['n']} of {result['of']} movies")
    for column in ("metric", "value", "trivial"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, value in result["metrics"].items():
        table.add_row(name, f"{value:.4f}", f"{result['trivial'][name]:.4f}")
    Console().print(table)
