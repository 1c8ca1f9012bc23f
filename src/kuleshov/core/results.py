"""results.jsonl: a line a number, with all that is needed to compare it."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from kuleshov.core.errors import FormatError
from kuleshov.core.files import code_version, write_atomic


@dataclass(frozen=True)
class Result:
    """One number and where it comes from.

    Attributes:
        metric: the metric's name.
        value: its value, in the unit that the metric's name implies.
        task: verbs, relations, roles, or an LVU task.
        split: the split it was measured on.
        n: samples measured.
        of: samples the split has; n < of says that some were missing.
        sample_ids_sha256: `core.manifest.sha256_ids` of the samples measured.
        seed: the training's seed; None for what has no seed.
        row: the table's row (trivial, backbone, scratch, pretrained, ceiling ...).
        selection: the rule by which the epoch was chosen.
        weights_sha256: of the weights the model started from.
        config_sha256: of the resolved configuration.
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
    weights_sha256: str | None = None
    config_sha256: str | None = None
    code_version: str = field(default_factory=code_version)


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
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            values: dict[str, Any] = json.loads(line)
            results.append(Result(**{key: value for key, value in values.items() if key in known}))
        except (json.JSONDecodeError, TypeError, AttributeError) as error:
            raise FormatError(path, f"not a result line ({error})", record=number) from error
    return results
