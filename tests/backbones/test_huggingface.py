"""Hugging Face video models, randomly initialized and tiny, as backbones."""

import json
from pathlib import Path

import pytest
import torch

from kuleshov.backbones import build_backbone, load_backbone, save_backbone
from kuleshov.backbones.huggingface import TRANSFORMERS
from kuleshov.backbones.protocol import check_clips
from kuleshov.core.errors import KuleshovError, MissingDataError

pytestmark = pytest.mark.skipif(not TRANSFORMERS, reason="transformers is not installed: pip install 'kuleshov[hf]'")

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16}
OF_MODEL = {
    "videomae": {"image_size": 32, "num_frames": 4, "intermediate_size": 32},
    "timesformer": {"image_size": 32, "num_frames": 4, "intermediate_size": 32},
    "vjepa2": {
        "crop_size": 32,
        "frames_per_clip": 4,
        "mlp_ratio": 2.0,
        "pred_hidden_size": 12,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
    },
}
PROCESSOR = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.3], "size": {"shortest_edge": 36}}


def saved(folder: Path, kind: str):
    """A tiny random model, saved with its processor's configuration."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(kind, **SIZES, **OF_MODEL[kind])).eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return model


@pytest.mark.parametrize("kind", OF_MODEL)
def test_features_are_the_models_own(tmp_path, kind):
    model = saved(tmp_path, kind)
    network = build_backbone({"class_path": "huggingface", "init_args": {"model": str(tmp_path)}}).eval()
    clip = network.clip
    assert (clip.num_frames, clip.crop_size, clip.short_side, clip.mean) == (4, 32, 36, (0.5, 0.4, 0.3))
    check_clips(network, clip)
    clips = torch.rand(2, 3, 4, 32, 32)
    with torch.no_grad():
        frames = clips.transpose(1, 2)
        tokens = (model(pixel_values_videos=frames) if kind == "vjepa2" else model(frames)).last_hidden_state
        features, maps = network(clips), network.forward_map(clips)
    expected = tokens[:, 0] if kind == "timesformer" else tokens.mean(dim=1)
    torch.testing.assert_close(features, expected)
    times = 4 if kind == "timesformer" else 2
    assert maps.shape == (2, 16, times, 2, 2) and features.shape == (2, network.feature_width)
    # second moment, first row, second column
    place = 1 + 1 * times + 1 if kind == "timesformer" else 1 * 4 + 1
    torch.testing.assert_close(maps[:, :, 1, 0, 1], tokens[:, place])
    path = tmp_path / "w.safetensors"
    save_backbone(path, network, method="videomae")
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).unlink()  # the manifest has all that is needed
    again = load_backbone(path)
    assert again.clip == clip and torch.equal(again(clips), features)


def test_weights_are_random_where_none_are_asked_for(tmp_path):
    saved(tmp_path, "videomae")
    arguments = {"model": str(tmp_path), "pretrained": False, "frame_stride": 2, "frame_rate": 8.0}
    random = build_backbone({"class_path": "huggingface", "init_args": arguments})
    taken = build_backbone({"class_path": "huggingface", "init_args": {"model": str(tmp_path)}})
    assert not torch.equal(*(next(iter(one.parameters())) for one in (random, taken)))
    assert (random.clip.frame_stride, random.clip.frame_rate) == (2, 8.0)


def test_mistakes_are_named(tmp_path):
    from transformers import AutoConfig

    def refused(kind, text, **arguments):
        with pytest.raises(kind, match=text) as caught:
            build_backbone({"class_path": "huggingface", "init_args": arguments})
        assert "\n" not in str(caught.value)

    refused(KuleshovError, "needs `model`")
    refused(KuleshovError, "no Hugging Face model at .*nothing", model=str(tmp_path / "nothing"))
    saved(tmp_path, "videomae")
    network = build_backbone({"class_path": "huggingface", "init_args": {"model": str(tmp_path)}})
    with pytest.raises(KuleshovError, match=r"reads clips \(B, 3, 4, 32, 32\), got \(1, 3, 8, 32, 32\)"):
        network(torch.zeros(1, 3, 8, 32, 32))
    (tmp_path / "preprocessor_config.json").unlink()
    refused(MissingDataError, "preprocessor_config.json not found", model=str(tmp_path))
    AutoConfig.for_model("bert").save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    refused(KuleshovError, "is a bert model: videomae, timesformer, vjepa2 are known", model=str(tmp_path))
