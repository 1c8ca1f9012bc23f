"""What a backbone is, and how one is built, saved and loaded.

A backbone is any `nn.Module` with

- `feature_width: int`, D;
- `clip: ClipFormat`, the clips that it reads;
- `forward`: float clips (B, 3, T, H, W), normalized as `clip` says, to features (B, D);

and, where it can, `forward_map` to (B, D, T', H', W') and `recompute(stages)`, which trades time for memory. A class
whose arguments do not rebuild it (they name a download, say) sets `init_args` to ones that do.

As a file it is tensors in `.safetensors`, and class path, arguments and clip format in `.json`.
"""

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kuleshov.backbones.backbone_spec import NAMED, BackboneSpec, read_spec
from kuleshov.core.errors import KuleshovError, UsageError, WeightsError, one_line
from kuleshov.core.plugins import import_named
from kuleshov.core.weights import load_into, load_weights, save_weights
from kuleshov.video.clip_format import ClipFormat

HEAD_PREFIX = "head.projection."
MANIFEST_FIELDS = {"class_path": str, "init_args": dict, "clip": dict}


def build_backbone(spec: BackboneSpec, by_user: bool = True, named_in: str = "") -> nn.Module:
    """A backbone with new weights; see `read_spec` for what names one.

    Args:
        spec: name, or class path and arguments.
        by_user: whether the user named it; otherwise only `kuleshov.*` and trusted packages are imported.
        named_in: the file that names it, for messages.

    Raises:
        KuleshovError: no such class, arguments that it does not take, or no backbone's attributes.
    """
    path, arguments = read_spec(spec)
    name = f"{named_in}: {path}" if named_in else path
    make = import_named(path, named_in, by_user)
    # of what a file names, nothing but networks is called: a function may do anything with the arguments beside it
    if not callable(make) or not (by_user or path in NAMED.values() or _is_network(make)):
        raise KuleshovError(f"{name} is no backbone: name a class of networks")
    try:
        inspect.signature(make).bind(**arguments)
    except TypeError as error:
        raise KuleshovError(
            f"{name}: {error}; its init_args are {', '.join(inspect.signature(make).parameters)}"
        ) from error
    try:
        network = make(**arguments)
    except (TypeError, ValueError, ArithmeticError, LookupError, MemoryError, RuntimeError) as error:
        raise KuleshovError(f"{name} with init_args {arguments}: {one_line(str(error))}") from error
    if not isinstance(network, nn.Module):
        raise KuleshovError(f"{name} gives a {type(network).__name__}: a backbone is a torch.nn.Module")
    for attribute, kind in (("feature_width", int), ("clip", ClipFormat)):
        if not isinstance(getattr(network, attribute, None), kind):
            raise KuleshovError(f"{name} is no backbone: it needs an attribute {attribute} of type {kind.__name__}")
    network.spec = {"class_path": path, "init_args": getattr(network, "init_args", arguments)}
    return network


def _is_network(make: Any) -> bool:
    return isinstance(make, type) and issubclass(make, nn.Module)


def backbone_manifest(network: nn.Module, clip: ClipFormat | None = None, **facts: Any) -> dict[str, Any]:
    """The manifest of a backbone from `build_backbone`: class path, arguments, width, clips, and `facts`."""
    clip = network.clip if clip is None else clip
    width = network.feature_width
    return {"kind": "backbone", **network.spec, "feature_width": width, "clip": clip.to_dict(), **facts}


def save_backbone(
    path: str | Path,
    network: nn.Module,
    clip: ClipFormat | None = None,
    head: Mapping[str, Tensor] | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Write a backbone, and a classification head {weight (classes, D), bias (classes,)}; returns the manifest."""
    tensors = dict(network.state_dict())
    if head is not None:
        tensors |= {HEAD_PREFIX + name: tensor for name, tensor in head.items()}
        facts["classes"] = int(head["weight"].shape[0])
    return save_weights(path, tensors, backbone_manifest(network, clip, **facts))


def load_backbone(path: str | Path) -> nn.Module:
    """The backbone of a `.safetensors` file, in eval mode on the CPU, with `.manifest` and `.clip` as recorded.

    Raises:
        MissingDataError: no such file.
        WeightsError: not a backbone's weights, or not those of the network that the manifest names.
        KuleshovError: its class is another package's and `--trust` does not name it.
    """
    return _load(path)[0]


def load_classifier(path: str | Path) -> nn.Sequential:
    """The backbone with its classification head: clips (B, 3, T, H, W) to logits (B, classes), in eval mode.

    Raises:
        WeightsError: as `load_backbone`, or the weights have no head.
    """
    network, head = _load(path)
    if "weight" not in head or not head["weight"].ndim:
        raise WeightsError(f"{path} has no classification head: these are the weights of a backbone alone")
    linear = nn.Linear(network.feature_width, head["weight"].shape[0])
    load_into(linear, head, f"{path}, its head,")
    return nn.Sequential(network, linear).eval()


def load_backbone_weights(network: nn.Module, path: str | Path) -> dict[str, Any]:
    """Load a file's weights into a backbone that is there already, and return the file's manifest.

    Raises:
        WeightsError: they are another network's.
    """
    body, _, manifest = _read(path)
    load_into(network, body, f"{path} ({describe_backbone(manifest)})")
    return manifest


def resolve_backbone(weights: str | Path | None = None, backbone: BackboneSpec | None = None) -> nn.Module:
    """The backbone that `--weights` and `--backbone` name, in eval mode, with `.clip` and `.manifest`.

    Args:
        weights: a `.safetensors` file; its manifest names the class unless `backbone` does.
        backbone: see `read_spec`; by itself the weights are those that its class starts with.

    Raises:
        UsageError: neither is given.
    """
    if backbone is None:
        if weights is None:
            raise UsageError("no backbone is named: add --weights W.safetensors or --backbone NAME")
        return load_backbone(weights)
    network = build_backbone(backbone).eval()
    if weights is not None:
        manifest = load_backbone_weights(network, weights)
        network.clip, network.manifest = ClipFormat.from_dict(manifest["clip"]), {**manifest, **network.spec}
    else:
        network.manifest = backbone_manifest(network, sha256=_sha256_tensors(network))
    return network


def set_recompute(network: nn.Module, stages: int) -> None:
    """Let a backbone compute activations of its first stages again in the backward pass instead of keeping them.

    Raises:
        KuleshovError: it cannot.
    """
    if hasattr(network, "recompute"):
        network.recompute(stages)
    elif stages:
        raise KuleshovError(f"{type(network).__name__} has no `recompute`: set recompute_stages to 0")


@torch.no_grad()
def check_clips(network: nn.Module, clip: ClipFormat) -> None:
    """Run one blank clip through a backbone: whether it takes such clips, and gives features of its width.

    Raises:
        KuleshovError: it does not; clip and reason are named.
    """
    device = next(iter(network.parameters()), torch.empty(0)).device
    mode, name = network.training, type(network).__name__
    try:
        blank = torch.zeros(1, 3, clip.num_frames, clip.crop_size, clip.crop_size, device=device)
        with torch.random.fork_rng(devices=[]):
            shape = tuple(network.eval().forward(blank).shape)
    except (KuleshovError, RuntimeError, ValueError, TypeError) as error:
        size = f"{clip.num_frames} frames of {clip.crop_size} pixels"
        raise KuleshovError(f"{name} does not take clips of {size}: {one_line(str(error))}") from error
    finally:
        network.train(mode)
    if shape != (1, network.feature_width):
        raise KuleshovError(
            f"{name} gives features {shape} for one clip, (1, {network.feature_width}) is expected of its feature_width"
        )


def describe_backbone(manifest: Mapping[str, Any]) -> str:
    """A manifest's network in short: `slow_d_r50, width 8, zero_init_final_gamma True`."""
    name = str(manifest.get("class_path", "unnamed")).rpartition(".")[2]
    plain = {k: v for k, v in (manifest.get("init_args") or {}).items() if not isinstance(v, dict | list)}
    return ", ".join([name, *(f"{key} {value}" for key, value in plain.items())])


def _load(path: str | Path) -> tuple[nn.Module, dict[str, Tensor]]:
    body, head, manifest = _read(path)
    spec = {name: manifest[name] for name in ("class_path", "init_args")}
    network = build_backbone(spec, by_user=False, named_in=str(path))
    load_into(network, body, str(path))
    network.manifest, network.clip = manifest, ClipFormat.from_dict(manifest["clip"])
    network.register_forward_pre_hook(_refuse_other_input)
    return network.eval(), head


def _refuse_other_input(network: nn.Module, inputs: tuple[Any, ...]) -> None:
    clips, clip = inputs[0], network.clip
    dtype = next((weight.dtype for weight in network.parameters()), torch.float32)
    right = isinstance(clips, Tensor) and clips.ndim == 5 and clips.shape[1] == 3
    if right and (clips.dtype == dtype or torch.is_autocast_enabled(clips.device.type)):
        return
    found = f"{clips.dtype} {tuple(clips.shape)}" if isinstance(clips, Tensor) else type(clips).__name__
    size = f"(B, 3, {clip.num_frames}, {clip.crop_size}, {clip.crop_size})"
    raise KuleshovError(
        f"{type(network).__name__} takes clips {dtype} {size}, got {found}: "
        "`network.clip.normalize` makes them of uint8 (B, 3, T, H, W)"
    )


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """The backbone's tensors, its classification head's, and the manifest."""
    tensors, manifest = load_weights(path)
    kind = manifest.get("kind")
    if kind != "backbone":
        raise WeightsError(f"{path} holds no backbone (its manifest says {kind!r}): name other weights")
    lacking = [name for name, kind in MANIFEST_FIELDS.items() if not isinstance(manifest.get(name), kind)]
    if lacking:
        raise WeightsError(f"{path}: the manifest lacks {', '.join(lacking)} of the right type: export it again")
    try:
        ClipFormat.from_dict(manifest["clip"])
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path}: the manifest's clip is wrong ({error}): export it again") from error
    names = [name for name in tensors if manifest.get("classes") and name.startswith(HEAD_PREFIX)]
    head = {name.removeprefix(HEAD_PREFIX): tensors.pop(name) for name in names}
    return tensors, head, manifest


def _sha256_tensors(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
