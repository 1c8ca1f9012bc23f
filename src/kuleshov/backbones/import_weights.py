"""Other people's weights, turned into ours: PySlowFast, Caffe2, pytorchvideo, Lightning."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kuleshov.backbones import foreign_checkpoints as checkpoints
from kuleshov.backbones import key_maps as dialects
from kuleshov.backbones.architectures import ARCHITECTURES, architecture, build
from kuleshov.backbones.loading import HEAD_PREFIX, save
from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.files import sha256_file
from kuleshov.core.weights import first_names, load_into

INFLATIONS = ("center", "mean")


@dataclass(frozen=True)
class ImportReport:
    """What an import found and did.

    Attributes:
        container: the file's layout; see `checkpoints.Checkpoint`.
        naming: whose names its keys have: `pyslowfast`, `pytorchvideo` or `caffe2`.
        prefix: what stood before the network's keys.
        architecture: the network that was written.
        width: channels of its stem.
        classes: rows of the classification head that was kept; 0 without one.
        inflated: how conv1 was inflated; empty if it was not.
        matched: our keys that the file filled.
        filled: batch counters that it lacks and that were set to 0.
        missing: our keys that it did not fill; an import with any is refused.
        unexpected: its keys that our network lacks; an import with any is refused.
        ignored: its keys that belong to something else (solver, queue, momentum copy, projection head).
    """

    container: str
    naming: str
    prefix: str
    architecture: str
    width: int
    classes: int
    inflated: str
    matched: tuple[str, ...]
    filled: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    ignored: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report as lines of text: counts, and up to five names of each kind but the matched."""
        head = f"a head of {self.classes} classes" if self.classes else "no classification head"
        told = [
            f"{self.container} checkpoint, {self.naming} names" + (f" after {self.prefix!r}" if self.prefix else ""),
            f"{self.architecture} of width {self.width}, {head}"
            + (f", conv1 inflated ({self.inflated})" if self.inflated else ""),
            f"matched {len(self.matched)} keys",
        ]
        for name in ("filled", "missing", "unexpected", "ignored"):
            keys = getattr(self, name)
            told.append(f"{name} {len(keys)} keys" + (f": {first_names(keys, 5)}" if keys else ""))
        return told

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return asdict(self)


def import_weights(
    file: str | Path,
    output: str | Path,
    architecture: str | None = None,
    inflate: str | None = None,
    prefix: str | None = None,
) -> ImportReport:
    """Read a foreign checkpoint and write it as `.safetensors` with its manifest.

    Args:
        file: PySlowFast `.pyth`, Caffe2 `.pkl`, pytorchvideo's or Lightning's checkpoint.
        output: the file to write, ending in `.safetensors`.
        architecture: the network to write; found from the shapes when not given.
        inflate: `center` or `mean`: turn Slow weights (conv1 over one frame) into Slow-D (over five).
        prefix: what stands before the network's keys, where the file holds several networks.

    Returns:
        Matched, missing, unexpected and ignored keys.

    Raises:
        KuleshovError: the file cannot be read, or does not fit a known network exactly.
    """
    if inflate is not None and inflate not in INFLATIONS:
        raise KuleshovError(f"inflate is {' or '.join(INFLATIONS)}, not {inflate!r}")
    checkpoint = checkpoints.read(file)
    naming, prefix, tensors, ignored = _translate(checkpoint, str(file), prefix)
    head, dropped = _split_head(tensors, dialects.self_supervised(checkpoint.tensors))
    found = infer_architecture(tensors, str(file))
    target = architecture or ("slow_d_r50" if inflate else found)
    if inflate:
        _inflate_stem(tensors, found, target, inflate)
    elif target != found:
        raise WeightsError(_other_architecture(str(file), found, target))
    network = build(target, width=tensors[dialects.STEM].shape[0])
    filled = _fill_counters(tensors, network.state_dict())
    load_into(network, tensors, str(file))
    usual = ARCHITECTURES[target].clip
    clip = usual if inflate else checkpoints.clip_format(checkpoint.config, usual)
    save(output, network, clip, head=head or None, **_facts(Path(file), checkpoint.container, found, inflate))
    return ImportReport(
        container=checkpoint.container,
        naming=naming,
        prefix=prefix,
        architecture=target,
        width=network.width,
        classes=head["weight"].shape[0] if head else 0,
        inflated=inflate or "",
        matched=tuple(sorted(tensors.keys() - set(filled))),
        filled=filled,
        missing=(),
        unexpected=(),
        ignored=tuple(sorted({*ignored, *dropped, *checkpoint.skipped})),
    )


def _facts(file: Path, container: str, found: str, inflate: str | None) -> dict[str, Any]:
    source = {"file": file.name, "sha256": sha256_file(file), "container": container}
    inflated = {"inflated": {"from": found, "conv1": inflate}} if inflate else {}
    return {"method": "imported", "source": source, **inflated}


def infer_architecture(tensors: dict[str, Tensor], source: str) -> str:
    """The network whose temporal kernels and block counts these tensors have.

    Raises:
        WeightsError: none has; what was found is named.
    """
    if "s1.pathway1_stem.conv.weight" in tensors or any("_fuse." in key for key in tensors):
        raise WeightsError(f"{source} is a two-pathway SlowFast network, which is not among our backbones")
    found = _kernels(tensors)
    fitting = []
    for name in ARCHITECTURES:
        with torch.device("meta"):
            network = build(name, width=1)
        # a subset: what a damaged file lacks is named when it is loaded
        if found.items() <= _kernels(network.state_dict()).items():
            fitting.append(name)
    if len(fitting) == 1:
        return fitting[0]
    raise WeightsError(
        f"{source} has temporal kernels {list(found.values())} in {len(found)} convolutions (conv1 first), "
        f"which tells none of {', '.join(ARCHITECTURES)}"
    )


def _kernels(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Temporal kernels of conv1 and of each block's first convolution, by key."""
    wanted = (dialects.STEM, ".branch2.a.weight")
    return {key: tensors[key].shape[2] for key in sorted(tensors) if key.endswith(wanted)}


def _translate(
    checkpoint: checkpoints.Checkpoint, source: str, prefix: str | None
) -> tuple[str, str, dict[str, Tensor], list[str]]:
    """Naming, prefix, tensors under our names, and the names that belong to something else."""
    if checkpoint.container == "caffe2":
        names = {name: dialects.from_caffe2(name) for name in checkpoint.tensors}
        ignored = [name for name, ours in names.items() if ours is None]
        ours = {ours: checkpoint.tensors[name] for name, ours in names.items() if ours is not None}
        if dialects.STEM not in ours:
            raise WeightsError(_unknown(source, checkpoint.tensors))
        return "caffe2", "", ours, ignored
    naming, prefix = _choose_prefix(checkpoint.tensors, source, prefix)
    inside = {k.removeprefix(prefix): v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}
    ignored = [key for key in checkpoint.tensors if not key.startswith(prefix)]
    if dialects.self_supervised(checkpoint.tensors):
        # MoDist's checkpoints hold the motion network as a second pathway
        ignored += [prefix + key for key in inside if ".pathway1_" in key]
        inside = {key: value for key, value in inside.items() if ".pathway1_" not in key}
    if naming == "pytorchvideo":
        names = dialects.from_pytorchvideo(inside)
        inside = {names[key]: value for key, value in inside.items()}
    return naming, prefix, inside, ignored


def _choose_prefix(tensors: dict[str, Tensor], source: str, prefix: str | None) -> tuple[str, str]:
    found = dialects.stem_prefixes(tensors)
    if not found:
        raise WeightsError(_unknown(source, tensors))
    if prefix is not None:
        if prefix not in found:
            raise WeightsError(f"{source} has no network after {prefix!r}: it has {sorted(found)}")
        return found[prefix], prefix
    candidates = dialects.preferred(found)
    if len(candidates) != 1:
        raise WeightsError(f"{source} holds several networks, after {sorted(found)}: say which one with a prefix")
    return found[candidates[0]], candidates[0]


def _unknown(source: str, tensors: dict[str, Tensor]) -> str:
    first = ", ".join(list(tensors)[:3]) or "none"
    return f"{source} has none of the known names (PySlowFast, Caffe2, pytorchvideo): its first keys are {first}"


def _split_head(tensors: dict[str, Tensor], contrastive: bool) -> tuple[dict[str, Tensor], list[str]]:
    """Take the head's tensors out: the classification head, and the names of what is not one."""
    head_keys = [key for key in tensors if key.startswith("head.")]
    head = {key: tensors.pop(key) for key in head_keys}
    names = [HEAD_PREFIX + "weight", HEAD_PREFIX + "bias"]
    weight = head.get(names[0])
    if contrastive or weight is None or names[1] not in head or weight.ndim < 2:
        return {}, head_keys
    kept = {"weight": weight.flatten(1), "bias": head[names[1]]}
    return kept, [key for key in head_keys if key not in names]


def _inflate_stem(tensors: dict[str, Tensor], found: str, target: str, rule: str) -> None:
    if found != "slow_r50" or target != "slow_d_r50":
        raise WeightsError(f"only slow_r50 inflates, into slow_d_r50; these weights are {found}, asked {target}")
    kernel = tensors[dialects.STEM]  # (width, 3, 1, 7, 7)
    frames = architecture(target).stem_kernel
    if rule == "mean":
        tensors[dialects.STEM] = kernel.repeat(1, 1, frames, 1, 1) / frames
    else:
        inflated = kernel.new_zeros(kernel.shape[0], 3, frames, 7, 7)
        inflated[:, :, frames // 2] = kernel[:, :, 0]
        tensors[dialects.STEM] = inflated


def _other_architecture(source: str, found: str, target: str) -> str:
    architecture(target)
    hint = ": inflate them with `center` or `mean`" if (found, target) == ("slow_r50", "slow_d_r50") else ""
    return f"{source} holds weights of {found}, not of {target}{hint}"


def _fill_counters(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> tuple[str, ...]:
    """Fill in batch counters, which not every code base saves; return the keys filled so."""
    counters = sorted(k for k in expected if k.endswith("num_batches_tracked") and k not in tensors)
    tensors.update({key: torch.zeros_like(expected[key]) for key in counters})
    return tuple(counters)
