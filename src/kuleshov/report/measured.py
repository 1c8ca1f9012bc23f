"""From run folders to the results in them, each with the run that it comes from."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kuleshov.core.errors import UsageError
from kuleshov.core.results import Result
from kuleshov.report.lineage import Run, ancestors, lineage, named, results_of
from kuleshov.report.tables import Source

GENERATED = "generated world"


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
        if not path or (equals and not name and path != word):
            raise UsageError(f"a run is named RUN or NAME=RUN, not {word!r}")
        found.setdefault(name, []).append(Path(path))
    return found


def gather(variants: Mapping[str, Iterable[Path]]) -> tuple[list[Run], list[tuple[Source, Result]]]:
    """All runs behind the variants, each once and needs first, and their results.

    Raises:
        MissingDataError: a run is not there.
    """
    runs: dict[Path, Run] = {}
    measured: list[tuple[Source, Result]] = []
    for variant, folders in variants.items():
        reached = lineage(map(named, folders))
        for run in reached:
            runs.setdefault(run.folder.resolve(), run)
            source = source_of(run, reached, variant)
            measured += [(source, result) for result in results_of(run)]
    return list(runs.values()), measured


def source_of(run: Run, runs: Iterable[Run], variant: str = "") -> Source:
    """Where a run's results come from, as far as the paper's rows tell such origins apart."""
    before = ancestors(run, runs)
    method = next((one.method for one in before if one.stage == "pretrain-backbone"), "")
    context_data = next((one.data for one in before if one.stage == "pretrain-txe"), "")
    return Source(run.folder.name, variant, method or "cvrl", context_data or "lvu")


def generated(runs: Iterable[Run]) -> bool:
    """Whether any of the runs is on the generated world."""
    return any(run.resolved.get("data") == GENERATED for run in runs)
