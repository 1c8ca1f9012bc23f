"""Score a prediction file as the benchmark itself does.

VidSitu: `kuleshov evaluate verbs|roles|relations --predictions P --annotations ROOT`; LVU:
`kuleshov evaluate lvu --task T --predictions P --annotations ROOT`.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare one parser a benchmark."""
    from kuleshov.tasks import evaluate_lvu, evaluate_vidsitu

    benchmarks = parser.add_subparsers(dest="benchmark", required=True)
    for task in ("verbs", "roles", "relations"):
        child = benchmarks.add_parser(task, help=f"VidSitu's {task}")
        evaluate_vidsitu.add_arguments(child)
        child.set_defaults(handler=evaluate_vidsitu.main, vidsitu_task=task)
    child = benchmarks.add_parser("lvu", help="an LVU task")
    evaluate_lvu.add_arguments(child)
    child.set_defaults(handler=evaluate_lvu.main)


def run(args: argparse.Namespace) -> int:
    """Score and print."""
    return args.handler(args)
