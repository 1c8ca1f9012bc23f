"""Other people's checkpoints, made here in each naming from one network, come back as that network."""

import argparse
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from kuleshov.backbones import architectures, load_backbone, load_classifier
from kuleshov.backbones.import_weights import import_weights
from kuleshov.core.errors import KuleshovError, MissingDataError, WeightsError

WIDTH = 8
CLASSES = 7


def network_and_head(name: str) -> tuple[torch.nn.Module, dict]:
    """A network with telling batch-norm statistics, and a state dict with a classification head."""
    torch.manual_seed(3)
    network = getattr(architectures, name)(WIDTH)
    for key, value in network.state_dict().items():
        if key.endswith(("running_mean", "bn.bias")):
            value.normal_(std=0.1)
        elif key.endswith(("running_var", "bn.weight")):
            value.uniform_(0.5, 0.9)
    head = {
        "head.projection.weight": torch.randn(CLASSES, 32 * WIDTH) / 16,
        "head.projection.bias": torch.randn(CLASSES),
    }
    return network.eval(), {**network.state_dict(), **head}


def caffe2_name(key: str) -> str | None:
    """The Caffe2 blob of one of our keys."""
    if key.endswith("num_batches_tracked"):
        return None
    ends = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    parts = key.split(".")
    if parts[0] == "head":
        return f"pred_{parts[-1][0]}"
    if parts[0] == "s1":
        return "conv1_w" if parts[2] == "conv" else f"res_conv1_bn_{ends[parts[3]]}"
    if "nonlocal" in key:
        stem = f"nonlocal_conv{parts[0][1]}_{parts[1].removeprefix('pathway0_nonlocal')}_"
        return f"{stem}bn_{ends[parts[-1]]}" if parts[2] == "bn" else f"{stem}{parts[2][5:]}_{parts[-1][0]}"
    stem = f"res{parts[0][1]}_{parts[1].removeprefix('pathway0_res')}_"
    stem += "branch1" if parts[2].startswith("branch1") else f"branch2{parts[3][0]}"
    return f"{stem}_bn_{ends[parts[-1]]}" if "_bn" in key else f"{stem}_w"


def pytorchvideo_name(key: str, pooled: bool) -> str:
    """pytorchvideo's key for one of ours."""
    if key.startswith("head"):
        return key.replace("head.projection", f"blocks.{6 if pooled else 5}.proj")
    if key.startswith("s1"):
        return key.replace("s1.pathway0_stem.conv", "blocks.0.conv").replace("s1.pathway0_stem.bn", "blocks.0.norm")
    stage, block, rest = key.split(".", 2)
    number = int(stage[1]) - 1 + (1 if pooled and stage != "s2" else 0)
    for letter in "abc":
        rest = rest.replace(f"branch2.{letter}_bn.", f"branch2.norm_{letter}.")
        rest = rest.replace(f"branch2.{letter}.", f"branch2.conv_{letter}.")
    rest = rest.replace("branch1_bn.", "branch1_norm.").replace("branch1.", "branch1_conv.")
    return f"blocks.{number}.res_blocks.{block.removeprefix('pathway0_res')}.{rest}"


def write_checkpoint(naming: str, path: Path, name: str, state: dict) -> Path:
    """A checkpoint file as that code base writes it."""
    if naming == "caffe2":
        blobs = {caffe2_name(k): v.numpy() for k, v in state.items() if caffe2_name(k)}
        blobs |= {"conv1_w_momentum": np.zeros(3, np.float32), "lr": np.float32(0.1), "model_iter": 5}
        path = path.with_suffix(".pkl")
        path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
        return path
    path = path.with_suffix(".pyth")
    if naming == "pyslowfast":
        torch.save({"epoch": 5, "model_state": state, "optimizer_state": {}, "cfg": "DATA: {}"}, path)
    elif naming == "pytorchvideo":
        pooled = name == "i3d_r50"
        torch.save({"model_state": {pytorchvideo_name(k, pooled): v for k, v in state.items()}}, path)
    else:
        inside = {f"network.{k}": v for k, v in state.items()} | {"loss.scale": torch.ones(1)}
        content = {"pytorch-lightning_version": "2.6.6", "state_dict": inside, "hyper_parameters": {"lr": 0.1}}
        torch.save(content, path)
    return path


@pytest.mark.parametrize("naming", ["pyslowfast", "caffe2", "pytorchvideo", "lightning"])
@pytest.mark.parametrize("name", ["slow_r50", "i3d_r50", "slow_d_r50"])
def test_every_naming_comes_back(tmp_path, naming, name):
    network, state = network_and_head(name)
    file = write_checkpoint(naming, tmp_path / "foreign", name, state)
    report = import_weights(file, tmp_path / "w.safetensors")
    assert (report.architecture, report.width, report.classes) == (name, WIDTH, CLASSES)
    counters = 53 if naming == "caffe2" else 0
    assert len(report.filled) == counters and len(report.matched) == 318 - counters
    loaded = load_backbone(tmp_path / "w.safetensors")
    for key, value in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(loaded.state_dict()[key], value), key
    logits = load_classifier(tmp_path / "w.safetensors")[1]
    assert torch.equal(logits.weight, state["head.projection.weight"])
    assert f"{name} of width {WIDTH}, a head of {CLASSES} classes" in str(report)


@pytest.mark.parametrize("naming", ["pyslowfast", "caffe2", "lightning"])
def test_non_local_blocks_come_back(tmp_path, naming):
    network, state = network_and_head("i3d_nl_r50")
    file = write_checkpoint(naming, tmp_path / "foreign", "i3d_nl_r50", state)
    report = import_weights(file, tmp_path / "w.safetensors", trained=["supervised-k400"])
    assert report.architecture == "i3d_nl_r50" and not report.ignored or naming != "pyslowfast"
    loaded, clips = load_backbone(tmp_path / "w.safetensors"), torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(clips), network(clips))
    assert loaded.manifest["trained"] == ["supervised-k400"]
    # without them it is another network
    lacking = {key: value for key, value in state.items() if "nonlocal" not in key}
    file = write_checkpoint(naming, tmp_path / "plain", "i3d_r50", lacking)
    assert import_weights(file, tmp_path / "p.safetensors").architecture == "i3d_r50"


@pytest.mark.parametrize(
    ("prefix", "others"),
    [
        ("backbone.", {"queue_x": torch.zeros(4, 2), "ptr": torch.zeros(1), "iter": torch.zeros(1)}),
        ("encoder_q.", {"queue": torch.zeros(4, 2)}),
        ("module.encoder_q.", {}),
    ],
)
def test_self_supervised_prefixes(tmp_path, prefix, others):
    network, _ = network_and_head("slow_d_r50")
    state = network.state_dict()
    copy = prefix.replace("encoder_q", "encoder_k").replace("backbone", "backbone_hist")
    tensors = {prefix + key: value for key, value in state.items()}
    tensors |= {copy + key: value + 1 for key, value in state.items()} | others
    tensors |= {prefix + "head.projection.projection.0.weight": torch.zeros(4, 256)}
    if "encoder" in prefix:
        tensors[prefix + "s1.pathway1_stem.conv.weight"] = torch.zeros(1, 3, 5, 7, 7)
    torch.save({"model_state": tensors}, tmp_path / "ssl.pyth")
    report = import_weights(tmp_path / "ssl.pyth", tmp_path / "w.safetensors")
    assert (report.prefix, report.classes, report.architecture) == (prefix, 0, "slow_d_r50")
    assert len(report.ignored) == len(tensors) - 318
    stem = "s1.pathway0_stem.conv.weight"
    assert torch.equal(load_backbone(tmp_path / "w.safetensors").state_dict()[stem], state[stem])


@pytest.mark.parametrize("entry", ["model", "model_state_dict", "network"])
def test_weights_under_another_name(tmp_path, entry):
    network, _ = network_and_head("slow_r50")
    weights = network.state_dict()
    followers = {"model_ema": {key: value + 1 for key, value in weights.items()}}
    torch.save({entry: weights, **followers, "epoch": 3}, tmp_path / "w.pth")
    import_weights(tmp_path / "w.pth", tmp_path / "w.safetensors")
    stem = "s1.pathway0_stem.conv.weight"
    assert torch.equal(load_backbone(tmp_path / "w.safetensors").state_dict()[stem], weights[stem])
    torch.save({"left": weights, "right": weights}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="left, right"):
        import_weights(tmp_path / "w.pth", tmp_path / "w.safetensors")


@pytest.mark.parametrize("rule", ["center", "mean"])
def test_slow_inflates_into_slow_d(tmp_path, rule):
    network, state = network_and_head("slow_r50")
    file = write_checkpoint("pyslowfast", tmp_path / "slow", "slow_r50", state)
    report = import_weights(file, tmp_path / "w.safetensors", inflate=rule)
    inflated = load_backbone(tmp_path / "w.safetensors")
    assert (report.architecture, report.inflated) == ("slow_d_r50", rule)
    assert inflated.manifest["inflated"] == {"from": "slow_r50", "conv1": rule}
    assert (inflated.clip.num_frames, inflated.clip.frame_stride) == (16, 4)
    # on a clip that does not move, conv1 away from the ends answers as before
    still = torch.rand(1, 3, 1, 32, 32).expand(1, 3, 16, 32, 32)
    wide, narrow = inflated.s1.pathway0_stem.conv(still), network.s1.pathway0_stem.conv(still)
    torch.testing.assert_close(wide[:, :, 2:-2], narrow[:, :, 4:-4:2], rtol=1e-4, atol=1e-5)


def test_configuration_gives_the_clips(tmp_path):
    _, state = network_and_head("slow_r50")
    config = "DATA: {NUM_FRAMES: 4, SAMPLING_RATE: 16, TRAIN_CROP_SIZE: 112, MEAN: [0.5, 0.4, 0.3]}"
    torch.save({"model_state": state, "cfg": config}, tmp_path / "s.pyth")
    import_weights(tmp_path / "s.pyth", tmp_path / "w.safetensors")
    clip = load_backbone(tmp_path / "w.safetensors").clip
    assert (clip.num_frames, clip.frame_stride, clip.crop_size, clip.short_side) == (4, 16, 112, 128)
    assert clip.mean == (0.5, 0.4, 0.3) and clip.std == (0.225, 0.225, 0.225) and clip.frame_rate == 30


class Bomb:
    def __reduce__(self):
        return print, ("this must not run",)


def test_nothing_is_run(tmp_path, capsys):
    network, _ = network_and_head("slow_r50")
    weights = network.state_dict()
    content = {"model_state": weights, "extra": Bomb(), "epoch": np.int64(3), "path": Path("runs")}
    torch.save({**content, "options": argparse.Namespace(lr=0.1)}, tmp_path / "bomb.pyth")
    report = import_weights(tmp_path / "bomb.pyth", tmp_path / "w.safetensors")
    assert {"argparse.Namespace", "builtins.print", "pathlib.PosixPath"} <= set(report.ignored)
    stem = "s1.pathway0_stem.conv.weight"
    assert torch.equal(load_backbone(tmp_path / "w.safetensors").state_dict()[stem], weights[stem])
    torch.save({"model_state": Bomb()}, tmp_path / "bomb.pyth")
    with pytest.raises(WeightsError, match="its weights are a UnreadObject, not a dictionary of tensors"):
        import_weights(tmp_path / "bomb.pyth", tmp_path / "w.safetensors")
    torch.save({"model_state": weights}, tmp_path / "bomb.pyth", _use_new_zipfile_serialization=False)
    assert not import_weights(tmp_path / "bomb.pyth", tmp_path / "w.safetensors").ignored
    (tmp_path / "bomb.pyth").write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(WeightsError, match="nothing else is unpickled"):
        import_weights(tmp_path / "bomb.pyth", tmp_path / "w.safetensors")
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps({"blobs": Bomb()}))
    with pytest.raises(KuleshovError, match="asks for builtins.print"):
        import_weights(tmp_path / "bomb.pkl", tmp_path / "w.safetensors")
    assert "must not run" not in capsys.readouterr().out


def test_mistakes_are_named(tmp_path):
    network, state = network_and_head("slow_r50")
    output, file = tmp_path / "w.safetensors", tmp_path / "f.pyth"

    def refused(content, text, **options):
        torch.save(content, file)
        with pytest.raises(KuleshovError, match=text):
            import_weights(file, output, **options)
        assert not output.exists()

    lacking = {k: v for k, v in state.items() if k != "s4.pathway0_res5.branch2.a.weight"}
    refused({"model_state": lacking}, r"317 keys matched, 1 missing \(s4.pathway0_res5.branch2.a.weight\)")
    extra = {**state, "s3.pathway0_nonlocal1.conv_g.weight": torch.zeros(1)}
    refused({"model_state": extra}, r"318 keys matched, 1 unexpected \(s3.pathway0_nonlocal1.conv_g.weight\)")
    refused({"model_state": state}, "slow_r50, not of slow_d_r50: inflate them", architecture="slow_d_r50")
    refused({"model_state": state}, "no backbone is called 'slow'", architecture="slow")
    refused({"model_state": state}, "inflate is center or mean, not 'middle'", inflate="middle")
    refused({"model_state": {**state, "s1_fuse.conv_f2s.weight": torch.zeros(1)}}, "two-pathway SlowFast")
    refused({0: state}, "holds a dict, not a checkpoint's dictionary")
    refused({"state_dict": {"layer1.weight": torch.zeros(1)}}, "none of the known names .* layer1.weight")
    two = {f"{p}.{k}": v for p in ("left", "right") for k, v in network.state_dict().items()}
    refused({"state_dict": two}, r"several networks, after \['left.', 'right.'\]")
    refused({"state_dict": two}, "no network after 'middle.'", prefix="middle.")
    torch.save({"state_dict": two}, file)
    assert import_weights(file, output, prefix="right.").prefix == "right."
    with pytest.raises(MissingDataError, match="nowhere.pyth: name the file to import"):
        import_weights(tmp_path / "nowhere.pyth", output)
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="f.pyth cannot be read"):
        import_weights(file, output)


@pytest.mark.parametrize("name", ["old.pyth", "old.pkl", "new.pkl"])
def test_torch_files_of_any_age_and_ending(tmp_path, name):
    _, state = network_and_head("slow_r50")
    content = {"model_state": state, "best": np.float64(3), "options": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / name, _use_new_zipfile_serialization=name.startswith("new"))
    report = import_weights(tmp_path / name, tmp_path / "w.safetensors")
    assert "argparse.Namespace" in report.ignored and len(report.matched) == 318


@pytest.mark.parametrize("prefix", ["cinema.", "keyframe_encoder.", "slowmotion.", "schema.net."])
def test_followers_are_known_by_whole_words(tmp_path, prefix):
    network, _ = network_and_head("slow_r50")
    weights = network.state_dict()
    for follower in ("ema.", "key_encoder.", "module.momentum_encoder."):
        both = {**{prefix + k: v for k, v in weights.items()}, **{follower + k: v for k, v in weights.items()}}
        torch.save({"model_state": both}, tmp_path / "w.pth")
        assert import_weights(tmp_path / "w.pth", tmp_path / "w.safetensors").prefix == prefix


@pytest.mark.parametrize(
    "config", ["DATA: {NUM_FRAMES: abc}", "DATA: {MEAN: 5}", "[" * 50_000, "DATA: {STD: [0, 0, 0]}"]
)
def test_an_unreadable_configuration_gives_the_usual_clips(tmp_path, config):
    _, state = network_and_head("slow_r50")
    torch.save({"model_state": state, "cfg": config}, tmp_path / "s.pyth")
    import_weights(tmp_path / "s.pyth", tmp_path / "w.safetensors")
    assert load_backbone(tmp_path / "w.safetensors").clip.num_frames == 8
