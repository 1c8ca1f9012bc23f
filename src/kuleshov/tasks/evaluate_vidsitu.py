"""`kuleshov evaluate verbs|roles|relations`: the benchmark's own scores of a prediction file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kuleshov.core.errors import KuleshovError, UsageError
from kuleshov.core.files import sha256_ids
from kuleshov.core.results import Result, append_results
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.datasets.vidsitu_predictions import read_predictions
from kuleshov.metrics.vidsitu_scorers import SCORERS, Draw, Scorer


@dataclass(frozen=True)
class VidSituScores:
    """What the benchmark says of predictions; as text, a table."""

    task: str
    split: str
    metrics: dict[str, float]  # the paper's columns, per cent
    official: dict[str, Any]  # every figure under its official name, unscaled
    n: int  # segments scored
    of: int  # segments that the split has
    sample_ids_sha256: str  # of the segments scored
    trivial: dict[str, float]  # the trivial predictor's `metrics`
    trivial_predictor: str  # what it is, in words
    notes: list[str]  # what a reader of the figures should know

    def __str__(self) -> str:
        lines = [f"VidSitu {self.task}, {self.split}, n = {self.n} of {self.of}"]
        lines += [f"{'figure':14}{'value':>10}{'trivial':>10}"]
        lines += [f"{name:14}{value:10.2f}{self.trivial[name]:10.2f}" for name, value in self.metrics.items()]
        lines += [f"trivial: {self.trivial_predictor}", f"segments sha256 {self.sample_ids_sha256}"]
        return "\n".join(lines + [f"note: {note}" for note in self.notes])


def evaluate_vidsitu(
    task: Literal["verbs", "roles", "relations"],
    annotations: Path,
    predictions: Path | None = None,
    split: str = "valid",
    split_file: Path | None = None,
    vocabulary: Path | None = None,
    allow_missing: bool = False,
    human: bool = False,
    draw: Draw = "listed",
    results: Path | None = None,
) -> VidSituScores:
    """Score a prediction file as VidSitu's official code does.

    Args:
        task: verbs, roles or relations.
        annotations: root of VidSitu's annotations.
        predictions: prediction file in the official structure (JSON, pickle).
        split: name of the split.
        split_file: JSON list of segment ids to take instead of the split; `ann_idx` counts in it.
        vocabulary: official verb vocabulary pickle, if it lies elsewhere.
        allow_missing: score the segments that are predicted instead of refusing an incomplete file.
        human: score one annotator against the others instead of a file.
        draw: draw the roles' references over the listed segments, as the official code does, or over the whole split.
        results: results file (.jsonl) to append to.

    Raises:
        UsageError: neither predictions nor `human`.
        KuleshovError: annotations or predictions that the official code would refuse, in one line.
    """
    if task not in SCORERS:
        raise KuleshovError(f"VidSitu's tasks are {', '.join(SCORERS)}, not {task!r}")
    if predictions is None and not human:
        raise UsageError("give --predictions FILE, or --human true for one annotator against the others")
    data = VidSitu(annotations, vocabulary)
    segments = data.segments(split, split_file)
    if not segments:
        raise KuleshovError(f"{split_file or split}: the split holds no segment")
    scorer = SCORERS[task](data, split, segments, **({"draw": draw} if task == "roles" else {}))
    if human:
        scorer, answers = scorer.human()
    else:
        answers = read_predictions(predictions, task, len(segments))
        scorer.check(answers)
    if not answers:
        raise KuleshovError("there is no segment to score")
    missing = [number for number in range(len(segments)) if number not in answers]
    if missing and not allow_missing:
        what = "without an annotator to spare" if human else "missing in the predictions"
        raise KuleshovError(
            f"{len(missing)} of {len(segments)} segments {what}, first {segments[missing[0]]} (ann_idx {missing[0]}); "
            "--allow-missing true scores the others"
        )
    scores = _scores(scorer, answers)
    if results is not None:
        facts = {"task": task, "split": split, "n": scores.n, "of": scores.of, "row": "human" if human else "evaluated"}
        facts["sample_ids_sha256"] = scores.sample_ids_sha256
        append_results(results, [Result(name, value, **facts) for name, value in scores.metrics.items()])
    return scores


def _scores(scorer: Scorer, answers: dict[int, Any]) -> VidSituScores:
    official = scorer.official(answers)
    constant, predictor = scorer.trivial()
    return VidSituScores(
        task=scorer.task,
        split=scorer.split,
        metrics=scorer.table(official),
        official=official,
        n=len(answers),
        of=len(scorer.segments),
        sample_ids_sha256=sha256_ids({scorer.segments[number] for number in answers}),
        trivial=scorer.table(scorer.official({number: constant[number] for number in answers})),
        trivial_predictor=predictor,
        notes=scorer.notes(answers),
    )
