"""`kuleshov evaluate verbs|roles|relations`: the benchmark's own scores of a prediction file."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kuleshov.core.errors import KuleshovError, UsageError
from kuleshov.core.files import sha256_ids
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.datasets.vidsitu_predictions import read_predictions, write_predictions
from kuleshov.metrics.vidsitu_scorers import SCORERS, Scorer

__all__ = ["add_arguments", "evaluate", "main", "write_predictions"]


def evaluate(
    task: str,
    predictions: str | Path | None,
    annotations: str | Path,
    split: str = "valid",
    split_file: str | Path | None = None,
    allow_missing: bool = False,
    human: bool = False,
    vocabulary: str | Path | None = None,
) -> dict[str, Any]:
    """Score a prediction file as VidSitu's official code does.

    Args:
        task: `verbs`, `roles` or `relations`.
        predictions: the official structure, JSON or pickle; not read with `human`.
        annotations: root of the annotations.
        split: name of the split.
        split_file: another list of segment ids; `ann_idx` counts in it.
        allow_missing: score what is predicted instead of refusing an incomplete file.
        human: score one annotator against the others instead of a file.
        vocabulary: the official verb vocabulary pickle, where it lies elsewhere.

    Returns:
        `metrics` (the paper's columns, per cent), `official` (every figure under its official name, unscaled),
        `n` of `of` segments, `sample_ids_sha256`, `trivial` (the trivial predictor's `metrics`),
        `trivial_predictor` (what it is), `notes`, `task`, `split`.

    Raises:
        KuleshovError: annotations or predictions that the official code would refuse, in one line.
    """
    if task not in SCORERS:
        raise KuleshovError(f"VidSitu's tasks are {', '.join(SCORERS)}, not {task!r}")
    data = VidSitu(annotations, vocabulary)
    segments = data.segments(split, split_file)
    if not segments:
        raise KuleshovError(f"{split_file or split}: the split holds no segment")
    scorer = SCORERS[task](data, split, segments)
    if human:
        scorer, answers = scorer.human()
    elif predictions is None:
        raise KuleshovError("no prediction file: give --predictions FILE, or --human")
    else:
        answers = read_predictions(predictions, task, len(segments))
        scorer.check(answers)
    _check_complete(answers, segments, allow_missing, human)
    return _figures(scorer, answers)


def _check_complete(answers: dict[int, Any], segments: list[str], allow_missing: bool, human: bool) -> None:
    missing = [number for number in range(len(segments)) if number not in answers]
    if not answers:
        raise KuleshovError("there is no segment to score")
    if missing and not allow_missing:
        what = "without an annotator to spare" if human else "missing in the predictions"
        raise KuleshovError(
            f"{len(missing)} of {len(segments)} segments {what}, first {segments[missing[0]]} (ann_idx {missing[0]}); "
            "--allow-missing scores the others"
        )


def _figures(scorer: Scorer, answers: dict[int, Any]) -> dict[str, Any]:
    official = scorer.official(answers)
    constant, predictor = scorer.trivial()
    trivial = scorer.official({number: constant[number] for number in answers})
    return {
        "task": scorer.task,
        "split": scorer.split,
        "metrics": scorer.table(official),
        "official": official,
        "n": len(answers),
        "of": len(scorer.segments),
        "sample_ids_sha256": sha256_ids({scorer.segments[number] for number in answers}),
        "trivial": scorer.table(trivial),
        "trivial_predictor": predictor,
        "notes": scorer.notes(answers),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `kuleshov evaluate verbs|roles|relations`."""
    parser.add_argument("--predictions", type=Path, help="prediction file in the official structure (JSON, pickle)")
    parser.add_argument("--annotations", type=Path, required=True, help="root of VidSitu's annotations")
    parser.add_argument("--split", default="valid", help="split (default: %(default)s)")
    parser.add_argument("--split-file", type=Path, help="JSON list of segment ids to take instead of the split")
    parser.add_argument("--vocabulary", type=Path, help="official verb vocabulary pickle, if it lies elsewhere")
    parser.add_argument("--allow-missing", action="store_true", help="score the segments that are predicted")
    parser.add_argument("--human", action="store_true", help="score one annotator against the others")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(args: argparse.Namespace) -> int:
    """Print the scores of `args.vidsitu_task` on stdout, notes on stderr.

    Raises:
        UsageError: neither `--predictions` nor `--human`.
        KuleshovError: what `evaluate` raises.
    """
    if args.predictions is None and not args.human:
        raise UsageError("give --predictions FILE, or --human for one annotator against the others")
    found = evaluate(
        args.vidsitu_task,
        args.predictions,
        args.annotations,
        args.split,
        args.split_file,
        args.allow_missing,
        args.human,
        args.vocabulary,
    )
    for note in found["notes"]:
        print(f"note: {note}", file=sys.stderr)
    if args.json:
        print(json.dumps(found))
    else:
        _print_table(found)
    return 0


def _print_table(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for column in ("figure", "value", "trivial"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for name, value in found["metrics"].items():
        table.add_row(name, f"{value:.2f}", f"{found['trivial'][name]:.2f}")
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"VidSitu {found['task']}, {found['split']}, n = {found['n']} of {found['of']}")
    console.print(table)
    console.print(f"trivial: {found['trivial_predictor']}", markup=False)
    console.print(f"segments sha256 {found['sample_ids_sha256']}")
