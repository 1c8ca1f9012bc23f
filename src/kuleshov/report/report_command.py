"""`kuleshov report`: the table on stdout, and one self-contained HTML page."""

import sys
from pathlib import Path

from kuleshov.report.lineage import GENERATED, gather, parse_runs
from kuleshov.report.results_table import ResultsTable, build_table, incomplete


def report_command(
    runs: list[str], run: list[str] | None = None, output: Path | None = None, all: bool = False, strips: int = 3
) -> ResultsTable:
    """Tables and figures of runs.

    A run leads to all that it was made from, so that one `tables` run is enough. To compare branches, name them:
    `kuleshov report cvrl=runs/A modist=runs/B`.

    Args:
        runs: run folders, NAME=FOLDER, or the folder of all runs (its newest tables)
        run: the same
        output: HTML page to write (null: no page)
        all: print every metric, not only the headline ones
        strips: VidSitu segments shown on the page

    Raises:
        KuleshovError: a run, or one that it was made from, is not there or is broken.
    """
    found, measured = gather(parse_runs([*runs, *(run or [])]))
    table = build_table(measured, all_metrics=all)
    table.notes += incomplete(measured)
    if any(one.resolved.get("data") == GENERATED for one in found):
        table.notes.append("Measured on the generated world; the paper's numbers are on the real data sets.")
    if output is not None:
        from kuleshov.report.page import write_page

        write_page(output, found, measured, table, strips=strips)
        print(output, file=sys.stderr)
    return table
