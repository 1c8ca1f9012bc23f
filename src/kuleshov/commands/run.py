"""Run a stage of the pipeline and whatever it needs that is not done yet.

Stages are the files of stages/. Where --root is not given, the demo and gpu scales run on the generated
world, which is written first, and the paper scale looks for the data sets under data/. A stage that is done
is skipped; a stage that was interrupted goes on. Under torchrun or SLURM every rank runs this same command.
"""

import argparse
from pathlib import Path

from rich.table import Table

from kuleshov.core.errors import KuleshovError
from kuleshov.pipeline.launch import detect
from kuleshov.pipeline.plan import Planned, Request, make_plan
from kuleshov.pipeline.runner import Runner, console
from kuleshov.pipeline.stages import SCALES, project_root, stage_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kuleshov run`."""
    parser.add_argument("stage", metavar="STAGE", help="name of a file in stages/, or `list`")
    parser.add_argument("--data", default="", help="data set: k400, vidsitu, lvu, folder (empty: the stage's own)")
    parser.add_argument("--scale", default="paper", choices=SCALES, help="sizes and schedules")
    parser.add_argument("--method", default="", help="method, where a stage has several (empty: its first)")
    parser.add_argument("--task", default="", help="task or comma-separated tasks, where a stage has several; all")
    parser.add_argument("--seeds", type=int, default=1, help="repeat the stages that depend on the seed")
    parser.add_argument("--devices", type=int, default=1, help="processes a node that train together (DDP)")
    parser.add_argument("--num_nodes", type=int, default=1, help="number of nodes")
    parser.add_argument("--root", type=Path, default=None, help="folder that holds the data sets")
    parser.add_argument(
        "--weights",
        type=Path,
        default=None,
        help="backbone weights, in place of pretraining the backbone; pretrain-backbone itself starts from them",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--world_seed", type=int, default=0, help="seed of the generated world")
    parser.add_argument("--jobs", type=int, default=0, help="jobs side by side; 0: one a core, one on a GPU")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="another argument for the stage itself"
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan and do nothing")
    parser.add_argument("--force", action="store_true", help="do the stage again from the beginning")


def run(args: argparse.Namespace) -> int:
    """Plan, and run unless told not to."""
    project = project_root()
    if args.stage == "list":
        print("\n".join(stage_names(project)))
        return 0
    plan = make_plan(request(args, project))
    if args.dry_run:
        out = console()
        out.print(plan_table(plan))
        for planned in plan.order():
            if planned.stale and not planned.done:
                out.print(f"stale: {planned.stale}")
        return 0
    launch = detect(args.devices, args.num_nodes)
    Runner(launch, args.jobs, console()).run(plan, force=args.force)
    if launch.rank == 0:
        print(plan.folder)
    return 0


def request(args: argparse.Namespace, project: Path) -> Request:
    """The request that the arguments make.

    Raises:
        KuleshovError: a `--set` without an equals sign.
    """
    overrides = []
    for text in args.set:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise KuleshovError(f"--set takes NAME=VALUE, got {text!r}")
        overrides.append((name, value))
    return Request(
        stage=args.stage,
        project=project,
        data=args.data,
        scale=args.scale,
        method=args.method,
        tasks=tuple(task for task in args.task.split(",") if task),
        seeds=args.seeds,
        root=args.root,
        weights=args.weights,
        runs=args.runs,
        world_seed=args.world_seed,
        overrides=tuple(overrides),
    )


def plan_table(plan: Planned) -> Table:
    """The plan as a table: stage, data, folder, jobs, state."""
    table = Table("stage", "data", "folder", "jobs", "state")
    for planned in plan.order():
        left = sum(not job.done for job in planned.jobs)
        begun = planned.folder.exists()
        state = "done" if planned.done else "goes on" if begun else "to run"
        table.add_row(planned.stage.name, planned.data, str(planned.folder), f"{left}/{len(planned.jobs)}", state)
    return table
