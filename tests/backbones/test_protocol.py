"""Any module as a backbone: named, built, saved, loaded, and refused in one line."""

import json
import sys

import pytest
import torch

from kuleshov.backbones import build_backbone, load_backbone, load_classifier, resolve_backbone, save_backbone
from kuleshov.backbones.protocol import check_clips, load_backbone_weights, set_recompute
from kuleshov.core.errors import KuleshovError, UsageError, WeightsError
from kuleshov.core.plugins import TRUST, trust
from kuleshov.core.weights import save_weights
from kuleshov.video.clip_format import ClipFormat

CLIP = ClipFormat(8, 2, 8.0, 48, 56, (0, 0, 0), (1, 1, 1))
SMALL = {"class_path": "slow_d_r50", "init_args": {"width": 2}}
CUSTOM = """
from torch import nn
from kuleshov.backbones import ClipFormat

class Tiny(nn.Module):
    def __init__(self, width: int = 4, promised: int | None = None):
        super().__init__()
        self.feature_width, self.clip = promised or width, ClipFormat(4, 2, 8.0, 32, 32)
        self.linear = nn.Linear(3, width)

    def forward(self, clips):
        return self.linear(clips.mean(dim=(2, 3, 4)))

class Bare(nn.Module):
    pass

def nothing():
    return 3
"""


@pytest.fixture
def package(tmp_path, monkeypatch) -> str:
    """A package of somebody else's, with a backbone."""
    (tmp_path / "elsewhere_nets.py").write_text(CUSTOM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(TRUST, "")
    yield "elsewhere_nets"
    sys.modules.pop("elsewhere_nets", None)


@pytest.mark.parametrize(
    ("clips", "found"),
    [
        (torch.zeros(2, 3, 8, 48, 48, dtype=torch.uint8), r"got torch.uint8 \(2, 3, 8, 48, 48\)"),
        (torch.zeros(3, 8, 48, 48), r"got torch.float32 \(3, 8, 48, 48\)"),
        (torch.zeros(2, 8, 48, 48, 3), r"got torch.float32 \(2, 8, 48, 48, 3\)"),
        (torch.zeros(2, 3, 8, 48, 48).double(), r"got torch.float64"),
        (torch.zeros(2, 3, 8, 48, 48).numpy(), "got ndarray"),
    ],
)
def test_other_clips_are_refused_with_what_would_be_right(clips, found: str, tmp_path):
    save_backbone(tmp_path / "w.safetensors", build_backbone(SMALL), CLIP)
    network = load_backbone(tmp_path / "w.safetensors")
    with pytest.raises(KuleshovError, match=rf"takes clips torch.float32 \(B, 3, 8, 48, 48\), {found}.*clip.normalize"):
        network(clips)


def test_round_trip(tmp_path):
    network = build_backbone(SMALL)
    network(torch.randn(2, 3, 8, 32, 32))  # moves the running statistics
    written = save_backbone(tmp_path / "w.safetensors", network, CLIP, method="cvrl", epochs=3)
    loaded = load_backbone(tmp_path / "w.safetensors")
    assert not loaded.training and loaded.clip == CLIP and loaded.manifest == written
    assert written["method"] == "cvrl" and written["feature_width"] == 64
    assert written["class_path"] == "kuleshov.backbones.architectures.slow_d_r50"
    assert written["init_args"] == {"width": 2}
    clips = torch.randn(2, 3, 8, 32, 32)
    torch.testing.assert_close(loaded(clips), network.eval()(clips), rtol=0, atol=0)


def test_a_spec_is_a_name_a_dictionary_a_text_or_a_file(tmp_path):
    file = tmp_path / "net.yaml"
    file.write_text("class_path: slow_d_r50\ninit_args: {width: 2}\n")
    dotted = {**SMALL, "class_path": "kuleshov.backbones.architectures.slow_d_r50"}
    for spec in (SMALL, dotted, json.dumps(SMALL), "{class_path: slow_d_r50, init_args: {width: 2}}", str(file)):
        assert build_backbone(spec).spec == dotted
    with torch.device("meta"):
        assert build_backbone("motion_2d").feature_width == 256


def test_a_backbone_of_another_package(tmp_path, package):
    spec = {"class_path": f"{package}.Tiny", "init_args": {"width": 6}}
    network = build_backbone(spec).eval()
    path = tmp_path / "w.safetensors"
    save_backbone(path, network)
    with pytest.raises(KuleshovError, match=f"w.safetensors: {package}.Tiny .*--trust {package}"):
        load_backbone(path)
    clips = torch.rand(2, 3, 4, 32, 32)
    # naming the class beside the weights is trust enough
    named = resolve_backbone(path, json.dumps(spec))
    assert torch.equal(named(clips), network(clips)) and named.manifest["sha256"] and named.clip == network.clip
    trust([package])
    assert torch.equal(load_backbone(path)(clips), network(clips))
    alone = resolve_backbone(backbone=spec)
    assert alone.manifest["class_path"] == spec["class_path"] and len(alone.manifest["sha256"]) == 64
    assert alone.manifest["sha256"] != resolve_backbone(backbone=spec).manifest["sha256"]  # other random weights
    with pytest.raises(UsageError, match="--weights .*--backbone"):
        resolve_backbone()


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("slow_r101", "no backbone is called 'slow_r101'; did you mean slow_r50"),
        ({"class_path": "slow_r50", "init_args": {"widht": 2}}, "'widht'; its init_args are width, zero_init"),
        ({"class_path": "slow_r50", "init_args": {"width": 0}}, "width of at least 1"),
        ({"class_path": "slow_r50", "init_args": {"width": "a"}}, "slow_r50 with init_args"),
        ({"class_path": "slow_r50", "init_args": 3}, "init_args are arguments by name, not 3"),
        ({"width": 3}, "a name, or class_path and init_args"),
        ("{class_path: [}", "not readable"),
        ("nowhere.yaml", "not found at .*nowhere.yaml: check --backbone"),
        ("torch.nn.Nothing", "cannot import torch.nn.Nothing"),
        ("elsewhere_nets.Bare", "Bare is no backbone: it needs an attribute feature_width of type int"),
        ("elsewhere_nets.nothing", "gives a int: a backbone is a torch.nn.Module"),
    ],
)
def test_specs_that_do_not_work_are_named(package, spec, text):
    with pytest.raises(KuleshovError, match=text) as caught:
        build_backbone(spec)
    assert "\n" not in str(caught.value)


def test_what_a_backbone_cannot_do_is_named(package):
    tiny = build_backbone(f"{package}.Tiny")
    set_recompute(tiny, 0)
    with pytest.raises(KuleshovError, match="Tiny has no `recompute`: set recompute_stages to 0"):
        set_recompute(tiny, 1)
    check_clips(tiny, tiny.clip)
    wrong = build_backbone({"class_path": f"{package}.Tiny", "init_args": {"promised": 9}})
    with pytest.raises(KuleshovError, match=r"Tiny gives features \(1, 4\) .*\(1, 9\) is expected"):
        check_clips(wrong, wrong.clip)
    with pytest.raises(KuleshovError, match="ResNet3d does not take clips of 1 frames of 1 pixels"):
        check_clips(build_backbone({"class_path": "i3d_r50", "init_args": {"width": 1}}), ClipFormat(1, crop_size=1))


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_backbone(path, build_backbone({"class_path": "slow_r50", "init_args": {"width": 2}}))
    with pytest.raises(WeightsError, match=r"w.safetensors \(slow_r50, width 2\) does not fit ResNet3d: .*other shape"):
        load_backbone_weights(build_backbone(SMALL), path)


def test_head_is_kept_apart(tmp_path):
    network = build_backbone({"class_path": "slow_r50", "init_args": {"width": 1}})
    head = torch.nn.Linear(32, 5)
    save_backbone(tmp_path / "w.safetensors", network, CLIP, head=head.state_dict())
    clips = torch.randn(1, 3, 4, 32, 32)
    logits = load_classifier(tmp_path / "w.safetensors")(clips)
    torch.testing.assert_close(logits, head(load_backbone(tmp_path / "w.safetensors")(clips)))
    save_backbone(tmp_path / "bare.safetensors", network, CLIP)
    with pytest.raises(WeightsError, match="bare.safetensors has no classification head"):
        load_classifier(tmp_path / "bare.safetensors")


def test_what_is_not_a_backbone_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, {"x": torch.zeros(1)}, {"kind": "txe"})
    with pytest.raises(WeightsError, match=r"holds no backbone \(its manifest says 'txe'\)"):
        load_backbone(path)
    network = build_backbone({"class_path": "slow_r50", "init_args": {"width": 1}})
    state = dict(network.state_dict())
    state.pop("s5.pathway0_res2.branch2.c.weight")
    state["s6.weight"] = torch.zeros(1)
    manifest = save_backbone(path, network, CLIP)
    save_weights(path, state, manifest)
    text = r"317 keys matched, 1 missing \(s5.pathway0_res2.branch2.c.weight\), 1 unexpected \(s6.weight\)"
    with pytest.raises(WeightsError, match=text):
        load_backbone(path)
    for field in ("clip", "class_path"):
        save_weights(path, network.state_dict(), {key: value for key, value in manifest.items() if key != field})
        with pytest.raises(WeightsError, match=f"the manifest lacks {field}"):
            load_backbone(path)


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


@pytest.mark.parametrize("field", ["class_path", "init_args", "clip"])
@pytest.mark.parametrize("value", [None, 5, "x", [], {"a": 1}, "kuleshov.core.files.write_atomic"])
def test_a_manifest_with_a_wrong_field_is_one_line(field, value, tmp_path):
    path = tmp_path / "w.safetensors"
    manifest = save_backbone(path, build_backbone({"class_path": "slow_r50", "init_args": {"width": 1}}))
    path.with_suffix(".json").write_text(json.dumps({**manifest, field: value}))
    with pytest.raises(KuleshovError) as error:
        load_backbone(path)
    assert "\n" not in str(error.value)
