"""From a stage's name to a plan: what runs, in which folder, from which files, and what is done already."""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from kuleshov.core.errors import KuleshovError, nearest
from kuleshov.core.files import read_json, sha256_json
from kuleshov.datasets.registry import data_set
from kuleshov.pipeline.stages import SCALES, Arguments, Need, Stage, find_file, load_stage
from kuleshov.pipeline.uses import KINDS, Use, read_use, read_weights

PRETRAINING = "pretrain-backbone"
TUNING, TUNED = "finetune-backbone", "verbs-finetune"  # a stage, and the method that its weights' manifest names
DONE = "stage.json"
JOB_DONE = "job.json"
MOST_SEEDS = 1000  # repetitions of a job


@dataclass(frozen=True)
class Request:
    """What the user asked for: the arguments of `kuleshov run`, where empty ones take the stage's first.

    Attributes:
        project: folder with stages/ and configs/; what it lacks is taken from the checkout.
        root: folder of the data sets; None takes the generated world, or `data/` at paper scale. For the
            data set `folder` it is that folder, and does not hold for the stages that need other data.
        weights: a backbone's weights: a stage that pretrains one starts from them, for all others they stand
            in place of the stage pretrain-backbone's.
        overrides: extra arguments of the last stage.
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
        needs: name -> plan of what it needs.
        used: name -> what the user gave in place of a need.
        stale: why an earlier run of the same stage does not count; empty where there is none.
    """

    stage: Stage
    data: str
    fingerprint: str
    resolved: dict[str, Any]
    folder: Path
    jobs: tuple[Job, ...]
    needs: dict[str, "Planned"] = field(default_factory=dict)
    used: dict[str, Use] = field(default_factory=dict)
    stale: str = ""

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

    def order(self) -> list["Planned"]:
        """This stage after all it needs, each once."""
        needed = [planned for need in self.needs.values() for planned in need.order()]
        return list({planned.folder: planned for planned in [*needed, self]}.values())


def make_plan(request: Request) -> Planned:
    """Resolve a request into a plan; nothing is written.

    Raises:
        KuleshovError: an unknown stage, data set, method, task or scale; the nearest known name is offered.
        MissingDataError: the data set, or the weights given, are not on disk.
    """
    if request.scale not in SCALES:
        raise KuleshovError(f"no scale {request.scale!r}{nearest(request.scale, SCALES)}")
    for option, value, most in (("seeds", request.seeds, MOST_SEEDS), ("world_seed", request.world_seed, 2**32 - 1)):
        least = int(option == "seeds")
        if not least <= value <= most:
            raise KuleshovError(f"--{option} must be from {least} to {most}, got {value}")
    stage = load_stage(request.stage, request.project)
    home = _choose("data set", stage, request.data, tuple(stage.data))
    given = [read_use(text, home) for text in request.uses]
    given += [read_weights(request.weights)] if request.weights is not None else []
    plan = _plan(request, given, {}, ())
    used = [use for planned in plan.order() for use in planned.used.values()]
    for use in given:
        if use not in used:
            needs = [need for one in plan.order() for need in one.stage.needs.items()]
            words = {f"{name} {method_of(need)}".removesuffix("{method}").strip() for name, need in needs}
            option = f"--use {use.need}={use.path}" if use.need else f"--weights {use.path}"
            made = f"made by {use.method}" if use.method else f"of kind {use.kind}"
            known = ", ".join(sorted(words)) or "none"
            raise KuleshovError(f"{option} ({made}): nothing in the plan takes it (needs: {known})")
    return plan


def _plan(request: Request, given: list[Use], known: dict[tuple, Planned], above: tuple[str, ...]) -> Planned:
    stage = load_stage(request.stage, request.project)
    data = _choose("data set", stage, request.data, tuple(stage.data))
    method = _choose("method", stage, request.method, stage.methods)
    key = (stage.name, data, method, request.tasks)
    if key in known:
        return known[key]
    if stage.name in above:
        raise KuleshovError(f"stages need each other in a circle: {' -> '.join((*above, stage.name))}")
    uses_world = request.root is None and request.scale != "paper"
    if data and not uses_world:
        # the data set that was asked for is missed before those that it needs
        data_set(data).locate(request.root)
    needs, used = {}, {}
    for name, need in _needs(stage, method, request.scale, uses_world).items():
        need = replace(need, method=need.method.format(method=method))
        wanted = need.data.format(data=data)
        use = _use(request, given, name, need, wanted)
        if use is not None:
            used[name] = use
            continue
        # a folder of videos holds no other data set
        root = None if data == "folder" != wanted else request.root
        below = replace(request, stage=need.stage, data=wanted, method=need.method, root=root, tasks=(), overrides=())
        needs[name] = _plan(below, given, known, (*above, stage.name))
    if stage.starts_from and request.weights is not None:
        used["start"] = next(use for use in given if not use.need)
    known[key] = planned = _resolve(request, stage, data, method, needs, used)
    return planned


def _use(request: Request, given: list[Use], name: str, need: Need, data: str) -> Use | None:
    """What the user gave for a need; the last of several."""
    outputs = load_stage(need.stage, request.project).outputs
    output = next(iter(outputs)) if len(outputs) == 1 else ""
    # weights that were given for no need by name are a first phase's, or a tuned backbone's
    given = [use for use in given if use.need or need.stage in (PRETRAINING, TUNING)]
    fitting = [use for use in given if use.stands_for(name, data, output, method_of(need))]
    return fitting[-1] if fitting else None


def method_of(need: Need) -> str:
    """The method by which a need's backbone has to be made; empty for any."""
    return need.method or (TUNED if need.stage == TUNING else "")


def _needs(stage: Stage, method: str, scale: str, uses_world: bool) -> dict[str, Need]:
    needs = {
        name: need
        for name, need in stage.needs.items()
        if scale in need.scales and (not need.methods or method in need.methods)
    }
    if uses_world and stage.data:
        needs["world"] = Need("world")
    return needs


def _choose(what: str, stage: Stage, asked: str, known: tuple[str, ...]) -> str:
    if not asked:
        return known[0] if known else ""
    if asked not in known:
        offered = nearest(asked, known) if known else " (it takes none)"
        raise KuleshovError(f"stage {stage.name} has no {what} {asked!r}{offered}")
    return asked


def _resolve(
    request: Request, stage: Stage, data: str, method: str, needs: dict[str, Planned], used: dict[str, Use]
) -> Planned:
    values = {"data": data, "method": method, "scale": request.scale, "world_seed": str(request.world_seed)}
    if stage.scales and request.scale not in stage.scales:
        raise KuleshovError(f"stage {stage.name} has no scale {request.scale} (known: {', '.join(stage.scales)})")
    arguments = {**stage.arguments, **stage.data.get(data, {}), **stage.scales.get(request.scale, {})}
    arguments |= dict(request.overrides)
    world = needs["world"].folder / "world" if "world" in needs else None
    root = data_set(data).locate(request.root, world) if data else None
    configs = config_files(stage, request.project, method, data, request.scale)
    digests = {name: use.digest for name, use in used.items()}
    rows = stage.method_rows.get(method, stage.rows)
    resolved = {
        "stage": stage.name,
        "command": stage.command,
        "configs": [yaml.safe_load(path.read_text(encoding="utf-8")) or {} for path in configs],
        "arguments": dict(arguments),
        "rows": rows,
        "values": dict(values),
        "data": "generated world" if world else str(root.absolute()) if root else "",
        "needs": dict(sorted({**{name: need.fingerprint for name, need in needs.items()}, **digests}.items())),
    }
    fingerprint = sha256_json(resolved)
    prefix = "-".join(part for part in (stage.name, data, request.scale) if part)
    folder = request.runs / f"{prefix}-{fingerprint[:8]}"
    values |= {"run": str(folder), "root": str(root or ""), **_handed_on(needs)}
    for name, use in used.items():
        values |= {f"{name}.{output}": str(use.path) for output, kind in KINDS.items() if kind == use.kind}
    if "start" in used:
        arguments[stage.starts_from] = str(used["start"].path)
    jobs = _jobs(request, stage, configs, arguments, rows, values, folder)
    stale = why_stale(request.runs, prefix, folder, resolved)
    return Planned(stage, data, fingerprint, resolved, folder, jobs, needs, used, stale)


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


def _handed_on(needs: dict[str, Planned]) -> dict[str, str]:
    values = {}
    for name, need in needs.items():
        values[name] = str(need.folder)
        values |= {f"{name}.{output}": str(need.folder / path) for output, path in need.stage.outputs.items()}
    return values


def _jobs(
    request: Request,
    stage: Stage,
    configs: list[Path],
    arguments: Arguments,
    rows: dict[str, Arguments],
    values: dict[str, str],
    folder: Path,
) -> tuple[Job, ...]:
    single = not (rows or stage.tasks or stage.seeded)
    jobs = []
    for task in _tasks(request, stage) or [""]:
        for row, extra in (rows or {"": {}}).items():
            for seed in range(request.seeds if stage.seeded else 1):
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
    words = [stage.command]
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
    before, now = _flat(others[newest]), _flat(json.loads(json.dumps(resolved)))
    changed = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    shown = ", ".join(f"{key}: {before.get(key)} -> {now.get(key)}" for key in changed[:3])
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f"{newest.name} is of another configuration ({shown}{more})"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, (dict, list)):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    flat: dict[str, Any] = {}
    for key, child in items:
        flat |= _flat(child, f"{prefix}.{key}" if prefix else str(key))
    return flat
