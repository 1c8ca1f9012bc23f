"""Every benchmark starts: what it measures is run by hand, `make bench`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
BENCHMARKS = sorted(FOLDER.glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_imports_what_there_is(path: Path):
    done = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_lines_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    monkeypatch.syspath_prepend(str(FOLDER))
    from lines import Line, finish, read, rounds, table

    slow = Line("job", "a/s", [8.0, 2.0, 3.0], "peer", [4.0, 4.0, 2.0], [8.0, 8.0, 6.0], aim=1.1)
    alone = Line("other", "b/s", [1234.0])
    assert slow.ratios == [2.0, 0.5, 1.5] and not slow.missed and Line("", "", [1.0], "p", [2.0], aim=0.6).missed
    assert slow.cells() == ("job", "2, 3, 8 a/s", "peer", "0.5, 1.5, 2", "1.1", "50%")
    assert alone.cells() == ("other", "1,234, 1,234, 1,234 b/s", "", "", "", "")
    assert (
        finish([slow, alone], tmp_path / "lines.json") == 0 and read(tmp_path / "lines.json")[0].ratios == slow.ratios
    )
    was = Line("job", "a/s", [1.5], "peer", [1.0])
    assert table([slow, alone], [was]).splitlines()[2:] == [
        "| job | 2, 3, 8 a/s | peer | 0.5, 1.5, 2 | 1.1 | 50% | 2.00 |",
        "| other | 1,234, 1,234, 1,234 b/s |  |  |  |  |  |",
    ]
    assert (
        finish([Line("slow", "a/s", [1.0], "peer", [2.0], aim=0.6)], None) == 1
        and "| slow |" in capsys.readouterr().out
    )
    order: list[str] = []
    assert rounds({name: lambda name=name: order.append(name) or 1.0 for name in "ab"}, 2) == {"a": [1, 1], "b": [1, 1]}
    assert order == ["b", "a", "a", "b"]


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
