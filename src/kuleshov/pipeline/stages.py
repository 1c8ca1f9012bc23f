"""What a stage is: the YAML files of `stages/`, read and checked."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError, nearest
from kuleshov.core.files import read_yaml
from kuleshov.core.project import SHIPPED, find_file

SCALES = ("small", "demo", "gpu", "paper")
JOINED = ("needs", "arguments", "smoke")  # of a stage `like` another, these are added to the other's

Arguments = dict[str, str]


@dataclass(frozen=True)
class Need:
    """Another stage whose outputs a stage reads.

    Attributes:
        stage: its name.
        data: the data set it runs on; `{data}` is this stage's own.
        for_data: data set of this stage -> that of the need, where it is another.
        method: its method; empty for its default; `{method}` is this stage's own.
        scales: at which scales it is needed.
        methods: for which methods of this stage it is needed; all where none is named.
        rows: of its rows those that are needed; all where none is named.
        seeds: how often its rows are repeated; as often as the user asked where it is not said.
        below: name -> what takes the place of every need of this name that lies below this one.
    """

    stage: str
    data: str = ""
    for_data: dict[str, str] = field(default_factory=dict)
    method: str = ""
    scales: tuple[str, ...] = SCALES
    methods: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    seeds: int | None = None
    below: dict[str, "Need"] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: it reads files and writes files.

    A stage file has these fields, except `name`, and two more. `like: STAGE` takes the fields of another stage: those
    of the file replace them, entries of `needs`, `arguments`, `smoke` and of each of the `scales` are added (a need,
    or an entry of `smoke`, of null is left out).
    `grid:` (axis -> label -> arguments) makes a row of each combination, named by its labels joined with dashes.

    Attributes:
        name: the YAML file's name.
        summary: one line.
        command: the `kuleshov` subcommand that each of its jobs runs.
        configs: YAML files of a `fit`, with `{method}`, `{scale}` and `{data}`; all must be there, except those that
            depend on `{data}`.
        data: accepted data sets -> extra arguments; the first is the default.
        methods: accepted methods; the first is the default.
        tasks: accepted tasks, a job each.
        default_tasks: scale -> tasks that run where none is named; all where the scale is not in it.
        needs: name -> stage whose outputs are read.
        arguments: argument -> value, with placeholders.
        reads: file that a job may read beside the data set, with placeholders -> what to do where it is missing.
        starts_from: argument that takes the weights that the user gives, where the stage can start from them.
        scales: scale -> extra arguments; where there are any, every scale that the stage can run at.
        rows: row of the table -> extra arguments, a job each.
        scale_rows: scale, or `smoke` -> further rows, before the others.
        seeded: jobs repeat with each seed.
        outputs: name -> path in the run's folder; `{row}` is the one row that is needed.
        trains: what its weights have been through, after those that it starts from, such as `{method}-{data}`.
        table: number of the paper's table that its rows repeat.
        paper: row -> the paper's row, as `report/paper_values.py` names it.
        smoke: argument -> value that lets it run in a moment (`--smoke`).
    """

    name: str
    summary: str
    command: str
    configs: tuple[str, ...] = ()
    data: dict[str, Arguments] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    default_tasks: dict[str, list[str]] = field(default_factory=dict)
    needs: dict[str, Need] = field(default_factory=dict)
    arguments: Arguments = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    starts_from: str = ""
    scales: dict[str, Arguments] = field(default_factory=dict)
    rows: dict[str, Arguments] = field(default_factory=dict)
    scale_rows: dict[str, dict[str, Arguments]] = field(default_factory=dict)
    seeded: bool = False
    outputs: dict[str, str] = field(default_factory=dict)
    trains: str = ""
    table: int = 0
    paper: dict[str, str] = field(default_factory=dict)
    smoke: Arguments = field(default_factory=dict)

    def rows_at(self, scale: str, smoke: bool = False) -> dict[str, Arguments]:
        """Its rows at a scale; in a smoke run those of the scale `smoke` take the place of their like."""
        rows = {**self.scale_rows.get(scale, {}), **self.rows}
        return {**rows, **self.scale_rows.get("smoke", {})} if smoke else rows


def find_project(stage: str, project: Path | None = None) -> tuple[str, Path]:
    """The name of a stage, given by name or by its file's path, and the folder that holds its stages/ and configs/.

    Args:
        stage: a name, or the path of `FOLDER/stages/NAME.yaml`.
        project: the folder, where the user names it; otherwise the working directory.

    Raises:
        KuleshovError: the path is no file in a folder `stages`, or the folder has no stages/.
    """
    path = Path(stage)
    if path.suffix == ".yaml":
        if not path.is_file() or path.resolve().parent.name != "stages":
            raise KuleshovError(f"no stage at {path.absolute()}: it has to be a file in a folder named stages/")
        return path.stem, path.resolve().parents[1]
    if project is not None and not (project / "stages").is_dir():
        raise MissingDataError("stages/", project.absolute(), "name a folder that holds stages/ and configs/")
    return stage, (project or Path.cwd()).resolve()


def make_importable(project: Path) -> None:
    """Let jobs, forked and fresh ones, import the modules of a project of the user's own."""
    if project != SHIPPED:
        sys.path.insert(0, str(project))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(project), *filter(None, [os.environ.get("PYTHONPATH")])])


def stage_names(project: Path) -> list[str]:
    """Names of a project's stages and of those that come with the package, sorted."""
    return sorted({path.stem for folder in (project, SHIPPED) for path in (folder / "stages").glob("*.yaml")})


def load_stage(name: str, project: Path) -> Stage:
    """Read `stages/NAME.yaml` of a project, or else the package's.

    Raises:
        KuleshovError: no such stage; the nearest names are offered. Or stages that are `like` each other.
        FormatError: a field that a stage does not have, or one that it lacks.
    """
    path, raw = _read(name, project, ())
    for key in ("summary", "command"):
        if key not in raw:
            raise FormatError(path, "is missing", field=key)
    return Stage(name=name, **{key: _typed(path, key, value) for key, value in raw.items()})


def stage_files(name: str, project: Path) -> list[Path]:
    """The files that a stage is read from: its own, and those of the stages that it is `like`."""
    path = find_file(f"stages/{name}.yaml", project)
    like = (read_yaml(path) or {}).get("like") if path is not None else None
    return ([] if path is None else [path]) + (stage_files(like, project) if like else [])


def _read(name: str, project: Path, above: tuple[str, ...]) -> tuple[Path, dict[str, Any]]:
    if name in above:
        raise KuleshovError(f"stages are like each other in a circle: {' -> '.join((*above, name))}")
    path = find_file(f"stages/{name}.yaml", project)
    if path is None:
        raise KuleshovError(f"no stage {name!r}{nearest(name, stage_names(project))}")
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise FormatError(path, "a stage is a mapping of fields")
    _check_fields(path, raw, {*(f.name for f in fields(Stage)), "like", "grid"} - {"name"})
    if "grid" in raw:
        raw["rows"] = {**raw.get("rows", {}), **_combinations(raw.pop("grid"))}
    if "like" in raw:
        other = _read(raw.pop("like"), project, (*above, name))[1]
        scales = {**other.get("scales", {}), **raw.get("scales", {})}
        raw["scales"] = {
            name: {**(other.get("scales", {}).get(name) or {}), **(one or {})} for name, one in scales.items()
        }
        raw = {**other, **raw, **{key: {**other.get(key, {}), **raw.get(key, {})} for key in JOINED}}
    return path, raw


def _combinations(grid: dict[str, dict[str, dict | None]]) -> dict[str, dict]:
    rows = {}
    for chosen in product(*(axis.items() for axis in grid.values())):
        name = "-".join(str(label) for label, _ in chosen if label)
        rows[name] = {key: value for _, arguments in chosen for key, value in (arguments or {}).items()}
    return rows


def _check_fields(path: Path, found: Iterable, known: set[str], record: str | None = None) -> None:
    for key in found:
        if key not in known:
            raise FormatError(path, f"unknown field{nearest(str(key), known)}", record=record, field=str(key))


def _typed(path: Path, key: str, value: Any) -> Any:
    if key == "needs":
        return {name: _need(path, name, need) for name, need in value.items() if need is not None}
    if key in ("configs", "methods", "tasks"):
        return tuple(value)
    if key in ("arguments", "smoke"):
        # of a stage `like` another an entry of null takes the other's away
        kept = {name: one for name, one in value.items() if key == "arguments" or one is not None}
        return {name: _string(one) for name, one in kept.items()}
    if key in ("data", "scales", "rows"):
        return {name: _typed(path, "arguments", arguments or {}) for name, arguments in value.items()}
    if key == "scale_rows":
        return {scale: _typed(path, "rows", rows) for scale, rows in value.items()}
    return value


def _need(path: Path, name: str, need: dict) -> Need:
    _check_fields(path, need, {f.name for f in fields(Need)}, f"needs.{name}")
    values: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in need.items()}
    values["below"] = {key: _need(path, f"{name}.below.{key}", one) for key, one in need.get("below", {}).items()}
    return Need(**values)


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
