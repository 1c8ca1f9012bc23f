"""All that the paper's five tables need, at paper scale, on a generated world laid out as the real data sets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kuleshov.core.results import read_results
from kuleshov.metrics.paper_values import PAPER_TABLES, paper_value
from kuleshov.pipeline.stages import load_stage

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
METRICS = {1: "CIDEr", 2: "CIDEr", 3: "Mean-Acc", 4: "Acc@1"}


def write_gpt2(folder: Path) -> None:
    """A GPT-2 of one layer, as transformers saves it."""
    transformers = pytest.importorskip("transformers", reason="the extra `gpt2` is not installed")
    from tokenizers import ByteLevelBPETokenizer

    folder.mkdir()
    byte_pairs = ByteLevelBPETokenizer()
    byte_pairs.train_from_iterator(["a man pushes the door in a kitchen"], vocab_size=280, min_frequency=1)
    byte_pairs.save_model(str(folder))
    sizes = {"vocab_size": byte_pairs.get_vocab_size(), "n_positions": 128, "n_embd": 32, "n_layer": 1, "n_head": 2}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).save_pretrained(folder)


@pytest.fixture(scope="module")
def runs(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of `tables --smoke`, from an empty folder."""
    data = tmp_path_factory.mktemp("data")
    for name, folder in (("k400", "kinetics"), ("vidsitu", "vidsitu"), ("lvu", "lvu")):
        (data / name).symlink_to(tiny_world / folder)
    write_gpt2(data / "gpt2-medium")
    words = ["-m", "kuleshov", "run", "tables", "--smoke", "--root", str(data), "--runs", str(data / "runs")]
    # an accelerator would change nothing of what is checked
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return data / "runs"


@pytest.mark.parametrize("number", range(1, 6))
def test_every_row_is_the_paper_s(runs: Path, number: int):
    stage = load_stage(f"table-{number}", ROOT)
    (run,) = runs.glob(f"table-{number}-*")
    found: dict[str, set[str]] = {}
    for line in read_results(run / "results.jsonl"):
        if line.row != "trivial" and line.metric in (METRICS.get(number), "top1", "mse"):
            value = paper_value(line.task, line.metric, line.row, line.origin)
            found.setdefault(line.row, set()).add(value.row if value is not None else "")
    wanted = {row: {stage.paper.get(row, "")} for row in stage.rows_at("paper")}
    assert found == wanted
    assert {row for rows in found.values() for row in rows} >= set(PAPER_TABLES[number]) - {"Human (up. bound)"}


def test_nothing_was_left_out_without_a_word(runs: Path):
    stages = [json.loads(path.read_text()) for path in runs.glob("*/stage.json")]
    assert {"reduce-valid", "measure-human", "table-1", "table-5", "tables"} <= {one["stage"] for one in stages}
    (tables,) = runs.glob("tables-*")
    page = (tables / "report.html").read_text()
    assert all(f"table-{number}" in page for number in range(1, 6))
