"""The generated world's ceiling as lines of results."""

import tempfile
from pathlib import Path

from kuleshov.core.files import write_json
from kuleshov.core.results import Result
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.tasks.evaluate_vidsitu import evaluate
from kuleshov.tasks.verbs.offscreen import read_offscreen, split_accuracy

SELECTION = "exact posteriors given the grammar and the events on screen"


def measure(root: Path, split: str = "valid", keep: Path | None = None) -> list[Result]:
    """Score the perfect observer's verbs and relations by the benchmark's own code.

    Args:
        root: the world's folder.
        split: a split whose labels are there.
        keep: folder for its predictions (`verbs.json`, `relations.json`); a temporary one by default.

    Raises:
        KuleshovError: no generated world there.
    """
    from kuleshov.synthetic import oracle

    annotations = Path(root) / "vidsitu"
    verbs, relations = oracle.predict(Path(root), split)
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary)
        found = []
        for task, records in (("verbs", verbs), ("relations", relations)):
            path = folder / f"{task}.json"
            write_json(path, records)
            found.append(evaluate(task, path, annotations, split))
    results = [
        _result(report, metric, value, report["n"]) for report in found for metric, value in report["metrics"].items()
    ]
    return results + _by_visibility(annotations, split, verbs, found[0])


def _by_visibility(annotations: Path, split: str, verbs: list[dict], report: dict) -> list[Result]:
    data = VidSitu(annotations)
    names = data.segments(split)
    predicted = {names[record["ann_idx"]]: record["pred_vbs_ev"] for record in verbs}
    scores = split_accuracy(predicted, data.verbs(split), read_offscreen(annotations, None))
    return [_result(report, metric, value, n) for metric, (value, n) in scores.items()]


def _result(report: dict, metric: str, value: float, n: int) -> Result:
    return Result(
        metric=metric,
        value=value,
        task=report["task"],
        split=report["split"],
        n=n,
        of=report["of"],
        sample_ids_sha256=report["sample_ids_sha256"],
        row="ceiling",
        selection=SELECTION,
    )
