"""Other people's checkpoint files: read without running anything that is in them, and named as our networks are."""

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from kuleshov.backbones import key_maps
from kuleshov.core.errors import MissingDataError, WeightsError
from kuleshov.core.unpickle import restricted_load
from kuleshov.video.clip_format import ClipFormat


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
    if not path.is_file():
        raise MissingDataError("checkpoint", path.absolute(), "name the file to import")
    if path.suffix == ".pkl":
        return _caffe2(path)
    try:
        objects = _foreign_objects(path)
        with torch.serialization.safe_globals([(UnreadObject, name) for name in objects]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()
        raise WeightsError(
            f"{path} cannot be read as tensors and plain values alone, and nothing else is unpickled: "
            f"{reason[-1].strip() if reason else type(error).__name__}"
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


def _foreign_objects(path: Path) -> tuple[str, ...]:
    """Classes and functions, beyond tensors and plain values, that a checkpoint names; none in torch's old format."""
    named = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else ()
    return tuple(sorted(named))


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
    skipped = tuple(str(name) for name, value in state.items() if not isinstance(value, Tensor))
    return Checkpoint(container, tensors, (*skipped, *objects), config if isinstance(config, str) else "")


def _entry_of_weights(path: Path, content: dict) -> str:
    """The entry that holds the weights; empty where the dictionary itself holds them."""
    known = [name for name in ("model_state", "state_dict") if name in content]
    if known or any(isinstance(value, Tensor) for value in content.values()):
        return known[0] if known else ""
    nested = [str(name) for name, value in content.items() if _holds_tensors(value)]
    nested = key_maps.preferred(nested) or nested
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
        data = yaml.safe_load(config)["DATA"] if config else {}
    except (yaml.YAMLError, KeyError, TypeError):
        data = {}
    data = data if isinstance(data, dict) else {}
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
        names = {name: key_maps.from_caffe2(name) for name in checkpoint.tensors}
        ignored = [name for name, ours in names.items() if ours is None]
        ours = {ours: checkpoint.tensors[name] for name, ours in names.items() if ours is not None}
        if key_maps.STEM not in ours:
            raise WeightsError(_unknown(source, checkpoint.tensors))
        return "caffe2", "", ours, ignored
    naming, prefix = _choose_prefix(checkpoint.tensors, source, prefix)
    inside = {k.removeprefix(prefix): v for k, v in checkpoint.tensors.items() if k.startswith(prefix)}
    ignored = [key for key in checkpoint.tensors if not key.startswith(prefix)]
    if key_maps.self_supervised(checkpoint.tensors):
        # MoDist's checkpoints hold the motion network as a second pathway
        ignored += [prefix + key for key in inside if ".pathway1_" in key]
        inside = {key: value for key, value in inside.items() if ".pathway1_" not in key}
    if naming == "pytorchvideo":
        names = key_maps.from_pytorchvideo(inside)
        inside = {names[key]: value for key, value in inside.items()}
    return naming, prefix, inside, ignored


def _choose_prefix(tensors: dict[str, Tensor], source: str, prefix: str | None) -> tuple[str, str]:
    found = key_maps.stem_prefixes(tensors)
    if not found:
        raise WeightsError(_unknown(source, tensors))
    if prefix is not None:
        if prefix not in found:
            raise WeightsError(f"{source} has no network after {prefix!r}: it has {sorted(found)}")
        return found[prefix], prefix
    candidates = key_maps.preferred(found)
    if len(candidates) != 1:
        raise WeightsError(f"{source} holds several networks, after {sorted(found)}: choose one with --prefix")
    return found[candidates[0]], candidates[0]


def _unknown(source: str, tensors: dict[str, Tensor]) -> str:
    first = ", ".join(list(tensors)[:3]) or "none"
    return f"{source} has none of the known names (PySlowFast, Caffe2, pytorchvideo): its first keys are {first}"
