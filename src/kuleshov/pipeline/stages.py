"""What a stage is: the YAML files of `stages/`, read and checked."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError, nearest

SCALES = ("demo", "gpu", "paper")


@dataclass(frozen=True)
class Need:
    """Another stage whose outputs a stage reads.

    Attributes:
        stage: its name.
        data: the data set it runs on; `{data}` says the same as this stage's.
        method: its method; empty for its default.
        scales: at which scales it is needed.
        methods: for which methods of this stage it is needed; all where none is named.
    """

    stage: str
    data: str = ""
    method: str = ""
    scales: tuple[str, ...] = SCALES
    methods: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline: it reads files and writes files.

    Attributes:
        name: the YAML file's name.
        summary: one line.
        command: the `kuleshov` subcommand that each of its jobs runs.
        configs: YAML files of a `fit`, `{method}` and `{scale}` filled in; the first must exist.
        data: accepted data sets -> extra arguments; the first is the default.
        methods: accepted methods; the first is the default.
        tasks: accepted tasks, a job each.
        default_tasks: scale -> tasks that run where none is named; all where the scale is not in it.
        needs: name -> stage whose outputs are read.
        arguments: argument -> value, with placeholders.
        starts_from: argument that takes the weights that the user gives, where the stage can start from them.
        scales: scale -> extra arguments.
        rows: row of the table -> extra arguments, a job each.
        method_rows: method -> its rows, in place of `rows`.
        seeded: jobs repeat with each seed.
        outputs: name -> path in the job's folder.
    """

    name: str
    summary: str
    command: str
    configs: tuple[str, ...] = ()
    data: dict[str, dict[str, str]] = field(default_factory=dict)
    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    default_tasks: dict[str, list[str]] = field(default_factory=dict)
    needs: dict[str, Need] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    starts_from: str = ""
    scales: dict[str, dict[str, str]] = field(default_factory=dict)
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    method_rows: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    seeded: bool = False
    outputs: dict[str, str] = field(default_factory=dict)


def project_root() -> Path:
    """The folder that holds `stages/` and `configs/`: the working directory, or the checkout.

    Raises:
        MissingDataError: neither has them.
    """
    for root in (Path.cwd(), Path(__file__).resolve().parents[3]):
        if (root / "stages").is_dir() and (root / "configs").is_dir():
            return root
    how = "run from a checkout of the project, which has stages/ and configs/"
    raise MissingDataError("stages/ and configs/", Path.cwd(), how)


def stage_names(root: Path) -> list[str]:
    """Names of the stages under `root`, sorted."""
    return sorted(path.stem for path in (root / "stages").glob("*.yaml"))


def load_stage(name: str, root: Path) -> Stage:
    """Read `stages/NAME.yaml`.

    Raises:
        KuleshovError: no such stage; the nearest names are offered.
        FormatError: a field that a stage does not have, or one that it lacks.
    """
    path = root / "stages" / f"{name}.yaml"
    if not path.is_file():
        raise KuleshovError(f"no stage {name!r}{nearest(name, stage_names(root))}")
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(raw, dict):
        raise FormatError(path, "a stage is a mapping of fields")
    known = {f.name for f in fields(Stage)} - {"name"}
    for key in raw:
        if key not in known:
            raise FormatError(path, f"unknown field{nearest(key, known)}", field=str(key))
    for key in ("summary", "command"):
        if key not in raw:
            raise FormatError(path, "is missing", field=key)
    return Stage(name=name, **{key: _typed(path, key, value) for key, value in raw.items()})


def _typed(path: Path, key: str, value: Any) -> Any:
    if key == "needs":
        return {name: _need(path, name, need) for name, need in value.items()}
    if key in ("configs", "methods", "tasks"):
        return tuple(value)
    if key == "arguments":
        return _strings(value)
    if key in ("data", "scales", "rows"):
        return {name: _strings(arguments or {}) for name, arguments in value.items()}
    if key == "method_rows":
        return {method: _typed(path, "rows", rows) for method, rows in value.items()}
    return value


def _need(path: Path, name: str, need: dict) -> Need:
    known = {f.name for f in fields(Need)}
    for key in need:
        if key not in known:
            raise FormatError(path, f"unknown field{nearest(key, known)}", record=f"needs.{name}", field=key)
    return Need(**{key: tuple(value) if isinstance(value, list) else value for key, value in need.items()})


def _strings(arguments: dict) -> dict[str, str]:
    return {key: _string(value) for key, value in arguments.items()}


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)
