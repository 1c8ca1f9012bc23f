"""The report says in which settings the rows of a run differ, and that only."""

from collections.abc import Callable
from pathlib import Path

import yaml
from tests.report.conftest import result, write_job

from kuleshov.report.lineage import read_run
from kuleshov.report.row_settings import row_differences

BASE = {"context": "none", "txe_weights": None, "feature_normalization": "none", "lr": 0.1, "row": None}


def write_config(folder: Path, **model) -> None:
    args = {**BASE, **model}
    config = {
        "model": {"class_path": "x.Y", "init_args": {**args, "row": folder.name}},
        "data": {"class_path": "x.Z", "init_args": {"events": "a/b"}},
        "trainer": {"max_epochs": 3, "default_root_dir": str(folder)},
        "seed_everything": len(folder.name),
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def run_of(stage: Callable[..., Path], digits: str, rows: dict[str, dict], inputs: dict[str, str]) -> Path:
    results = [result("Acc@1", 1.0, "verbs", row, 0, origin={"input": one}) for row, one in inputs.items()]
    folder = stage("train-verbs", digits=digits, jobs=[f"{row}-seed0" for row in rows], results=results)
    for row, model in rows.items():
        write_config(write_job(folder / f"{row}-seed0", row, 0), **model)
    return folder


def test_rows_are_said_to_differ_in_what_they_differ(stage: Callable[..., Path]):
    pretrained = {"context": "pretrained", "txe_weights": "runs/t/weights/txe.safetensors"}
    one = run_of(stage, "1" * 8, {"backbone": {}, "pretrained": pretrained}, {"backbone": "none", "pretrained": "none"})
    two = run_of(stage, "2" * 8, {"backbone": {}, "pretrained": pretrained}, {"backbone": "none", "pretrained": "none"})
    other = run_of(
        stage, "3" * 8, {"backbone": {}, "pretrained": pretrained}, {"backbone": "whiten", "pretrained": "x"}
    )
    alike = run_of(stage, "4" * 8, {"backbone": {}, "scratch": {}}, {})
    single = stage("pretrain-txe", digits="5" * 8)
    together, apart = row_differences(map(read_run, (one, two, other, alike, single)))
    assert together == (f"{one.name}, {two.name}: rows differ in model.context (none, pretrained), model.txe_weights")
    assert apart.startswith(f"{other.name}: rows differ in") and "features that go in (whiten, x)" in apart
