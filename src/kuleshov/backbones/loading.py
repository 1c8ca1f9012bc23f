"""Backbones as files: tensors in `.safetensors`, everything needed to rebuild the network in `.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kuleshov.backbones.architectures import build
from kuleshov.backbones.resnet3d import ResNet3d
from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.weights import load_into, load_weights, save_weights
from kuleshov.video.clip_format import ClipFormat

HEAD_PREFIX = "head.projection."


def manifest(network: ResNet3d, clip: ClipFormat, **facts: Any) -> dict[str, Any]:
    """A backbone's manifest: architecture, its arguments, the clips it expects, and `facts`."""
    return {
        "kind": "backbone",
        "architecture": network.architecture,
        "arguments": {"width": network.width},
        "feature_width": network.feature_width,
        "clip": clip.to_dict(),
        **facts,
    }


def save(
    path: str | Path, network: ResNet3d, clip: ClipFormat, head: Mapping[str, Tensor] | None = None, **facts: Any
) -> dict[str, Any]:
    """Write a backbone, by way of `core.weights.save_weights`, and return its manifest.

    Args:
        path: ends in `.safetensors`.
        network: made by `build`.
        clip: the clips that it was trained on.
        head: `weight` (classes, D) and `bias` (classes,) of a classification head to keep.
        facts: method, data, epochs and whatever else the manifest should say.
    """
    tensors = dict(network.state_dict())
    if head is not None:
        tensors |= {HEAD_PREFIX + name: tensor for name, tensor in head.items()}
        facts["classes"] = int(head["weight"].shape[0])
    return save_weights(path, tensors, manifest(network, clip, **facts))


def load(path: str | Path) -> ResNet3d:
    """A backbone with the weights of a `.safetensors` file, in eval mode on the CPU.

    The network carries `.manifest` (the file's JSON) and `.clip` (its `ClipFormat`).

    Raises:
        MissingDataError: no such file.
        WeightsError: not a backbone's weights, or not those of the network that the manifest names.
    """
    network, _ = _load(path)
    return network


def load_classifier(path: str | Path) -> nn.Sequential:
    """The backbone with its classification head: clips (B, 3, T, H, W) to logits (B, classes), in eval mode.

    Raises:
        WeightsError: as `load`, or the weights have no head.
    """
    network, head = _load(path)
    if not head:
        raise WeightsError(f"{path} has no classification head: these are the weights of a backbone alone")
    linear = nn.Linear(network.feature_width, head["weight"].shape[0])
    linear.load_state_dict(head)
    return nn.Sequential(network, linear).eval()


def _load(path: str | Path) -> tuple[ResNet3d, dict[str, Tensor]]:
    tensors, facts = load_weights(path)
    if not isinstance(facts, dict) or facts.get("kind") != "backbone":
        raise WeightsError(f"{path} holds no backbone (its manifest says {_kind(facts)}): name other weights")
    head = {k.removeprefix(HEAD_PREFIX): v for k, v in tensors.items() if k.startswith(HEAD_PREFIX)}
    body = {k: v for k, v in tensors.items() if not k.startswith(HEAD_PREFIX)}
    try:
        network = build(facts["architecture"], **facts["arguments"])
        clip = ClipFormat.from_dict(facts["clip"])
    except KeyError as error:
        raise WeightsError(f"{path}: the manifest lacks {error}: export the weights again") from error
    except (KuleshovError, TypeError) as error:
        raise WeightsError(f"{path}: {error}") from error
    load_into(network, body, str(path))
    network.manifest, network.clip = facts, clip
    return network.eval(), head


def _kind(facts: Any) -> str:
    return repr(facts.get("kind")) if isinstance(facts, dict) else "nothing readable"
