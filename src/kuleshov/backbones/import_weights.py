"""Other people's weights, turned into ours: PySlowFast, Caffe2, pytorchvideo, Lightning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kuleshov.backbones.backbone_spec import ARCHITECTURES
from kuleshov.core.errors import KuleshovError, WeightsError, nearest


@dataclass(frozen=True)
class ImportReport:
    """What an import found and did."""

    container: str  # the file's layout; see `foreign_checkpoints.Checkpoint`
    naming: str  # whose names its keys have: `pyslowfast`, `pytorchvideo` or `caffe2`
    prefix: str  # what stood before the network's keys
    architecture: str  # the network that was written
    width: int  # channels of its stem
    classes: int  # rows of the classification head that was kept; 0 without one
    inflated: str  # how conv1 was inflated; empty if it was not
    matched: tuple[str, ...]  # our keys that the file filled
    filled: tuple[str, ...]  # batch counters that it lacks and that were set to 0
    ignored: tuple[str, ...]  # its keys of something else (solver, queue, momentum copy, projection head)

    def __str__(self) -> str:
        """Counts, and up to five names of each kind but the matched."""
        after = f" after {self.prefix!r}" if self.prefix else ""
        head = f"a head of {self.classes} classes" if self.classes else "no classification head"
        inflated = f", conv1 inflated ({self.inflated})" if self.inflated else ""
        lines = [
            f"{self.container} checkpoint, {self.naming} names{after}",
            f"{self.architecture} of width {self.width}, {head}{inflated}",
            f"matched {len(self.matched)} keys, none missing or unexpected",
        ]
        for name in ("filled", "ignored"):
            keys = getattr(self, name)
            shown = ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
            lines.append(f"{name} {len(keys)} keys" + (f": {shown}" if keys else ""))
        return "\n".join(lines)


def import_weights(
    file: Path,
    output: Path,
    architecture: str | None = None,
    inflate: Literal["center", "mean"] | None = None,
    prefix: str | None = None,
    trained: list[str] | None = None,
) -> ImportReport:
    """Convert PySlowFast, Caffe2, pytorchvideo or Lightning weights into .safetensors with a manifest.

    Nothing in the file is executed. What was matched and ignored is reported; a missing or unexpected key is refused.

    Args:
        file: .pyth, .pkl, .pth or .ckpt file.
        output: file to write (.safetensors).
        architecture: slow_d_r50, slow_r50, i3d_r50 or i3d_nl_r50; found from the shapes by default.
        inflate: make Slow-D of Slow weights: how conv1 grows from one frame to five.
        prefix: what stands before the keys, where the file holds several networks.
        trained: METHOD-DATA: what the weights have been through, in order, such as supervised-k400; tables compare
            with the paper by it.

    Raises:
        KuleshovError: the file cannot be read, or does not fit a known network exactly.
    """
    from kuleshov.backbones import foreign_checkpoints as foreign
    from kuleshov.backbones.protocol import build_backbone, save_backbone
    from kuleshov.core.files import sha256_file
    from kuleshov.core.weights import load_into

    if inflate not in (None, "center", "mean"):
        raise KuleshovError(f"inflate is center or mean, not {inflate!r}")
    if architecture is not None and architecture not in ARCHITECTURES:
        raise KuleshovError(f"no backbone is called {architecture!r}{nearest(architecture, ARCHITECTURES)}")
    checkpoint = foreign.read_checkpoint(file)
    naming, prefix, tensors, ignored = foreign.translate(checkpoint, str(file), prefix)
    head, dropped = foreign.split_head(tensors, foreign.self_supervised(checkpoint.tensors))
    found = foreign.infer_architecture(tensors, str(file))
    target = architecture or ("slow_d_r50" if inflate else found)
    if inflate:
        foreign.inflate_stem(tensors, found, target, inflate)
    elif target != found:
        hint = ": inflate them with `center` or `mean`" if (found, target) == ("slow_r50", "slow_d_r50") else ""
        raise WeightsError(f"{file} holds weights of {found}, not of {target}{hint}")
    width = int(tensors[foreign.STEM].shape[0])
    network = build_backbone({"class_path": target, "init_args": {"width": width}})
    # batch counters, which not every code base saves
    expected = network.state_dict()
    filled = tuple(sorted(k for k in expected if k.endswith("num_batches_tracked") and k not in tensors))
    tensors.update({key: expected[key].new_zeros(()) for key in filled})
    load_into(network, tensors, str(file))
    facts: dict[str, Any] = {"inflated": {"from": found, "conv1": inflate}} if inflate else {}
    facts["source"] = {"file": Path(file).name, "sha256": sha256_file(file), "container": checkpoint.container}
    clip = network.clip if inflate else foreign.clip_format(checkpoint.config, network.clip)
    save_backbone(output, network, clip, head=head or None, method="imported", trained=trained or [], **facts)
    classes = head["weight"].shape[0] if head else 0
    matched, ignored = sorted(tensors.keys() - set(filled)), sorted({*ignored, *dropped, *checkpoint.skipped})
    found = (checkpoint.container, naming, prefix, target, width, classes, inflate or "")
    return ImportReport(*found, tuple(matched), filled, tuple(ignored))
