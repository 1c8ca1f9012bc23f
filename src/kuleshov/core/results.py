"""results.jsonl: a line a number, with all that is needed to compare it."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from kuleshov.core.errors import FormatError
from kuleshov.core.files import code_version, read_json_lines, sha256_ids, write_atomic

TRIVIAL = "trivial"


@dataclass(frozen=True)
class Result:
    """One number and where it comes from.

    Attributes:
        metric: the metric's name.
        value: its value, in the unit that the metric's name implies.
        task: verbs, relations, roles, or an LVU task.
        split: the split it was measured on.
        n, of: samples measured, and samples that the split has.
        sample_ids_sha256: `core.files.sha256_ids` of the samples measured.
        seed: the training's seed; None for what has no seed.
        row: the table's row (trivial, backbone, scratch, pretrained, ceiling ...).
        selection: the rule by which the epoch was chosen.
        origin: what the row's networks were and had been through: of the `backbone` (of events), the `txe`, and the
            `instances`, where there are any; and the normalization of the features that went in, `input`.
        weights_sha256, config_sha256: of the weights the model started from, and of the resolved configuration.
        code_version: package version and commit.
    """

    metric: str
    value: float
    task: str
    split: str
    n: int
    of: int
    sample_ids_sha256: str
    seed: int | None = None
    row: str = ""
    selection: str = ""
    origin: Mapping[str, str] = field(default_factory=dict, hash=False)
    weights_sha256: str | None = None
    config_sha256: str | None = None
    code_version: str = field(default_factory=code_version)


@dataclass(frozen=True)
class Report:
    """What a module found on a split, from which lines of results are made.

    Attributes:
        task: verbs, relations, roles, an LVU task, or a task of somebody else's.
        split: the split.
        row: the table's row.
        metrics: name -> value.
        trivial: name -> value of a predictor that looks at nothing.
        sample_ids: the samples measured.
        of: samples that the split has.
        counts: metric -> number of samples, where it is not that of `sample_ids`.
        origin: see `Result`.
        weights_sha256: of the weights that the training started from.
        predictions: sample id -> answer, for `write_predictions`.
    """

    task: str
    split: str
    row: str
    metrics: Mapping[str, float]
    trivial: Mapping[str, float]
    sample_ids: Sequence[str]
    of: int
    counts: Mapping[str, int] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)
    weights_sha256: str | None = None
    predictions: Mapping[str, Any] = field(default_factory=dict)

    def lines(self, seed: int | None, selection: str, config_sha256: str | None) -> list[Result]:
        """A line a metric, then a line a metric of the trivial row."""
        common: dict[str, Any] = {"task": self.task, "split": self.split, "of": self.of}
        common["sample_ids_sha256"] = sha256_ids(self.sample_ids)
        came = {"weights_sha256": self.weights_sha256, "config_sha256": config_sha256, "origin": self.origin}
        made: dict[str, Any] = {"seed": seed, "row": self.row, "selection": selection, **came}
        return [
            Result(name, float(value), n=self.counts.get(name, len(self.sample_ids)), **common, **facts)
            for values, facts in ((self.metrics, made), (self.trivial, {"row": TRIVIAL}))
            for name, value in values.items()
        ]


def global_seed() -> int | None:
    """The seed that Lightning was given, None where none was."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    return int(seed) if seed is not None else None


def append_results(path: str | Path, results: Iterable[Result]) -> None:
    """Add lines to a results file; a reader sees either all of them or none."""
    path = Path(path)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [json.dumps(asdict(result), sort_keys=True) for result in results]
    write_atomic(path, before + "".join(f"{line}\n" for line in lines))


def read_results(path: str | Path) -> list[Result]:
    """Read a results file; unknown fields are left out.

    Raises:
        FormatError: a line that is not a result, by its number.
    """
    known = {f.name for f in fields(Result)}
    results = []
    for number, values in read_json_lines(path):
        try:
            result = Result(**{key: value for key, value in values.items() if key in known})
            if not isinstance(result.value, int | float):
                raise TypeError(f"its value is {result.value!r}, no number")
            results.append(result)
        except (TypeError, AttributeError) as error:
            raise FormatError(path, f"not a result line ({error})", record=number) from error
    return results
