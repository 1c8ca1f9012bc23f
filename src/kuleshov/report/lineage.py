"""Run folders, the runs they were made from, their jobs and results, and what they left out."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kuleshov.core.errors import FormatError, MissingDataError, UsageError
from kuleshov.core.files import read_json, read_text, read_yaml
from kuleshov.core.results import Result, read_results

STAGE, RESULTS, JOB_DONE, CONFIG = "stage.json", "results.jsonl", "job.json", "config.yaml"
GENERATED = "generated world"


@dataclass(frozen=True)
class JobRecord:
    """One job, as its `job.json` has it; a job that still runs has nothing but its folder."""

    folder: Path
    row: str = ""
    task: str = ""
    seed: int | None = None

    @classmethod
    def read(cls, folder: Path) -> "JobRecord":
        """The record in a job's folder."""
        raw = read_json(folder / JOB_DONE) if (folder / JOB_DONE).is_file() else {}
        return cls(folder, raw.get("row") or "", raw.get("task") or "", raw.get("seed"))

    def config(self) -> dict[str, Any]:
        """What it was configured with, {} where it has no configuration.

        Raises:
            FormatError: its `config.yaml` is damaged.
        """
        path = self.folder / CONFIG
        return (read_yaml(path) or {}) if path.is_file() else {}


@dataclass(frozen=True)
class RunRecord:
    """One run folder, as its `stage.json` has it; a folder that no stage made has no stage.

    `needs` are the runs it was made from, `outputs` what it hands on, `jobs` the names of its job folders, `table` the
    number of the paper's table that it repeats.
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
    table: int = 0
    finished: bool = True

    @property
    def method(self) -> str:
        """The method it was run with, such as `cvrl`; empty for none."""
        return str(self.resolved.get("values", {}).get("method", ""))

    @property
    def world(self) -> int | None:
        """Seed of the generated world that it was run on, None for real data."""
        # the ceiling's stage takes no data set, and reads the world itself
        generated = self.resolved.get("data") in (GENERATED, "")
        seed = self.resolved.get("values", {}).get("world_seed")
        return int(seed) if generated and seed is not None else None

    def job_records(self) -> list[JobRecord]:
        """Its jobs whose folders are there, in the order of its plan; the run folder itself for a single job."""
        there = [self.folder / name for name in self.jobs if (self.folder / name).is_dir()]
        return [JobRecord.read(path) for path in there or [self.folder]]

    def results(self) -> list[Result]:
        """The run's results; those of the finished jobs where the stage still runs."""
        files = [self.folder / RESULTS]
        if not files[0].is_file() and not self.finished:
            files = [self.folder / job / RESULTS for job in self.jobs]
        return [line for file in files if file.is_file() for line in read_results(file)]


def read_run(folder: str | Path) -> RunRecord:
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
        facts = {name: raw[name] for name in ("stage", "data", "fingerprint")}
        facts |= {name: raw[name] for name in ("seconds", "code_version", "resolved", "table") if name in raw}
        needs = {name: Path(path) for name, path in raw["needs"].items()}
        # runs that were moved together are beside each other
        needs = {name: path if path.is_dir() else folder.parent / path.name for name, path in needs.items()}
        outputs = {name: _moved(folder, Path(path)) for name, path in raw.get("outputs", {}).items()}
        return RunRecord(folder, **facts, needs=needs, outputs=outputs, jobs=tuple(raw["jobs"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(folder / STAGE, f"not a stage's record ({error!r})") from error


def _without_stage(folder: Path) -> RunRecord:
    how = "name a folder that `kuleshov run` has printed"
    if not folder.is_dir():
        raise MissingDataError("run folder", folder.absolute(), how)
    jobs = tuple(sorted(path.parent.name for path in folder.glob(f"*/{JOB_DONE}")))
    if not jobs and not any((folder / name).exists() for name in (RESULTS, CONFIG, JOB_DONE)):
        raise MissingDataError("run", folder.absolute(), f"it has neither {STAGE} nor {RESULTS}: {how}")
    return RunRecord(folder, jobs=jobs, finished=not jobs)


def _moved(folder: Path, recorded: Path) -> Path:
    """An output's path as recorded or, where the run was moved, at the same place in its folder."""
    if recorded.exists() or folder.name not in recorded.parts:
        return recorded
    return folder.joinpath(*recorded.parts[recorded.parts.index(folder.name) + 1 :])


def beside(folder: Path, recorded: Path) -> Path:
    """A path as a run's configuration has it or, where runs were moved together, at the same place among them."""
    if recorded.exists():
        return recorded
    places = [Path(*recorded.parts[i:]) for i in range(1, len(recorded.parts))]
    return next((above / p for p in places for above in list(folder.parents)[:2] if (above / p).exists()), recorded)


def lineage(folders: Iterable[str | Path]) -> list[RunRecord]:
    """The runs and all that they need, each once, needs first.

    Raises:
        MissingDataError: a run is not there; the run that needs it is named.
    """
    found: dict[Path, RunRecord] = {}

    def visit(folder: Path) -> None:
        if folder.resolve() in found:
            return
        run = read_run(folder)
        for name, need in run.needs.items():
            if not (need / STAGE).is_file():
                how = f"{folder.name} was made from it (as {name}): put it back beside {folder}"
                raise MissingDataError("run", need.absolute(), how)
            visit(need)
        found.setdefault(folder.resolve(), run)

    for folder in folders:
        visit(Path(folder))
    return list(found.values())


def ancestors(needs: Iterable[Path], runs: Iterable[RunRecord]) -> list[RunRecord]:
    """The needed runs and all that they were made from, nearest first."""
    by_folder, waiting = {run.folder.resolve(): run for run in runs}, list(needs)
    found: list[RunRecord] = []
    while waiting:
        need = by_folder.get(waiting.pop(0).resolve())
        if need is not None and need not in found:
            found.append(need)
            waiting += need.needs.values()
    return found


def named_run(folder: str | Path, stages: Sequence[str] = ("summary", "tables")) -> Path:
    """The run that a folder names: itself, or the newest finished run of some stages in the folder of all runs.

    Raises:
        MissingDataError: a folder of runs without one of these.
    """
    folder = Path(folder)
    if (folder / STAGE).is_file() or not any(folder.glob(f"*/{STAGE}")):
        return folder
    done = [path for name in stages for path in folder.glob(f"{name}-*/{STAGE}")]
    if not done:
        how = "make one with `kuleshov run summary --scale demo`, or name another folder"
        raise MissingDataError(f"finished run of {' or '.join(stages)}", folder.absolute(), how)
    return max(done, key=lambda path: path.stat().st_mtime).parent


@dataclass(frozen=True)
class ResultSource:
    """Where a result comes from: the run folder's name, the user's name for this branch of runs, the world's seed."""

    name: str
    variant: str = ""
    world: int | None = None


def parse_runs(words: Sequence[str]) -> dict[str, list[Path]]:
    """`RUN` and `NAME=RUN` words -> variant's name ("" for none) -> folders.

    Raises:
        UsageError: no run at all, or a name without a folder.
    """
    if not words:
        raise UsageError("name at least one run folder (`kuleshov run` prints it)")
    found: dict[str, list[Path]] = {}
    for word in words:
        name, equals, path = word.partition("=")
        # a folder's own name may hold an equals sign
        if not equals or Path(word).exists():
            name, path = "", word
        elif not path or not name:
            raise UsageError(f"a run is named RUN or NAME=RUN, not {word!r}")
        found.setdefault(name, []).append(Path(path))
    return found


def gather(variants: Mapping[str, Iterable[Path]]) -> tuple[list[RunRecord], list[tuple[ResultSource, Result]]]:
    """All runs behind the variants, each once and needs first, and their results."""
    runs: dict[Path, RunRecord] = {}
    measured: list[tuple[ResultSource, Result]] = []
    for variant, folders in variants.items():
        roots = [named_run(folder) for folder in folders]
        reached, named = lineage(roots), {root.resolve() for root in roots}
        for run in reached:
            runs.setdefault(run.folder.resolve(), run)
            # a table that another was made from is a table of its own
            if not run.table or run.folder.resolve() in named:
                source = ResultSource(run.folder.name, variant, run.world)
                measured += [(source, result) for result in run.results()]
    return list(runs.values()), measured


def left_out(runs: Iterable[RunRecord]) -> list[tuple[str, str, str]]:
    """Unreadable videos and movies without features, each once: (run's folder name, path or id, recorded reason)."""
    found: dict[tuple[str, str, str], None] = {}
    for run in runs:
        for name, read in (("bad_files.jsonl", _bad_files), ("manifest.json", _missing)):
            for file in sorted(path for depth in ("", "*/", "*/*/") for path in run.folder.glob(depth + name)):
                found |= dict.fromkeys((run.folder.name, what, reason) for what, reason in read(file))
    return list(found)


def _bad_files(file: Path) -> Iterator[tuple[str, str]]:
    # a line without an end is still being written
    for number, line in enumerate(read_text(file).split("\n")[:-1], 1):
        try:
            record = json.loads(line)
            yield str(record.get("path") or record.get("id") or record["video"]), str(record.get("reason", ""))
        except (json.JSONDecodeError, KeyError, AttributeError) as error:
            raise FormatError(file, f"not a line of a list of bad files ({error!r})", number) from error


def _missing(file: Path) -> Iterator[tuple[str, str]]:
    raw = read_json(file)
    for one in raw.get("missing", []) if isinstance(raw, dict) else []:
        yield str(one.get("id", one)), str(one.get("reason", ""))
