"""From a stage's name to a plan: what runs, in which folder, from which files, and what is done already."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kuleshov.core.errors import KuleshovError, MissingDataError, UsageError, nearest
from kuleshov.core.files import flatten, read_json, read_yaml, sha256_json
from kuleshov.core.project import find_file
from kuleshov.datasets.registry import DATA_SETS, data_set
from kuleshov.pipeline.own_films import OwnFilms
from kuleshov.pipeline.stages import SCALES, Arguments, Need, Stage, load_stage
from kuleshov.pipeline.uses import KINDS, Use, read_use, read_weights

START = "model.init_args.backbone_weights"  # what the training of a backbone starts from
WORLD = "world"
SAMPLE_SPLIT = "split_files/vseg_split_valid_lb.json"  # what a sample of VidSitu is reported on
_MODEL = "model.init_args.{}"
SAMPLE = "sample"  # stage, and what it calls its folder: a few videos of a data set, with what is said of them
SMOKE = {  # of every training, where it is to run in a moment
    "trainer.max_epochs": "1",
    "trainer.limit_train_batches": "2",
    "trainer.limit_val_batches": "2",
    "trainer.check_val_every_n_epoch": "1",
    "trainer.devices": "1",
    "trainer.strategy": "auto",
}
DONE = "stage.json"
JOB_DONE = "job.json"
MOST_SEEDS = 1000  # repetitions of a job


@dataclass(frozen=True)
class Request:
    """What the user asked for: the arguments of `kuleshov run`, where empty ones take the stage's first.

    Attributes:
        project: folder with stages/ and configs/; what it lacks comes with the package.
        root: folder of the data sets; None takes the generated world, or `data/` at paper scale. For the
            data set `folder` it is that folder, and does not hold for the stages that need other data.
        weights: a backbone's weights: a stage that pretrains one starts from them, for all others they stand
            in place of the stage pretrain-backbone's.
        overrides: extra arguments of the last stage.
        rows: rows of the stage to make; all where none is named.
        repeats: how often, where a stage that needs this one says so; otherwise `seeds`.
        films: the user's own films, at scale small.
        smoke: let every stage run in a moment: two steps, two clips, tiny networks, on a few samples of the data.
        needs_data: refuse a data set that is not on disk.
    """

    stage: str
    project: Path
    data: str = ""
    scale: str = "paper"
    method: str = ""
    tasks: tuple[str, ...] = ()
    seeds: int = 1
    root: Path | None = None
    weights: Path | None = None
    uses: tuple[str, ...] = ()
    runs: Path = Path("runs")
    world_seed: int = 0
    overrides: tuple[tuple[str, str], ...] = ()
    rows: tuple[str, ...] = ()
    repeats: int | None = None
    films: OwnFilms | None = None
    smoke: bool = False
    needs_data: bool = True


@dataclass(frozen=True)
class Job:
    """One process of a stage, which makes one row of a table for one task with one seed.

    Attributes:
        name: unique in the stage; its folder is `<run>/<name>`, or the run folder where a stage has one job.
        words: command line after `kuleshov`.
    """

    name: str
    folder: Path
    row: str
    task: str
    seed: int
    words: tuple[str, ...]

    @property
    def done(self) -> bool:
        """Whether the job has finished."""
        return (self.folder / JOB_DONE).is_file()


@dataclass(frozen=True)
class Planned:
    """A stage with everything resolved.

    Attributes:
        fingerprint: 64 hex digits over `resolved`: the configuration, and the fingerprints of what it needs.
        most_jobs: jobs that it has with all its rows.
        needs: name -> plan of what it needs.
        used: name -> what the user gave in place of a need.
        stale: why an earlier run of the same stage does not count; empty where there is none.
        missing: file that its jobs read and that is not there, nor made by the plan -> what to do.
        unread: names of the needs that only rows read that were not asked for.
    """

    stage: Stage
    data: str
    fingerprint: str
    resolved: dict[str, Any]
    folder: Path
    jobs: tuple[Job, ...]
    most_jobs: int = 1
    needs: dict[str, "Planned"] = field(default_factory=dict)
    used: dict[str, Use] = field(default_factory=dict)
    stale: str = ""
    missing: dict[str, str] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()

    @property
    def done(self) -> bool:
        """Whether all its jobs have finished and the stage was closed."""
        return (self.folder / DONE).is_file() and all(job.done for job in self.jobs)

    @property
    def devices(self) -> int:
        """Devices that its configuration asks for, 1 where it names no number."""
        asked = [config.get("trainer", {}).get("devices") for config in self.resolved["configs"]]
        asked.append(self.resolved["arguments"].get("trainer.devices"))
        last = [value for value in asked if value is not None][-1:]
        return int(last[0]) if last and str(last[0]).isdigit() else 1

    def sources(self, job: Job) -> list[str]:
        """What a job reads, a line each: the need, its stage, and what that was made from."""
        read = [f"{name}: {planned}" for name, planned in self._read([job]).items()]
        named = "\n".join(job.words)
        return read + [f"{name}: {use.path} ({use})" for name, use in self.used.items() if str(use.path) in named]

    def __str__(self) -> str:
        """The stage, its method and data, and what it was made from, in words."""
        own = " ".join(filter(None, [self.stage.name, self.resolved["values"]["method"], self.data]))
        rows = list(dict.fromkeys(job.row for job in self.jobs))
        own += f" ({rows[0]})" if len(rows) == 1 and rows[0] else ""
        made = [str(need) for need in self._read(self.jobs).values()]
        return " < ".join([own, *made]) if len(made) < 2 else f"{own} < ({'; '.join(made)})"

    def _read(self, jobs: Sequence[Job]) -> dict[str, "Planned"]:
        """The needs whose files some jobs name, the data aside."""
        named = "\n".join(word for job in jobs for word in job.words)
        made = {name: need for name, need in self.needs.items() if name not in (WORLD, SAMPLE, "reduced")}
        return {name: need for name, need in made.items() if str(need.folder) in named}

    def order(self) -> list["Planned"]:
        """This stage after all that its jobs need, each once, with the jobs that any of them asks for."""
        merged: dict[Path, Planned] = {}
        needs = [need for name, need in self.needs.items() if name not in self.unread]
        for planned in [*(one for need in needs for one in need.order()), self]:
            before = merged.get(planned.folder)
            jobs = {job.name: job for job in (*(before.jobs if before else ()), *planned.jobs)}
            merged[planned.folder] = replace(planned, jobs=tuple(jobs.values()))
        return list(merged.values())


def make_plan(request: Request) -> Planned:
    """Resolve a request into a plan; nothing is written.

    Raises:
        KuleshovError: an unknown stage, data set, method, task or scale; the nearest known name is offered.
        MissingDataError: the data set, or the weights given, are not on disk.
    """
    if request.scale not in SCALES:
        raise KuleshovError(f"no scale {request.scale!r}{nearest(request.scale, SCALES)}")
    if request.scale == "small" and request.films is None:
        raise KuleshovError("scale small is for a folder of films of your own: add --data folder --root FOLDER")
    for option, value, most in (("seeds", request.seeds, MOST_SEEDS), ("world_seed", request.world_seed, 2**32 - 1)):
        least = int(option == "seeds")
        if not least <= value <= most:
            raise KuleshovError(f"--{option} must be from {least} to {most}, got {value}")
    stage = load_stage(request.stage, request.project)
    home = _choose("data set", stage, request.data, tuple(stage.data))
    if home == "folder" and request.root is None and request.scale in ("small", "paper"):
        raise UsageError("--data folder needs --root: name the folder of your films")
    given = [read_use(text, home) for text in request.uses]
    given += [read_weights(request.weights)] if request.weights is not None else []
    planner = _Planner(given)
    plan = planner.plan(request, {})
    used = [use for planned in planner.known.values() for use in planned.used.values()]
    for use in given:
        if use not in used:
            data = f"@{use.data}" if use.data else ""
            option = f"--use {use.need}{data}={use.path}" if use.need else f"--weights {use.path}"
            known = ", ".join(sorted(planner.asked)) or "none"
            raise KuleshovError(f"{option} ({use}): nothing in the plan takes it (needs: {known})")
    for planned in plan.order() if request.needs_data else []:
        for path, how in planned.missing.items():
            raise MissingDataError(f"what {planned.stage.name} reads", path, how)
    return plan


class _Planner:
    """Plans a stage after all it needs; what was planned or given is not planned again.

    Args:
        given: what the user gave in place of needs.
    """

    def __init__(self, given: list[Use]) -> None:
        self.given = given
        self.known: dict[str, Planned] = {}
        self.stages: dict[str, Stage] = {}
        self.asked: set[str] = set()  # every need, and what its backbone has to have been through

    def plan(
        self, request: Request, below: dict[str, Need], place: tuple[str, ...] = (), above: tuple[str, ...] = ()
    ) -> Planned:
        """Plan a request.

        Args:
            request: of the user, or of a stage that needs this one.
            below: name -> what takes the place of every need of this name.
            place: names of the needs that lead here.
            above: names of the stages that lead here.
        """
        stage = self._stage(request, request.stage)
        data = _choose("data set", stage, request.data, tuple(stage.data))
        method = _choose("method", stage, request.method, stage.methods)
        wanted_rows, needs_data = request.rows, request.needs_data
        key = repr((stage.name, data, method, request.tasks, wanted_rows, request.repeats, needs_data, below))
        if key in self.known:
            return self.known[key]
        if stage.name in above:
            raise KuleshovError(f"stages need each other in a circle: {' -> '.join((*above, stage.name))}")
        uses_world = request.root is None and request.scale not in ("small", "paper")
        if data and not uses_world and request.needs_data:
            # the data set that was asked for is missed before those that it needs
            data_set(data).locate(request.root)
        wanted, needs, used = _needs(request, stage, method, data, uses_world), {}, {}
        if WORLD in stage.needs:
            below = {WORLD: stage.needs[WORLD], **below}
        unread = _unread(request, stage)
        for name, first in wanted.items():
            need, inner = _deeper(first, name, below)
            wanted_data = need.for_data.get(data, need.data).format(data=data)
            need = replace(need, method=need.method.format(method=method), data=wanted_data)
            use = self._use(request, (*place, name), need, inner)
            if use is not None:
                used[name] = use
                continue
            # a folder of videos holds no other data set
            root = None if data == "folder" != need.data else request.root
            asked = replace(request, stage=need.stage, data=need.data, method=need.method, root=root)
            asked = replace(asked, tasks=(), overrides=(), rows=need.rows, repeats=need.seeds)
            # what is not made needs no data
            asked = replace(asked, needs_data=needs_data and name not in unread)
            needs[name] = self.plan(asked, inner, (*place, name), (*above, stage.name))
        # only what was asked for starts from them; elsewhere they stand for a backbone or for nothing
        _check_givens(request, used)
        if stage.starts_from and request.weights is not None and not place:
            used["start"] = next(use for use in self.given if not use.need)
        rows = {name: _deeper(need, name, below)[0].rows for name, need in wanted.items()}
        planned = replace(_resolve(request, stage, data, method, needs, used, rows), unread=unread)
        self.known[key] = planned
        return planned

    def _use(self, request: Request, place: tuple[str, ...], need: Need, below: dict[str, Need]) -> Use | None:
        """What the user gave for a need; the last of several."""
        outputs = self._stage(request, need.stage).outputs
        output = next(iter(outputs)) if len(outputs) == 1 else ""
        trained = self._training(request, need, below)
        if need.stage != SAMPLE:
            data = f"@{need.data}" if need.data else ""
            self.asked.add(" ".join([f"{'.'.join(place[-2:])}{data}", *trained]))
        fitting = [use for use in self.given if use.stands_for(".".join(place), need.data, output, trained)]
        return fitting[-1] if fitting else None

    def _training(self, request: Request, need: Need, below: dict[str, Need]) -> tuple[str, ...]:
        """What the backbone of a need, or the one behind it, has to have been through; empty where any will do."""
        stage = self._stage(request, need.stage)
        if not stage.trains:
            behind = next((name for name in ("backbone", "features", "instances") if name in stage.needs), None)
            return self._training(request, *_deeper(stage.needs[behind], behind, below)) if behind else ()
        if not (need.method or need.rows):
            return ()
        method = need.method or next(iter(stage.methods), "")
        rows = stage.rows_at(request.scale)
        arguments = {**stage.arguments, **(rows.get(need.rows[0], {}) if need.rows else {})}
        start = re.fullmatch(r"\{([\w-]+)\.weights\}", arguments.get(START, ""))
        before: tuple[str, ...] = ()
        if start is not None:
            first, inner = _deeper(stage.needs[start[1]], start[1], below)
            before = self._training(request, replace(first, method=first.method.format(method=method)), inner)
        return (*before, stage.trains.format(method=method, data=need.data))

    def _stage(self, request: Request, name: str) -> Stage:
        """A stage, its file read once."""
        if name not in self.stages:
            self.stages[name] = load_stage(name, request.project)
        return self.stages[name]


def _deeper(need: Need, name: str, below: dict[str, Need]) -> tuple[Need, dict[str, Need]]:
    """A need, or what takes its place, and what takes the places of those below it; a world stays the world."""
    if name not in below:
        return need, {**need.below, **below}
    return below[name], {**({WORLD: below[WORLD]} if WORLD in below else {}), **below[name].below}


def _needs(request: Request, stage: Stage, method: str, data: str, uses_world: bool) -> dict[str, Need]:
    needs = {
        name: need
        for name, need in stage.needs.items()
        if request.scale in need.scales and (not need.methods or method in need.methods)
        # a stage may name the world that it, and what it needs, has its data from, where it has them from one
        if name != WORLD or uses_world or not stage.data
    }
    if stage.data and request.smoke and stage.name != SAMPLE:
        return {**needs, SAMPLE: Need(SAMPLE, data)}
    return {WORLD: Need(WORLD), **needs} if stage.data and uses_world else needs


def _unread(request: Request, stage: Stage) -> frozenset[str]:
    """Names of the needs that other rows read, and neither those that are asked for nor all of them."""

    def named(*arguments: Arguments) -> set[str]:
        return {name for one in arguments for value in one.values() for name in re.findall(r"\{([\w-]+)", str(value))}

    rows = stage.rows_at(request.scale, request.smoke)
    asked = [rows.get(row, {}) for row in request.rows or rows]
    shared = [stage.arguments, stage.smoke, dict(request.overrides), *stage.data.values(), *stage.scales.values()]
    return frozenset(named(*rows.values()) - named(*asked, *shared))


def _choose(what: str, stage: Stage, asked: str, known: tuple[str, ...]) -> str:
    if not asked:
        return known[0] if known else ""
    if asked not in known:
        offered = nearest(asked, known) if known else " (it takes none)"
        raise KuleshovError(f"stage {stage.name} has no {what} {asked!r}{offered}")
    return asked


def _resolve(
    request: Request,
    stage: Stage,
    data: str,
    method: str,
    needs: dict[str, Planned],
    used: dict[str, Use],
    needed_rows: dict[str, tuple[str, ...]],
) -> Planned:
    values = {"data": data, "method": method, "scale": request.scale, "world_seed": str(request.world_seed)}
    if stage.scales and request.scale not in stage.scales:
        raise KuleshovError(f"stage {stage.name} has no scale {request.scale} (known: {', '.join(stage.scales)})")
    arguments = {**stage.arguments, **stage.data.get(data, {}), **stage.scales.get(request.scale, {})}
    if request.smoke:
        arguments |= {**(SMOKE if stage.command == "fit" else {}), **_small(stage, used)}
    arguments |= dict(request.overrides)
    root, where = _root(request, data, needs)
    configs = config_files(stage, request.project, method, data, request.scale)
    digests = {name: use.digest for name, use in used.items()}
    rows = stage.rows_at(request.scale, request.smoke)
    resolved = {
        "stage": stage.name,
        "command": stage.command,
        "configs": [read_yaml(path) or {} for path in configs],
        "arguments": dict(arguments),
        "rows": rows,
        "values": dict(values),
        "data": where,
        "needs": dict(sorted({**_fingerprints(needs, needed_rows), **digests}.items())),
    }
    fingerprint = sha256_json(resolved)
    prefix = "-".join(part for part in (stage.name, data, request.scale, "smoke" if request.smoke else "") if part)
    folder = request.runs / f"{prefix}-{fingerprint[:8]}"
    values |= {"run": str(folder), "root": str(root or ""), **_handed_on(needs, needed_rows)}
    values["home"] = str(request.root or "data")
    if request.films is not None:
        values |= {f"small.{name}": value for name, value in request.films.settings().items()}
    world = needs.get(WORLD) or (needs[SAMPLE].needs.get(WORLD) if SAMPLE in needs else None)
    place = world.folder / "world" if world is not None else None
    for name, one in DATA_SETS.items():
        values[f"root.{name}"] = str(one.locate(request.root, place, must_exist=False))
    for name, use in used.items():
        # a split that is given names segments that a sample has not
        path = needs[SAMPLE].folder / SAMPLE / SAMPLE_SPLIT if use.kind == "split" and SAMPLE in needs else use.path
        values |= {f"{name}.{output}": str(path) for output, kind in KINDS.items() if kind == use.kind}
    if "start" in used:
        arguments[stage.starts_from] = str(used["start"].path)
    tasks = _tasks(request, stage)
    jobs = _jobs(request, stage, configs, arguments, rows, tasks, values, folder)
    most = max(1, len(tasks)) * max(1, len(rows)) * (request.seeds if stage.seeded else 1)
    stale = why_stale(request.runs, prefix, folder, resolved)
    missing = _missing(stage, [job for job in jobs if not job.done], values, needs)
    return Planned(stage, data, fingerprint, resolved, folder, jobs, most, needs, used, stale, missing)


def _check_givens(request: Request, used: dict[str, Use]) -> None:
    """Refuse a TxE and features of backbones that, by what they say, were trained otherwise."""
    events, txe = used.get("features"), used.get("txe")
    if events is None or txe is None or not (events.trained and txe.trained) or events.trained == txe.trained:
        return
    if any("allow_other_backbone" in key for key, _ in request.overrides):
        return
    raise UsageError(
        f"--use txe={txe.path} ({txe}) is for the features of another backbone than "
        f"--use features={events.path} ({events}): give both of one"
    )


def _small(stage: Stage, used: dict[str, Use]) -> Arguments:
    """What makes a stage small, but for the sizes of networks whose weights the user gave."""
    kinds = {use.kind for use in used.values()}
    given = [name for name in ("txe", "backbone") if name in kinds]
    return {key: value for key, value in stage.smoke.items() if not key.startswith(tuple(map(_MODEL.format, given)))}


def _missing(stage: Stage, jobs: list[Job], values: dict[str, str], needs: dict[str, Planned]) -> dict[str, str]:
    found = {}
    for template, how in stage.reads.items():
        path = Path(_fill(stage, template, values))
        asked = any(word == str(path) or word.endswith(f"={path}") for job in jobs for word in job.words)
        if asked and not path.exists() and not any(path.is_relative_to(need.folder) for need in needs.values()):
            found[str(path)] = how
    return found


def _fingerprints(needs: dict[str, Planned], rows: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """The fingerprints of needs, with the rows where not all are needed."""
    return {name: " ".join([need.fingerprint, *rows.get(name, ())]) for name, need in needs.items()}


def _root(request: Request, data: str, needs: dict[str, Planned]) -> tuple[Path | None, str]:
    """The folder of a stage's data set, and what a fingerprint says of it."""
    if not data:
        return None, ""
    if SAMPLE in needs:
        return needs[SAMPLE].folder / SAMPLE, SAMPLE
    if WORLD in needs:
        return data_set(data).locate(None, needs[WORLD].folder / "world"), "generated world"
    root = data_set(data).locate(request.root, must_exist=request.needs_data)
    return root, str(root.absolute())


def config_files(stage: Stage, project: Path, method: str, data: str, scale: str) -> list[Path]:
    """The stage's YAML files in order, those that depend on the data set where they are there.

    Raises:
        KuleshovError: another one is not there, such as the one of this scale.
    """
    found = []
    for name in stage.configs:
        relative = name.format(method=method, data=data, scale=scale)
        path = find_file(relative, project)
        if path is None and "{data}" not in name:
            at = f" at scale {scale}" if "{scale}" in name else ""
            raise KuleshovError(f"stage {stage.name} cannot run{at}: {project / relative} is not there")
        found += [path] if path is not None else []
    return found


def _handed_on(needs: dict[str, Planned], rows: dict[str, tuple[str, ...]]) -> dict[str, str]:
    values = {}
    for name, need in needs.items():
        values[name] = str(need.folder)
        for output, path in need.stage.outputs.items():
            values[f"{name}.{output}"] = str(need.folder / path.replace("{row}", "".join(rows.get(name, ())[:1])))
    return values


def _jobs(
    request: Request,
    stage: Stage,
    configs: list[Path],
    arguments: Arguments,
    rows: dict[str, Arguments],
    tasks: list[str],
    values: dict[str, str],
    folder: Path,
) -> tuple[Job, ...]:
    single = not (rows or stage.tasks or stage.seeded)
    for row in request.rows:
        _choose("row", stage, row, tuple(rows))
    chosen = {row: rows[row] for row in request.rows} or rows or {"": {}}
    repeats = (request.repeats or request.seeds) if stage.seeded else 1
    jobs = []
    for task in tasks or [""]:
        for row, extra in chosen.items():
            for seed in range(repeats):
                parts = [part for part in (task, row) if part] + ([f"seed{seed}"] if stage.seeded else [])
                name = "-".join(parts) or stage.name
                place = folder if single else folder / name
                filled = {**values, "job": str(place), "row": row, "task": task, "seed": str(seed)}
                pairs = {key: _fill(stage, value, filled) for key, value in {**arguments, **extra}.items()}
                words = _words(stage, configs, pairs, place, seed)
                jobs.append(Job(name, place, row, task, seed, words))
    return tuple(jobs)


def _tasks(request: Request, stage: Stage) -> list[str]:
    if not request.tasks:
        return stage.default_tasks.get(request.scale, list(stage.tasks))
    for task in request.tasks:
        if task not in stage.tasks and task != "all":
            known = nearest(task, [*stage.tasks, "all"]) if stage.tasks else " (it takes none)"
            raise KuleshovError(f"stage {stage.name} has no task {task!r}{known}")
    return list(stage.tasks if "all" in request.tasks else request.tasks)


def _words(stage: Stage, configs: list[Path], pairs: dict[str, str], place: Path, seed: int) -> tuple[str, ...]:
    words = stage.command.split()
    for path in configs:
        words += ["--config", str(path)]
    if stage.command == "fit":
        pairs = {"seed_everything": str(seed), "trainer.default_root_dir": str(place), **pairs}
    for key, value in pairs.items():
        # jsonargparse takes a value that begins with a dash only after an equals sign
        words += [f"--{key}={value}"] if stage.command == "fit" else [f"--{key}", *value.split("\n")]
    return tuple(words)


def _fill(stage: Stage, value: str, values: dict[str, str]) -> str:
    """A value with its placeholders replaced, once: what they stand for may have braces of its own."""

    def replacement(found: re.Match) -> str:
        if found[1] not in values:
            raise KuleshovError(f"stage {stage.name}: {value!r} names something that the stage does not have")
        filled = values[found[1]]
        # within a list, YAML would read a name's own brackets and commas
        plain = not value.startswith("[") or re.fullmatch(r"[\w./+~@-]+", filled)
        return filled if plain else json.dumps(filled, ensure_ascii=False)

    return re.sub(r"\{([\w.-]+)\}", replacement, value)


def why_stale(runs: Path, prefix: str, folder: Path, resolved: dict[str, Any]) -> str:
    """What differs between this plan and the newest other run of the same stage; empty for none."""
    if folder.exists():
        return ""
    done = [path for path in runs.glob(f"{prefix}-????????") if (path / DONE).is_file()]
    others = {path: read_json(path / DONE).get("resolved", {}) for path in done}
    # another method or another world is no earlier run of this
    others = {path: value for path, value in others.items() if value.get("values") == resolved["values"]}
    if not others:
        return ""
    newest = max(others, key=lambda path: (path / DONE).stat().st_mtime)
    before, now = flatten(others[newest]), flatten(json.loads(json.dumps(resolved)))
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    # of what it was made from the digest says nothing
    said = [
        f"another {key.removeprefix('needs.')}"
        if key.startswith("needs.")
        else f"{key}: {before.get(key)} -> {now.get(key)}"
        for key in changed
    ]
    shown = ", ".join(said[:3])
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"{newest.name} is of another configuration ({shown}{more})"
