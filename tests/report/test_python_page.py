"""docs/python.md: its code runs on a folder of runs, and prints as many lines as the page shows."""

import re
from pathlib import Path

import pytest
import torch

import kuleshov
from kuleshov.txe import TxE, save

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_the_pages_code_runs(
    hierarchy: Path, tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    runs = hierarchy.parent
    sha256 = kuleshov.load_backbone(next(runs.glob("pretrain-backbone-*/weights/backbone.safetensors"))).manifest[
        "sha256"
    ]
    txe = TxE(64, hidden=16, layers=1, heads=2, feedforward=16)
    facts = {"data": {"token_stride": 2.0, "backbone_sha256": sha256}}
    save(runs / "pretrain-txe-lvu-demo-66666666" / "weights" / "txe.safetensors", txe, facts)
    (runs / "world-demo-77777777").mkdir()
    (runs / "world-demo-77777777" / "world").symlink_to(tiny_world)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    torch.manual_seed(0)

    blocks = re.findall(r"```(python|text)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert [kind for kind, _ in blocks].count("python") >= 4
    names: dict = {}
    for (kind, code), (after, shown) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind == "python":
            exec(compile(code, str(PAGE), "exec"), names)
            printed = capsys.readouterr().out.splitlines()
            assert len(printed) == (len(shown.splitlines()) if after == "text" else 0), "\n".join(printed)
    assert (tmp_path / "likeness.png").stat().st_size > 5000
