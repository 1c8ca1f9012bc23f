"""Every benchmark starts: what it measures is run by hand, `make bench`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).resolve().parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_imports_what_there_is(path: Path):
    done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_check_of_a_gpu_runs_every_kind_of_stage_on_the_cpu(tmp_path: Path):
    page, root = tmp_path / "gpu.md", Path(__file__).resolve().parents[1]
    call = [sys.executable, "benchmarks/gpu_check.py", "--tiny", "--output", str(page)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(call, capture_output=True, text=True, cwd=root, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in page.read_text().splitlines() if line[:1] == "|"
    ]
    trained = "train-verbs train-relations train-roles train-lvu pretrain-txe pretrain-instances".split()
    trained += ["pretrain-backbone cvrl", "pretrain-backbone modist", "pretrain-backbone supervised"]
    extracted = ["extract-features lvu", "extract-features vidsitu", "extract-instances lvu"]
    for name in (*trained, *extracted, "Slow R50, 8 x 8"):
        row = next(row for row in rows if row[0].startswith(name))
        assert float(row[3].replace(",", "")) > 0, row
        assert name in extracted or row[4].endswith("%"), row
    refused = subprocess.run(call[:2], capture_output=True, text=True, cwd=root, env=environment)
    assert refused.returncode == 1 and refused.stderr.startswith("no CUDA device here: --tiny")
