"""The `probe` command."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kuleshov.backbones.backbone_spec import BackboneSpec
from kuleshov.core.devices import Accelerator, device_of
from kuleshov.core.errors import KuleshovError, require_positive, require_workers
from kuleshov.core.files import read_text
from kuleshov.core.results import Result, append_results


@dataclass(frozen=True)
class ProbeScores:
    """Accuracies in per cent, those of the trivial row included."""

    results: list[Result]

    def __str__(self) -> str:
        """A line each."""
        return "\n".join(f"{one.row:<20}{one.task:<28}{one.value:6.2f}  (n {one.n})" for one in self.results)

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain values, for `--json`."""
        return [asdict(result) for result in self.results]


def probe_command(
    bank: Path,
    queries: Path,
    weights: Path | None = None,
    backbone: BackboneSpec | None = None,
    untrained: Literal["default", "zero-gamma"] | None = None,
    seed: int = 0,
    group: list[str] | None = None,
    classes: Path | None = None,
    limit: int | None = None,
    neighbors: int = 20,
    batch_size: int = 32,
    workers: int = 0,
    accelerator: Accelerator = "auto",
    output: Path | None = None,
    row: str = "",
) -> ProbeScores:
    """Score a frozen backbone on labeled videos: k-NN and a linear probe; nothing of the network is trained.

    Beside all videos, groups of classes are scored by themselves, and clips whose middle frame is held still: what
    is missing there is what the network sees in the motion. With --untrained the same network starts at random.

    Args:
        bank: labeled list that the probes learn from.
        queries: labeled list that they are scored on.
        weights: backbone (.safetensors).
        backbone: name, {class_path, init_args} or YAML file of a backbone.
        untrained: score its class at random instead: usual start, or residual blocks that start as shortcuts.
        seed: of the untrained weights.
        group: classes to score by themselves, NAME=LABEL,.. each.
        classes: class names, one a line, whose first words --group may use.
        limit: at most so many videos of each list.
        neighbors: that vote in the k-NN probe.
        batch_size: clips in a batch.
        workers: loader processes.
        accelerator: auto, cpu or cuda.
        output: results file (.jsonl) to append to.
        row: row of the results; the weights' method by default.
    """
    import torch

    from kuleshov.backbones.protocol import resolve_backbone
    from kuleshov.core.progress import progress_bar
    from kuleshov.pretraining import probes
    from kuleshov.pretraining.clip_data import labeled_videos

    require_positive(neighbors=neighbors, batch_size=batch_size)
    require_workers(workers)
    groups = class_groups(group or (), classes)
    network = resolve_backbone(weights, backbone)
    row = row or (f"random {untrained}" if untrained else network.manifest.get("method", ""))
    if untrained:
        network = probes.untrained(network, untrained, seed)
    target = device_of(accelerator)
    network = network.to(target, memory_format=torch.channels_last_3d)
    loaders = [
        probes.center_clips(labeled_videos(path, limit), network.clip, batch_size, workers) for path in (bank, queries)
    ]
    if untrained:
        probes.take_statistics(network, loaders[0], target)
    with progress_bar("batches", sum(map(len, loaders))) as advance:
        known, asked = (probes.labeled_features(network, loader, target, advance) for loader in loaders)
    results = probes.probe_scores(known, asked, groups, neighbors)
    results = [result if result.row else replace(result, row=row, seed=seed) for result in results]
    if output is not None:
        append_results(output, results)
    return ProbeScores(results)


def class_groups(words: Sequence[str], names_file: Path | None = None) -> dict[str, list[int]]:
    """Read `NAME=LABEL,LABEL,..` words, where a label is a class's number or the first word of its name.

    Args:
        words: a group each.
        names_file: class names, one a line, in the order of their numbers.

    Raises:
        KuleshovError: a word without a name or labels, or a label that no class has.
        MissingDataError: no such file.
    """
    numbers: dict[str, int] = {}
    if names_file is not None:
        lines = read_text(names_file, "the class names", "check --classes").splitlines()
        numbers = {line.split()[0]: number for number, line in enumerate(lines) if line.strip()}
    groups = {}
    for word in words:
        name, _, labels = word.partition("=")
        if not name or not labels:
            raise KuleshovError(f"a group of classes is NAME=LABEL,LABEL,.. not {word!r}")
        groups[name] = [_class_number(label, numbers, name) for label in labels.split(",")]
    return groups


def _class_number(label: str, numbers: dict[str, int], group: str) -> int:
    if label in numbers:
        return numbers[label]
    if label.isdigit():
        return int(label)
    known = f"known: {', '.join(numbers)}" if numbers else "name the classes' file with --classes"
    raise KuleshovError(f"group {group}: no class {label!r} ({known})")
