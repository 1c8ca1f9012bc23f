"""A tree of runs as the stage runner leaves it, with made-up numbers."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kuleshov.core.files import sha256_ids, write_atomic, write_json
from kuleshov.core.results import Result, append_results

IDS = sha256_ids(["a", "b"])


def result(metric: str, value: float, task: str, row: str, seed: int | None = None, **changes) -> Result:
    common = {"split": "valid", "n": 240, "of": 240, "sample_ids_sha256": IDS, "code_version": "0"}
    return Result(**{**common, "metric": metric, "value": value, "task": task, "row": row, "seed": seed, **changes})


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Path]:
    """Writes one stage's folder: `stage(name, data, digits, needs, results)`."""

    def make(name, data="vidsitu", digits="00000000", needs=(), results=(), jobs=(), method="") -> Path:
        folder = tmp_path / "runs" / f"{name}-{data}-demo-{digits}"
        folder.mkdir(parents=True)
        if results:
            append_results(folder / "results.jsonl", results)
        record = {
            "stage": name,
            "data": data,
            "fingerprint": digits * 8,
            "resolved": {"values": {"method": method}, "data": "generated world"},
            "needs": {path.name.rsplit("-", 3)[0]: str(path) for path in needs},
            "outputs": {},
            "jobs": list(jobs),
            "seconds": 12.3,
            "code_version": "0.1.0",
        }
        write_json(folder / "stage.json", record)
        return folder

    return make


VERBS = [result("Acc@1", 12.0, "verbs", "trivial")] + [
    result("Acc@1", base + seed, "verbs", row, seed)
    for row, base in (("backbone", 20.0), ("scratch", 30.0), ("pretrained", 40.0))
    for seed in range(3)
]


@pytest.fixture
def runs(stage: Callable[..., Path]) -> Path:
    """The folder of a `tables` run over a backbone, a TxE, verbs and roles."""
    backbone = stage("pretrain-backbone", "k400", "11111111", method="cvrl")
    txe = stage("pretrain-txe", "vidsitu", "22222222", needs=[backbone])
    verbs = stage("train-verbs", digits="33333333", needs=[backbone, txe], results=VERBS)
    roles = stage(
        "train-roles",
        digits="44444444",
        needs=[backbone, txe],
        results=[result("CIDEr", 50.0, "roles", "pretrained", 0), result("LEA", 40.0, "roles", "pretrained", 0)],
    )
    bad = {"path": "<img src=x onerror=alert(1)>.mp4", "reason": "<script>alert(2)</script>"}
    write_json(backbone / "bad_files.jsonl", bad, indent=None)
    write_atomic(txe / "store" / "manifest.json", '{"missing": [{"id": "m1", "reason": "too short"}]}')
    return stage("tables", digits="55555555", needs=[verbs, roles])
