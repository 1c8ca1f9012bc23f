"""Tables and figures of runs: a table on stdout, and one self-contained HTML page.

A run leads to all that it was made from, so that one `tables` run is enough. To compare branches, name them:
`kuleshov report cvrl=runs/A modist=runs/B`.
"""

import argparse
import json
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kuleshov report`."""
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="run folders, NAME=FOLDER, or the folder of all runs (its newest tables)"
    )
    parser.add_argument("--run", dest="more", nargs="+", action="extend", default=[], metavar="RUN", help="the same")
    parser.add_argument("--output", type=Path, default=None, metavar="PAGE.html", help="page to write (none: no page)")
    parser.add_argument("--all", action="store_true", help="print every metric, not only the headline ones")
    parser.add_argument("--strips", type=int, default=3, help="VidSitu segments shown on the page")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the table; write the page."""
    from kuleshov.report.measured import gather, generated, parse_runs
    from kuleshov.report.render import as_json, print_table, terminal
    from kuleshov.report.skipped import incomplete
    from kuleshov.report.table_five import as_json as five_as_json
    from kuleshov.report.table_five import lvu_tables, print_lvu_table, split_off
    from kuleshov.report.tables import build

    runs, measured = gather(parse_runs([*args.runs, *args.more]))
    fives = lvu_tables(measured)
    # nine tasks go into a table of their own, unless everything is asked for
    table = build(measured if args.all else split_off(measured)[0], headline=not args.all)
    table.notes += incomplete(measured)
    if generated(runs):
        table.notes.append("Measured on the generated world; the paper's numbers are on the real data sets.")
    if args.json:
        print(json.dumps({**as_json(table), "table_five": five_as_json(fives)}, ensure_ascii=False))
    else:
        for five in fives:
            print_lvu_table(five, terminal())
        print_table(table, terminal())
    if args.output is not None:
        from kuleshov.report.page import write_page

        write_page(args.output, runs, measured, table, strips=args.strips)
        print(args.output, file=sys.stderr)
    return 0
