"""Backbones as files."""

import json

import pytest
import torch

from kuleshov.backbones import build, load, load_classifier, save
from kuleshov.core.errors import WeightsError
from kuleshov.core.weights import save_weights
from kuleshov.video.clip_format import ClipFormat

CLIP = ClipFormat(8, 2, 8.0, 48, 56, (0, 0, 0), (1, 1, 1))


def test_round_trip(tmp_path):
    network = build("slow_d_r50", width=2)
    network(torch.randn(2, 3, 8, 32, 32))  # moves the running statistics
    written = save(tmp_path / "w.safetensors", network, CLIP, method="cvrl", epochs=3)
    loaded = load(tmp_path / "w.safetensors")
    assert not loaded.training and loaded.clip == CLIP and loaded.manifest == written
    assert written["method"] == "cvrl" and written["feature_width"] == 64
    clips = torch.randn(2, 3, 8, 32, 32)
    torch.testing.assert_close(loaded(clips), network.eval()(clips), rtol=0, atol=0)


def test_head_is_kept_apart(tmp_path):
    network = build("slow_r50", width=1)
    head = torch.nn.Linear(32, 5)
    save(tmp_path / "w.safetensors", network, CLIP, head=head.state_dict())
    clips = torch.randn(1, 3, 4, 32, 32)
    logits = load_classifier(tmp_path / "w.safetensors")(clips)
    torch.testing.assert_close(logits, head(load(tmp_path / "w.safetensors")(clips)))
    save(tmp_path / "bare.safetensors", network, CLIP)
    with pytest.raises(WeightsError, match="bare.safetensors has no classification head"):
        load_classifier(tmp_path / "bare.safetensors")


def test_what_is_not_a_backbone_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"x": torch.zeros(1)}, {"kind": "txe"})
    with pytest.raises(WeightsError, match=r"holds no backbone \(its manifest says 'txe'\)"):
        load(path)
    network = build("slow_r50", width=1)
    state = dict(network.state_dict())
    state.pop("s5.pathway0_res2.branch2.c.weight")
    state["s6.weight"] = torch.zeros(1)
    manifest = json.loads(json.dumps(save(path, network, CLIP)))
    save_weights(path, state, manifest)
    text = r"317 keys matched, 1 missing \(s5.pathway0_res2.branch2.c.weight\), 1 unexpected \(s6.weight\)"
    with pytest.raises(WeightsError, match=text):
        load(path)
    del manifest["clip"]
    save_weights(path, network.state_dict(), manifest)
    with pytest.raises(WeightsError, match="the manifest lacks 'clip'"):
        load(path)


def test_clip_format():
    paper = ClipFormat(16, 4)
    assert paper.span_seconds == pytest.approx(64 / 30) and paper.frame_seconds == pytest.approx(4 / 30)
    assert ClipFormat.from_dict(json.loads(json.dumps(paper.to_dict()))) == paper
    clips = torch.full((1, 3, 1, 2, 2), 255, dtype=torch.uint8)
    torch.testing.assert_close(paper.normalize(clips), torch.full((1, 3, 1, 2, 2), 0.55 / 0.225))
    with pytest.raises(WeightsError, match="num_frames must be positive, got 0"):
        ClipFormat(0)
    with pytest.raises(WeightsError, match="std needs three numbers, std above 0"):
        ClipFormat(std=(1, 0, 1))
    with pytest.raises(WeightsError, match=r"missing or unknown fields \['fps'\]"):
        ClipFormat.from_dict({**paper.to_dict(), "fps": 3})
