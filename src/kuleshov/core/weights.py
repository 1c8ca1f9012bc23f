"""Weights as they pass from one stage to the next: NAME.safetensors with NAME.json beside it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from kuleshov.core.errors import MissingDataError, WeightsError, one_line
from kuleshov.core.files import code_version, read_json, sha256_file, write_json, write_through

# what reading a damaged file raises; KeyError where torch has no such type of numbers
SAFETENSORS_ERRORS = (SafetensorError, OSError, ValueError, KeyError, RuntimeError, AttributeError)


def manifest_path(path: str | Path) -> Path:
    """The manifest's path for weights at `path`."""
    return Path(path).with_suffix(".json")


def save_weights(path: str | Path, tensors: Mapping[str, torch.Tensor], manifest: Mapping[str, Any]) -> dict:
    """Write tensors and their manifest, each by an atomic rename, the manifest last.

    Args:
        path: a name that ends in `.safetensors`.
        tensors: what to write; made contiguous and moved to the CPU.
        manifest: architecture, its arguments, method, data, epochs; sha256 and code version are added.

    Returns:
        The manifest as written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"weights are written as .safetensors, not {path}: change the name's ending")
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_through(path, lambda temporary: save_file(plain, temporary))
    whole = {**manifest, "sha256": sha256_file(path), "code_version": code_version()}
    write_json(manifest_path(path), whole)
    return whole


def load_weights(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read tensors (on the CPU) and their manifest, and check that they belong together.

    Raises:
        MissingDataError: a file is not there.
        FormatError: the manifest is no JSON object.
        WeightsError: the file is not safetensors, or not the one that its manifest describes.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(
            f"{path} is not a .safetensors file: convert other people's weights with "
            "`kuleshov import-weights FILE --output W.safetensors`"
        )
    if not os.path.isfile(path):
        raise MissingDataError("weights", path.absolute(), "name a .safetensors file that a stage wrote")
    manifest = read_json(manifest_path(path), "the weights' manifest", "keep the .json beside its weights", dict)
    if manifest.get("sha256") != sha256_file(path):
        raise WeightsError(f"{path} is not the file that its {manifest_path(path).name} describes: remake it")
    try:
        return load_file(path), manifest
    except SAFETENSORS_ERRORS as error:
        raise WeightsError(f"{path} is not a safetensors file ({error}): remake it") from error


def load_into(module: nn.Module, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Load tensors into a module, with every key present, none left over, and every shape the same.

    Raises:
        WeightsError: they differ; counts, and the first keys of each kind, are named.
    """
    expected = module.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys())
    shapes = [key for key in expected if key in tensors and expected[key].shape != tensors[key].shape]
    other = [f"{key} is {tuple(tensors[key].shape)} for {tuple(expected[key].shape)}" for key in shapes]
    differing = (("missing", missing), ("unexpected", unexpected), ("of another shape", other))
    said = [f"{len(keys)} {kind} ({first_names(keys, 3)})" for kind, keys in differing if keys]
    if said:
        matched = len(expected.keys() & tensors.keys()) - len(shapes)
        name = type(module).__name__
        raise WeightsError(f"{source} does not fit {name}: {matched} keys matched, {', '.join(said)}")
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:  # sparse tensors, and ones without values
        raise WeightsError(f"{source} does not fit {type(module).__name__}: {one_line(str(error))}") from error


def first_names(names: Sequence[str], shown: int) -> str:
    """The first `shown` of some names as text, with dots where there are more."""
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
