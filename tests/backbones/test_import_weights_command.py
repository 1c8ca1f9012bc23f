"""`kuleshov import-weights`: what it prints, and that a file of something else costs one line."""

import json

import torch

from kuleshov import backbones
from kuleshov.cli import main


def test_a_checkpoint_is_converted_and_what_was_found_is_told(tmp_path, capsys):
    network = backbones.build_backbone({"class_path": "slow_r50", "init_args": {"width": 2}})
    file = tmp_path / "checkpoint_epoch_00001.pyth"
    torch.save({"epoch": 1, "model_state": network.state_dict()}, file)
    out = tmp_path / "w.safetensors"
    assert main(["import-weights", str(file), "--output", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "slow_r50"
    assert main(["import-weights", str(file), "--output", str(out), "--inflate", "center"]) == 0
    assert "slow_d_r50 of width 2" in capsys.readouterr().out
    assert backbones.load_backbone(out).manifest["class_path"].endswith(".slow_d_r50")


def test_a_file_of_something_else_is_one_line(tmp_path, capsys):
    (tmp_path / "x.pyth").write_bytes(b"nothing")
    assert main(["import-weights", str(tmp_path / "x.pyth"), "--output", str(tmp_path / "w.safetensors")]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
