"""`kuleshov report` and `kuleshov ceiling`: table and page of runs, and the generated world's ceiling as a row."""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kuleshov.core.errors import UsageError
from kuleshov.core.files import write_json
from kuleshov.core.results import Result, append_results
from kuleshov.report.lineage import GENERATED, gather, parse_runs
from kuleshov.report.results_table import ResultsTable, build_table, by_world, incomplete
from kuleshov.report.row_settings import row_differences


def report_command(
    runs: list[str],
    run: list[str] | None = None,
    output: Path | None = None,
    all: bool = False,
    strips: int = 3,
    worlds: bool = False,
) -> ResultsTable:
    """Tables and figures of runs.

    A run leads to all that it was made from, so that one run of `summary` is enough. To compare branches, name them:
    `kuleshov report cvrl=runs/A modist=runs/B`.

    Args:
        runs: run folders, NAME=FOLDER, or the folder of all runs (its newest summary or tables)
        run: the same
        output: HTML page to write (null: no page)
        all: print every metric, not only the headline ones
        strips: VidSitu segments shown on the page
        worlds: of runs of several generated worlds: the mean over the worlds, with the standard error over them

    Raises:
        UsageError: --worlds, and not two worlds at least.
    """
    found, measured = gather(parse_runs([*runs, *(run or [])]))
    if worlds and len({source.world for source, _ in measured} - {None}) < 2:
        raise UsageError("--worlds needs runs of two generated worlds or more (`kuleshov run STAGE --world_seed N`)")
    over = "worlds" if worlds else "seeds"
    table = build_table(by_world(measured) if worlds else measured, all_metrics=all, over=over)
    table.notes += row_differences(found) + incomplete(measured)
    if smoke := [one.folder.name for one in found if "-smoke-" in one.folder.name]:
        table.notes.append(
            f"{smoke[0]}{' ...' if len(smoke) > 1 else ''}: a smoke run, a few steps on a few samples: no results"
        )
    if any(one.resolved.get("data") == GENERATED for one in found):
        table.notes.append("Measured on the generated world; the paper's numbers are on the real data sets.")
    if output is not None:
        from kuleshov.report.page import write_page

        write_page(output, found, measured, table, strips=strips)
        print(output, file=sys.stderr)
    return table


@dataclass(frozen=True)
class CeilingScores:
    """Lines of results with row `ceiling`."""

    results: list[Result]

    def __str__(self) -> str:
        return "\n".join(f"{r.task} {r.metric}: {r.value:.2f} (n {r.n} of {r.of})" for r in self.results)


def ceiling_command(root: Path, output: Path, split: str = "valid", predictions: Path | None = None) -> CeilingScores:
    """Score a perfect observer of the generated world: what no method can be expected to beat.

    It knows the grammar and everything on screen, and of events off screen only what follows from their neighbors.
    Lines with row=ceiling are appended to the results file, scored by the benchmark's own code.

    Args:
        root: a generated world
        output: results file (.jsonl) to append to
        split: split to score
        predictions: folder to write its predictions to, verbs.json and relations.json
    """
    from kuleshov.datasets.vidsitu import VidSitu
    from kuleshov.synthetic.oracle import predict
    from kuleshov.tasks.evaluate_vidsitu import evaluate_vidsitu
    from kuleshov.tasks.verbs import read_offscreen, split_accuracy

    annotations = Path(root) / "vidsitu"
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as temporary:
        for task, records in zip(("verbs", "relations"), predict(Path(root), split), strict=True):
            path = (predictions or Path(temporary)) / f"{task}.json"
            write_json(path, records)
            scores = evaluate_vidsitu(task, annotations, path, split)
            found = {metric: (value, scores.n) for metric, value in scores.metrics.items()}
            if task == "verbs":
                data = VidSitu(annotations)
                names = data.segments(split)
                ranked = {names[record["ann_idx"]]: record["pred_vbs_ev"] for record in records}
                found |= split_accuracy(ranked, data.verbs(split), read_offscreen(annotations, None))
            facts = {"task": task, "split": split, "of": scores.of, "sample_ids_sha256": scores.sample_ids_sha256}
            facts |= {"row": "ceiling", "selection": "exact posteriors given the grammar and the events on screen"}
            results += [Result(metric, value, n=n, **facts) for metric, (value, n) in found.items()]
    append_results(output, results)
    return CeilingScores(results)
