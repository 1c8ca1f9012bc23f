"""`kuleshov run`: plans a stage, shows the plan, or does it."""

from pathlib import Path
from typing import Literal

from rich.markup import escape
from rich.table import Column, Table

from kuleshov.core.errors import KuleshovError, UsageError
from kuleshov.core.processes import Launch, detect
from kuleshov.core.project import SHIPPED
from kuleshov.metrics.paper_values import PAPER_TABLES, printed_row
from kuleshov.pipeline.members import follow
from kuleshov.pipeline.own_films import count_films
from kuleshov.pipeline.plan import Planned, Request, make_plan
from kuleshov.pipeline.runner import UNTRAINED, Runner, console
from kuleshov.pipeline.stages import find_project, make_importable, stage_files, stage_names


def run_command(
    stage: str,
    data: str = "",
    scale: Literal["auto", "small", "demo", "gpu", "paper"] = "auto",
    method: str = "",
    task: str = "",
    rows: str = "",
    seeds: int = 1,
    devices: int | None = None,
    num_nodes: int = 1,
    root: Path | None = None,
    weights: Path | None = None,
    use: list[str] | None = None,
    runs: Path = Path("runs"),
    project: Path | None = None,
    world_seed: int = 0,
    jobs: int = 0,
    launcher: Literal["here", "slurm", "local"] = "here",
    submit: list[str] | None = None,
    set: list[str] | None = None,
    smoke: bool = False,
    dry_run: bool = False,
    force: bool = False,
) -> str:
    """Run a stage of the pipeline and whatever it needs that is not done yet.

    Stages are the files of stages/ in the working directory, and those that come with the package. Where --root is not
    given, the demo and gpu scales run on the generated world, which is written first, and the paper scale looks for the
    data sets under data/. A stage that is done is skipped; a stage that was interrupted goes on. Under torchrun or
    SLURM every rank runs this same command.

    Args:
        stage: a stage's name, the path of a stage file, or `list`
        data: data set: k400, vidsitu, lvu, shards, folder (empty: the stage's first)
        scale: sizes and schedules; auto: the paper's, and of a folder of films `small` ones, where it has not enough
            events for the paper's
        method: method, where a stage has several (empty: its first)
        task: task or comma-separated tasks, where a stage has several; `all`
        rows: row or comma-separated rows of the stage (empty: all); what only the others read is not made
        seeds: repeat the stages that depend on the seed
        devices: processes a node that train together (DDP); null: as the configuration says
        num_nodes: number of nodes
        root: folder that holds the data sets
        weights: backbone weights, in place of pretraining a backbone by the method that they were made by, or by any
            where a stage does not say; pretrain-backbone itself starts from them
        use: NEED=PATH or NEED@DATA=PATH: weights or a store in place of a need of the plan (backbone, features, txe,
            instances, or NEED.NEED for one that lies below another), with all that it would need
        runs: folder of the runs
        project: folder with stages/ and configs/ of your own (null: the working directory)
        world_seed: seed of the generated world
        jobs: jobs side by side, also of stages that do not need each other; 0: one a core, or one a GPU
        launcher: slurm: submit a job a stage, each after those that it needs, and return; local: the same with
            processes of this machine, waiting for them
        submit: NAME=VALUE: a parameter of the submission, as submitit's AutoExecutor names it: timeout_min,
            cpus_per_task, mem_gb, gpus_per_node, slurm_partition, slurm_account
        set: NAME=VALUE: another argument for the stage itself
        smoke: let every stage run in a moment, to see that it does: two steps, two clips, tiny networks, on a few
            samples of the data sets
        dry_run: show the plan, and of the paper's tables row by row what is trained, from what, and what the paper has;
            do nothing, without any data
        force: do the stage again from the beginning

    Returns:
        The stage's run folder, to be printed; names of stages for `list`; of submitted jobs the number and folder.

    Raises:
        KuleshovError: the request cannot be met, or a job failed.
    """
    for option, value, least in (("devices", devices, 1), ("num_nodes", num_nodes, 1), ("jobs", jobs, 0)):
        if value is not None and value < least:
            raise UsageError(f"--{option} must be at least {least}, got {value}")
    if submit and launcher == "here":
        raise UsageError("--submit is for what --launcher submits: name one")
    name, folder = find_project(stage, project)
    if name == "list":
        return "\n".join(stage_names(folder))
    launch = detect(devices, num_nodes) if launcher == "here" else Launch(devices=devices, nodes=num_nodes)
    if launch.rank > 0:
        make_importable(folder)
        if not dry_run:
            follow(launch)
        return ""
    films = count_films(root) if data == "folder" and root is not None and scale in ("auto", "small") else None
    request = Request(
        stage=name,
        project=folder,
        data=data,
        scale=scale if scale != "auto" else films.scale if films is not None else "paper",
        films=films,
        method=method,
        tasks=_listed(task),
        rows=_listed(rows),
        seeds=seeds,
        root=root,
        weights=weights,
        uses=tuple(use or ()),
        runs=runs,
        world_seed=world_seed,
        overrides=tuple(_override(text) for text in set or ()),
        smoke=smoke,
        needs_data=not dry_run,
    )
    plan = make_plan(request)
    if films is not None:
        console().print(f"{root}: {films}", markup=False)
    if dry_run:
        _show(plan, folder)
        return ""
    if launcher != "here":
        from kuleshov.pipeline import cluster

        how = {"launch": launch, "jobs": jobs, "force": force}
        return cluster.submit(plan, folder, runs, launcher, submit or [], how)
    make_importable(folder)
    Runner(launch, jobs, console()).run(plan, force=force)
    return str(plan.folder)


def _listed(words: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.strip() for one in words.split(","))) if words else ()


def _override(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise KuleshovError(f"--set takes NAME=VALUE, got {text!r}")
    return name, value


def _show(plan: Planned, project: Path) -> None:
    out, order = console(), plan.order()
    table = Table(*(Column(name, overflow="fold") for name in ("stage", "data", "folder", "jobs", "state")))
    for planned in order:
        done = sum(job.done for job in planned.jobs)
        state = "done" if planned.done else "goes on" if planned.folder.exists() else "to run"
        cells = (planned.stage.name, planned.data, str(planned.folder), f"{done}/{len(planned.jobs)}", state)
        table.add_row(*map(escape, cells))
        for name, use in planned.used.items():
            table.add_row(*map(escape, (f"  {name}", use.data, str(use.path), "", f"given: {use}")))
    out.print(table)
    for planned in order:
        if planned.stage.table:
            out.print(_paper_rows(planned))
    for planned in order:
        if planned.stale and not planned.done:
            out.print(f"stale: {escape(planned.stale)}")
    out.print(escape(_where_from(plan, project)))
    for where, name in {planned.resolved["data"]: planned.data for planned in order}.items():
        if Path(where).is_absolute() and not Path(where).is_dir():
            out.print(escape(f"not there yet: data set {name} at {where}"))
    for path, how in {path: how for planned in order for path, how in planned.missing.items()}.items():
        out.print(escape(f"not there yet: {path} ({how})"))


def _where_from(plan: Planned, project: Path) -> str:
    """Which stages and configurations are the project's own, and where the others come from."""
    files = {path for planned in plan.order() for path in stage_files(planned.stage.name, project)}
    words = [job.words for planned in plan.order() for job in planned.jobs]
    files |= {Path(after) for line in words for word, after in zip(line, line[1:], strict=False) if word == "--config"}
    own = sorted(str(path.relative_to(project)) for path in files if path.is_relative_to(project))
    if project == SHIPPED or not own:
        return f"stages and configurations: of {SHIPPED}"
    others = f"; the other {len(files) - len(own)} of {SHIPPED}" if len(files) > len(own) else ""
    return f"stages and configurations: {', '.join(own)} of {project}{others}"


def _paper_rows(planned: Planned) -> Table:
    """What each row of a table is made from, beside the paper's row that it repeats."""
    columns = next(iter(PAPER_TABLES[planned.stage.table].values()))
    title = f"Table {planned.stage.table} of the paper ({planned.stage.name}): {', '.join(columns)}"
    names = ("row", "trained", "from", "the paper's row", "the paper has")
    table = Table(*(Column(name, overflow="fold") for name in names), title=escape(title))
    rows = list(dict.fromkeys(job.row for job in planned.jobs))
    for row in rows:
        jobs = [job for job in planned.jobs if job.row == row]
        name = planned.stage.paper.get(row, "")
        has = printed_row(planned.stage.table, name) if name else "-"
        made = f"{len(jobs)} x {planned.stage.command}"
        table.add_row(*map(escape, (row, made, "\n".join(planned.sources(jobs[0])) or "nothing", name or "-", has)))
    for row, name in planned.stage.paper.items():
        if row in UNTRAINED:
            cells = (row, "no training", "annotators", name, printed_row(planned.stage.table, name))
            table.add_row(*map(escape, cells))
    return table
