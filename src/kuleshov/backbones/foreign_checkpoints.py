"""Other people's checkpoint files: read without running anything that is in them, and named as our networks are."""

import os
import pickletools
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kuleshov.backbones.backbone_spec import ARCHITECTURES
from kuleshov.backbones.protocol import HEAD_PREFIX, build_backbone
from kuleshov.core.errors import FormatError, MissingDataError, WeightsError
from kuleshov.core.files import parse_yaml
from kuleshov.core.unpickle import restricted_load
from kuleshov.video.clip_format import ClipFormat

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
_CAFFE2_NONLOCAL = re.compile(r"nonlocal_conv(\d+)_(\d+)_(theta|phi|g|out|bn)_(w|b|s|rm|riv)")
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
# words of a name: copies that follow another network, and networks that do not read frames
_NOT_THE_BACKBONE = re.compile(
    r"(?:^|[._])(?:hist|encoder_k|key_encoder|encoder_key|teacher|ema|momentum|motion|target)(?=[._]|$)|(?:^|\.)key(?:\.|$)"
)
_SELF_SUPERVISED = re.compile(r"(?:^|[._])(?:encoder_[qk]|backbone_hist|queue|knn_mem)(?=[._]|$)|(?:^|\.)ptr$")


# what torch itself reads, beside its own names
_PLAIN_NAMES = ("collections.OrderedDict", "collections.Counter", "_codecs.encode", "__builtin__.set", "builtins.set")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors of a foreign file, by their names there, and what else is of use in it."""

    container: str  # `pyslowfast`, `caffe2`, `lightning` or `state_dict`, by how the file is laid out
    tensors: dict[str, Tensor]
    skipped: tuple[str, ...] = ()  # entries that are no tensors, and classes that the file names, which were not run
    config: str = ""  # the training's configuration, as text, where the file holds it


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint file of any known layout.

    Raises:
        MissingDataError: no such file.
        WeightsError: not a checkpoint, or one that holds more than tensors and plain values.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise MissingDataError("checkpoint", path.absolute(), "name the file to import")
    zipped = zipfile.is_zipfile(path)
    if path.suffix == ".pkl" and not zipped and not _is_old_torch(path):
        return _caffe2(path)
    try:
        objects = _foreign_objects(path, zipped)
        with torch.serialization.safe_globals([(UnreadObject, name) for name in objects]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise any error at all
        # torch's advice stands around its reason
        text = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
        raise WeightsError(
            f"{path} cannot be read as tensors and plain values alone, and nothing else is unpickled: "
            f"{text.strip().partition(chr(10))[0] or type(error).__name__}"
        ) from error
    return _pytorch(path, content, objects)


class UnreadObject:
    """Stands where a checkpoint names a class or function of its own: takes what it is given and does nothing."""

    def __new__(cls, *args: Any, **named: Any) -> "UnreadObject":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Take any state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Take any item."""


def _foreign_objects(path: Path, zipped: bool) -> tuple[str, ...]:
    """Classes and functions, beyond tensors and plain values, that a checkpoint names."""
    if zipped:
        return tuple(sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path)))
    named = set()
    with path.open("rb") as file:
        # before torch 1.6: a magic number, a version, the system and the content, a pickle each
        for _ in range(4):
            named |= {value.replace(" ", ".") for code, value, _ in pickletools.genops(file) if code.name == "GLOBAL"}
    return tuple(sorted(name for name in named if not name.startswith("torch.") and name not in _PLAIN_NAMES))


def _is_old_torch(path: Path) -> bool:
    """Whether a file is of torch's format before version 1.6, by the number that it begins with."""
    with path.open("rb") as file:
        try:
            first = [value for code, value, _ in pickletools.genops(file) if code.name.startswith("LONG")]
        except ValueError:
            return False
    return first == [torch.serialization.MAGIC_NUMBER]


def _caffe2(path: Path) -> Checkpoint:
    content = restricted_load(path, encoding="latin1")
    blobs = content.get("blobs", content) if isinstance(content, dict) else None
    if not isinstance(blobs, dict):
        raise WeightsError(f"{path} is no Caffe2 checkpoint: it has no `blobs`")
    tensors, skipped = {}, []
    for name, blob in blobs.items():
        if isinstance(blob, np.ndarray) and blob.dtype.kind == "f":
            tensors[str(name)] = torch.from_numpy(np.array(blob, dtype=np.float32))
        else:
            skipped.append(str(name))
    return Checkpoint("caffe2", tensors, tuple(skipped))


def _pytorch(path: Path, content: Any, objects: tuple[str, ...]) -> Checkpoint:
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a checkpoint's dictionary")
    config = content.get("cfg", "")
    entry = _entry_of_weights(path, content)
    lightning = any(key.startswith("pytorch-lightning") for key in content)
    container = "pyslowfast" if entry == "model_state" else "lightning" if lightning else "state_dict"
    state = content[entry] if entry else content
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: its weights are a {type(state).__name__}, not a dictionary of tensors")
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    strange = [name for name, value in tensors.items() if value.layout != torch.strided or value.is_meta]
    if strange:
        raise WeightsError(f"{path}: {strange[0]} is a tensor without plain values: save it dense, on the CPU")
    skipped = tuple(str(name) for name, value in state.items() if not isinstance(value, Tensor))
    return Checkpoint(container, tensors, (*skipped, *objects), config if isinstance(config, str) else "")


def _entry_of_weights(path: Path, content: dict) -> str:
    """The entry that holds the weights; empty where the dictionary itself holds them."""
    known = [name for name in ("model_state", "state_dict") if name in content]
    if known or any(isinstance(value, Tensor) for value in content.values()):
        return known[0] if known else ""
    nested = [str(name) for name, value in content.items() if _holds_tensors(value)]
    nested = preferred(nested) or nested
    if len(nested) > 1:
        raise WeightsError(
            f"{path} holds tensors under {', '.join(nested)}: save the one to import by itself, with torch.save"
        )
    return nested[0] if nested else ""


def _holds_tensors(entry: Any) -> bool:
    return isinstance(entry, dict) and any(isinstance(value, Tensor) for value in entry.values())


def clip_format(config: str, usual: ClipFormat) -> ClipFormat:
    """The clips that a PySlowFast configuration (YAML text) describes; `usual` where it says nothing readable."""
    try:
        return _described_clips(parse_yaml(config, "cfg")["DATA"], usual)
    except (FormatError, WeightsError, LookupError, TypeError, ValueError, ArithmeticError):
        return usual


def _described_clips(data: dict[str, Any], usual: ClipFormat) -> ClipFormat:
    crop = int(data.get("TRAIN_CROP_SIZE", usual.crop_size))
    return ClipFormat(
        num_frames=int(data.get("NUM_FRAMES", usual.num_frames)),
        frame_stride=int(data.get("SAMPLING_RATE", usual.frame_stride)),
        frame_rate=float(data.get("TARGET_FPS", usual.frame_rate)),
        crop_size=crop,
        # PySlowFast tests at 256 for crops of 224: the same ratio for other sizes
        short_side=round(crop * usual.short_side / usual.crop_size),
        mean=tuple(data.get("MEAN", usual.mean)),
        std=tuple(data.get("STD", usual.std)),
    )


def translate(checkpoint: Checkpoint, source: str, prefix: str | None) -> tuple[str, str, dict[str, Tensor], list[str]]:
    """Whose names the keys have, what stands before them, tensors under our names, and keys of something else.

    The prefix is found where it is None; `WeightsError` where no naming is known or there are several networks.
    """
    if checkpoint.container == "caffe2":
        names = {name: from_caffe2(name) for name in checkpoint.tensors}
        ignored = [name for name, ours in names.items() if ours is None]
        ours = {ours: checkpoint.tensors[name] for name, ours in names.items() if ours is not None}
        if STEM not in ours:
            raise WeightsError(_unknown(source, checkpoint.tensors))
        return "caffe2", "", ours, ignored
    naming, prefix = _choose_prefix(checkpoint.tensors, source, prefix)
    inside = {k.removeprefix(prefix): v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}
    ignored = [key for key in checkpoint.tensors if not key.startswith(prefix)]
    if self_supervised(checkpoint.tensors):
        # MoDist's checkpoints hold the motion network as a second pathway
        ignored += [prefix + key for key in inside if ".pathway1_" in key]
        inside = {key: value for key, value in inside.items() if ".pathway1_" not in key}
    if naming == "pytorchvideo":
        names = from_pytorchvideo(inside)
        inside = {names[key]: value for key, value in inside.items()}
    return naming, prefix, inside, ignored


def _choose_prefix(tensors: dict[str, Tensor], source: str, prefix: str | None) -> tuple[str, str]:
    found = stem_prefixes(tensors)
    if not found:
        raise WeightsError(_unknown(source, tensors))
    if prefix is not None:
        if prefix not in found:
            raise WeightsError(f"{source} has no network after {prefix!r}: it has {sorted(found)}")
        return found[prefix], prefix
    candidates = preferred(found) if len(found) > 1 else list(found)
    if len(candidates) != 1:
        raise WeightsError(f"{source} holds several networks, after {sorted(found)}: choose one with --prefix")
    return found[candidates[0]], candidates[0]


def _unknown(source: str, tensors: dict[str, Tensor]) -> str:
    first = ", ".join(list(tensors)[:3]) or "none"
    return f"{source} has none of the known names (PySlowFast, Caffe2, pytorchvideo): its first keys are {first}"


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
    if match := _CAFFE2_NONLOCAL.fullmatch(name):
        stage, block, part, end = match.groups()
        inside = "bn" if part == "bn" else f"conv_{part}"
        return f"s{stage}.pathway0_nonlocal{block}.{inside}.{_CAFFE2_ENDS[f'bn_{end}' if part == 'bn' else end]}"
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


def infer_architecture(tensors: dict[str, Tensor], source: str) -> str:
    """The network whose temporal kernels and block counts these tensors have; `WeightsError` where none has."""
    if "s1.pathway1_stem.conv.weight" in tensors or any("_fuse." in key for key in tensors):
        raise WeightsError(f"{source} is a two-pathway SlowFast network, which is not among our backbones")
    found = _kernels(tensors)
    if STEM not in found:
        raise WeightsError(f"{source} has a {STEM} that is no kernel of five dimensions")
    fitting = []
    for name in ARCHITECTURES:
        with torch.device("meta"):
            network = build_backbone({"class_path": name, "init_args": {"width": 1}})
        known = network.state_dict()
        # a subset: what a damaged file lacks is named when it is loaded
        if found.items() <= _kernels(known).items() and _nonlocal(tensors) == _nonlocal(known):
            fitting.append(name)
    if len(fitting) == 1:
        return fitting[0]
    raise WeightsError(
        f"{source} has temporal kernels {list(found.values())} in {len(found)} convolutions (conv1 first), "
        f"which tells none of {', '.join(ARCHITECTURES)}"
    )


def _nonlocal(tensors: Iterable[str]) -> set[str]:
    """The non-local blocks whose queries are there."""
    return {key for key in tensors if key.endswith(".conv_theta.weight")}


def _kernels(tensors: dict[str, Tensor]) -> dict[str, int]:
    """Temporal kernels of conv1 and of each block's first convolution, by key."""
    wanted = (STEM, ".branch2.a.weight")
    return {key: tensors[key].shape[2] for key in sorted(tensors) if key.endswith(wanted) and tensors[key].ndim == 5}


def split_head(tensors: dict[str, Tensor], contrastive: bool) -> tuple[dict[str, Tensor], list[str]]:
    """Take the head's tensors out: the classification head, and the names of what is not one."""
    head_keys = [key for key in tensors if key.startswith("head.")]
    head = {key: tensors.pop(key) for key in head_keys}
    names = [HEAD_PREFIX + "weight", HEAD_PREFIX + "bias"]
    weight = head.get(names[0])
    bias = head.get(names[1])
    if contrastive or weight is None or bias is None or weight.ndim < 2 or bias.shape != weight.shape[:1]:
        return {}, head_keys
    kept = {"weight": weight.flatten(1), "bias": bias}
    return kept, [key for key in head_keys if key not in names]


def inflate_stem(tensors: dict[str, Tensor], found: str, target: str, rule: str) -> None:
    if found != "slow_r50" or target != "slow_d_r50":
        raise WeightsError(f"only slow_r50 inflates, into slow_d_r50; these weights are {found}, asked {target}")
    kernel, frames = tensors[STEM], 5  # (width, 3, 1, 7, 7)
    if rule == "mean":
        tensors[STEM] = kernel.repeat(1, 1, frames, 1, 1) / frames
    else:
        tensors[STEM] = kernel.new_zeros(kernel.shape[0], 3, frames, 7, 7)
        tensors[STEM][:, :, frames // 2] = kernel[:, :, 0]
