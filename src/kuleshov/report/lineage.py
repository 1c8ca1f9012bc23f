"""Run folders and the runs they were made from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kuleshov.core.errors import FormatError, MissingDataError
from kuleshov.core.files import read_json
from kuleshov.core.results import Result, read_results

STAGE, RESULTS, JOB_DONE = "stage.json", "results.jsonl", "job.json"


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: where it is.
        stage: the stage's name; empty for a folder that no stage made.
        data: its data set.
        fingerprint: 64 hex digits over configuration and needs.
        needs: name -> folder of a run it was made from.
        outputs: name -> path of what it hands on.
        jobs: names of its job folders.
        seconds: how long it took; None where unknown.
        code_version: package version and commit that made it.
        resolved: the configuration behind the fingerprint.
        finished: whether the stage was closed.
    """

    folder: Path
    stage: str = ""
    data: str = ""
    fingerprint: str = ""
    needs: Mapping[str, Path] = field(default_factory=dict)
    outputs: Mapping[str, Path] = field(default_factory=dict)
    jobs: tuple[str, ...] = ()
    seconds: float | None = None
    code_version: str = ""
    resolved: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = True

    @property
    def method(self) -> str:
        """The method it was run with, such as `cvrl`; empty for none."""
        return str(self.resolved.get("values", {}).get("method", ""))

    @property
    def job_folders(self) -> list[Path]:
        """Its job folders that are there, in the order of its plan; the run folder itself for a single job."""
        named = [self.folder / name for name in self.jobs]
        return [path for path in named if path.is_dir()] or [self.folder]


def read_run(folder: str | Path) -> Run:
    """Read a run folder: a stage that is done, one that still runs, or the folder of a single fit.

    Raises:
        MissingDataError: there is no such folder, or nothing of a run in it.
        FormatError: its `stage.json` is not one.
    """
    folder = Path(folder)
    if not (folder / STAGE).is_file():
        return _without_stage(folder)
    raw = read_json(folder / STAGE)
    try:
        return Run(
            folder=folder,
            stage=raw["stage"],
            data=raw["data"],
            fingerprint=raw["fingerprint"],
            needs={name: beside(folder, path) for name, path in raw["needs"].items()},
            outputs={name: inside(folder, path) for name, path in raw.get("outputs", {}).items()},
            jobs=tuple(raw["jobs"]),
            seconds=raw.get("seconds"),
            code_version=raw.get("code_version", ""),
            resolved=raw.get("resolved", {}),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(folder / STAGE, f"not a stage's record ({error!r})") from error


def _without_stage(folder: Path) -> Run:
    if not folder.is_dir():
        raise MissingDataError("run folder", folder.absolute(), "name a folder that `kuleshov run` has printed")
    jobs = tuple(sorted(path.parent.name for path in folder.glob(f"*/{JOB_DONE}")))
    own = [name for name in (RESULTS, "config.yaml", JOB_DONE, "tensorboard") if (folder / name).exists()]
    if not jobs and not own:
        how = f"it has neither {STAGE} nor {RESULTS}: name a folder that `kuleshov run` has printed"
        raise MissingDataError("run", folder.absolute(), how)
    return Run(folder=folder, jobs=jobs, finished=not jobs)


def beside(folder: Path, path: str) -> Path:
    """A needed run's folder: as recorded, or, where the runs were moved, beside this one."""
    recorded = Path(path)
    return recorded if recorded.is_dir() else folder.parent / recorded.name


def inside(folder: Path, path: str) -> Path:
    """An output's path: as recorded, or, where the run was moved, at the same place in its folder."""
    recorded = Path(path)
    if recorded.exists() or folder.name not in recorded.parts:
        return recorded
    return folder.joinpath(*recorded.parts[recorded.parts.index(folder.name) + 1 :])


def lineage(folders: Iterable[str | Path]) -> list[Run]:
    """The runs and all that they need, each once, needs first.

    Raises:
        MissingDataError: a run is not there; which run needs it is said.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        _visit(Path(folder), found)
    return list(found.values())


def _visit(folder: Path, found: dict[Path, Run]) -> None:
    if folder.resolve() in found:
        return
    run = read_run(folder)
    for name, need in run.needs.items():
        if not (need / STAGE).is_file():
            how = f"{folder.name} was made from it (as {name}): put it back beside {folder}"
            raise MissingDataError("run", need.absolute(), how)
        _visit(need, found)
    found.setdefault(folder.resolve(), run)


def newest(runs: str | Path, stage: str) -> Path:
    """The folder of the newest finished run of a stage under `runs`.

    Raises:
        MissingDataError: there is none.
    """
    done = [path for path in Path(runs).glob(f"{stage}-*/{STAGE}")]
    if not done:
        how = f"make one with `kuleshov run {stage} --scale demo`, or name another folder"
        raise MissingDataError(f"finished run of {stage}", Path(runs).absolute(), how)
    return max(done, key=lambda path: path.stat().st_mtime).parent


def named(folder: str | Path) -> Path:
    """The run that a folder names: itself, or the newest `tables` run of the folder of all runs.

    Raises:
        MissingDataError: a folder of runs without one of `tables`.
    """
    folder = Path(folder)
    holds_runs = not (folder / STAGE).is_file() and any(folder.glob(f"*/{STAGE}"))
    return newest(folder, "tables") if holds_runs else folder


def results_of(run: Run) -> list[Result]:
    """The run's results; those of the finished jobs where the stage still runs.

    Raises:
        FormatError: a line that is not a result.
    """
    if (run.folder / RESULTS).is_file():
        return read_results(run.folder / RESULTS)
    if run.finished:
        return []
    files = [run.folder / job / RESULTS for job in run.jobs]
    return [line for file in files if file.is_file() for line in read_results(file)]


def ancestors(run: Run, runs: Iterable[Run]) -> list[Run]:
    """All runs that a run was made from, nearest first."""
    by_folder = {other.folder.resolve(): other for other in runs}
    waiting, found = list(run.needs.values()), []
    while waiting:
        need = by_folder.get(waiting.pop(0).resolve())
        if need is not None and need not in found:
            found.append(need)
            waiting += need.needs.values()
    return found
