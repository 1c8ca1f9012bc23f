"""How other code bases name the weights of the same networks."""

import re
from collections.abc import Iterable

STEM = "s1.pathway0_stem.conv.weight"
_PYTORCHVIDEO_STEM = "blocks.0.conv.weight"

# what a Caffe2 name ends in, and its PyTorch counterpart
_CAFFE2_ENDS = {
    "bn_s": "weight",
    "bn_b": "bias",
    "bn_rm": "running_mean",
    "bn_riv": "running_var",
    "w": "weight",
    "b": "bias",
}
_CAFFE2_BLOCK = re.compile(r"res(\d)_(\d+)_branch(1|2[abc])_(bn_s|bn_b|bn_rm|bn_riv|w)")
_CAFFE2_SOLVER = re.compile(r".*_momentum|lr|model_iter|.*_lr|epoch|optimizer_.*")
_PYTORCHVIDEO_BLOCK = re.compile(r"blocks\.(\d+)\.res_blocks\.(\d+)\.(.+)")
_PYTORCHVIDEO_PARTS = (
    ("branch1_conv.", "branch1."),
    ("branch1_norm.", "branch1_bn."),
    ("branch2.conv_a.", "branch2.a."),
    ("branch2.conv_b.", "branch2.b."),
    ("branch2.conv_c.", "branch2.c."),
    ("branch2.norm_a.", "branch2.a_bn."),
    ("branch2.norm_b.", "branch2.b_bn."),
    ("branch2.norm_c.", "branch2.c_bn."),
)
# copies that follow another network, and networks that do not read frames
_NOT_THE_BACKBONE = re.compile(r"hist|encoder_k|key|teacher|ema|momentum|motion|target")
_SELF_SUPERVISED = re.compile(r"encoder_[qk]|backbone_hist|queue|knn_mem|(^|\.)ptr$")


def stem_prefixes(keys: Iterable[str]) -> dict[str, str]:
    """What stands before a network's keys, with the naming found there (`pyslowfast` or `pytorchvideo`)."""
    found = {}
    for key in keys:
        for naming, stem in (("pyslowfast", STEM), ("pytorchvideo", _PYTORCHVIDEO_STEM)):
            if key == stem or key.endswith("." + stem):
                found[key.removesuffix(stem)] = naming
    return found


def preferred(prefixes: Iterable[str]) -> list[str]:
    """The prefixes that can be the network to import: no momentum copy, no motion network."""
    return sorted(prefix for prefix in prefixes if not _NOT_THE_BACKBONE.search(prefix))


def self_supervised(keys: Iterable[str]) -> bool:
    """Whether a checkpoint's keys show a contrastive training, whose head does not classify."""
    return any(_SELF_SUPERVISED.search(key) for key in keys)


def from_caffe2(name: str) -> str | None:
    """Our key for a Caffe2 blob; None for a solver's blob; the name itself where none is known."""
    if _CAFFE2_SOLVER.fullmatch(name):
        return None
    if name in ("pred_w", "pred_b"):
        return f"head.projection.{_CAFFE2_ENDS[name[-1]]}"
    if name == "conv1_w":
        return STEM
    if match := re.fullmatch(r"res_conv1_(bn_s|bn_b|bn_rm|bn_riv)", name):
        return f"s1.pathway0_stem.bn.{_CAFFE2_ENDS[match[1]]}"
    match = _CAFFE2_BLOCK.fullmatch(name)
    if match is None:
        return name
    stage, block, branch, end = match.groups()
    norm = "_bn" if end.startswith("bn") else ""
    part = "branch1" if branch == "1" else f"branch2.{branch[1]}"
    return f"s{stage}.pathway0_res{block}.{part}{norm}.{_CAFFE2_ENDS[end]}"


def from_pytorchvideo(keys: Iterable[str]) -> dict[str, str]:
    """Our key for each of pytorchvideo's, the name itself where none is known.

    Its blocks are numbered through, pooling included (I3D has one after the first stage), so stages are
    counted by the blocks that hold residual blocks.
    """
    keys = list(keys)
    blocks = sorted({int(match[1]) for key in keys if (match := _PYTORCHVIDEO_BLOCK.fullmatch(key))})
    stages = {number: place + 2 for place, number in enumerate(blocks)}
    return {key: _from_pytorchvideo(key, stages) for key in keys}


def _from_pytorchvideo(key: str, stages: dict[int, int]) -> str:
    if key.startswith("blocks.0.conv."):
        return key.replace("blocks.0.conv.", "s1.pathway0_stem.conv.")
    if key.startswith("blocks.0.norm."):
        return key.replace("blocks.0.norm.", "s1.pathway0_stem.bn.")
    if match := re.fullmatch(r"blocks\.\d+\.proj\.(weight|bias)", key):
        return f"head.projection.{match[1]}"
    match = _PYTORCHVIDEO_BLOCK.fullmatch(key)
    if match is None:
        return key
    number, block, rest = match.groups()
    for theirs, ours in _PYTORCHVIDEO_PARTS:
        if rest.startswith(theirs):
            return f"s{stages[int(number)]}.pathway0_res{block}.{ours}{rest.removeprefix(theirs)}"
    return key
