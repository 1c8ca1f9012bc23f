"""VidSitu's verbs: what happens in each of a segment's five events, from event features."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kuleshov.core.errors import KuleshovError, MissingDataError, require_positive
from kuleshov.core.files import read_json
from kuleshov.datasets.vidsitu_predictions import RANKS
from kuleshov.metrics.verb_metrics import ANNOTATORS
from kuleshov.tasks.event_task import EventTask
from kuleshov.tasks.pictures import confusion_figure
from kuleshov.tasks.segment_data import SegmentData, SegmentTask, VidSituData

UNKNOWN = "<unk>"  # fairseq's symbol in the official vocabulary


class VerbHead(nn.Sequential):
    """Linear D (`width`) -> D/2, ReLU, Linear -> V (`verbs`): (..., D) -> logits (..., V) (Sadhu et al., CVPR 2021)."""

    def __init__(self, width: int, verbs: int) -> None:
        super().__init__(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, verbs))


def verb_loss(logits: Tensor, verbs: Tensor) -> Tensor:
    """Mean cross-entropy of logits (B, N, V) over the events whose verb, (B, N) long, is in the vocabulary, not -1."""
    known = (verbs >= 0).sum().clamp(min=1)
    return F.cross_entropy(logits.flatten(0, -2), verbs.flatten(), ignore_index=-1, reduction="sum") / known


class VerbNaming(SegmentTask):
    """What naming verbs from features and from clips has in common; `forward` gives logits (B, 5, V)."""

    task = target = "verbs"
    inputs = "events"

    @property
    def verbs(self) -> list[str]:
        """The vocabulary."""
        return self.facts["verbs"]

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        return verb_loss(self(batch[self.inputs]), batch["verbs"])

    def answer(self, batch: dict[str, Tensor]) -> Tensor:
        """The numbers of each event's best verbs, best first: (B, 5, 5) long."""
        return self(batch[self.inputs]).topk(min(RANKS, len(self.verbs)), dim=-1).indices

    def decode(self, sample_ids: list[str], answers: Tensor) -> dict[str, Any]:
        """Five lists of ranked verb ids for each segment."""
        segments = zip(sample_ids, answers.tolist(), strict=True)
        return {name: [[self.verbs[verb] for verb in event] for event in events] for name, events in segments}

    def extra_scores(self, predicted: Mapping[str, Any]) -> dict[str, tuple[float, int]]:
        """Acc@1 of the events that the camera shows and of those that it does not, where that is known."""
        data = self.trainer.datamodule
        return split_accuracy(predicted, data.annotations.verbs(data.split), data.offscreen)

    def show(self, predicted: dict[str, Any], board: Any) -> None:
        """The verb that most annotators name against the one named first."""
        annotated = self.trainer.datamodule.annotations.verbs(self.trainer.datamodule.split)
        events = [pair for name, many in predicted.items() for pair in zip(annotated[name], many, strict=True)]
        pairs = [(Counter(given).most_common(1)[0][0], ranked[0]) for given, ranked in events]
        board.add_figure("test/confusion", confusion_figure(pairs, "verbs"), self.global_step)


class VerbTask(VerbNaming, EventTask):
    """Names the verb of each event from its feature, as it is or contextualized by TxE."""

    def build(self, width: int) -> None:
        self.head = VerbHead(width, len(self.verbs))

    def forward(self, events: Tensor) -> Tensor:
        """Event features (B, N, D) -> logits (B, N, V)."""
        return self.head(self.contextualizer(events))

    @torch.inference_mode()
    def name_events(self, events: Tensor, count: int = 5, step: int = 1) -> list[list[tuple[str, float]]]:
        """The `count` likeliest verbs of every event of a movie, with their probabilities, best first.

        `events` (L, D) are on the store's grid; `step` points of it lie between two neighbors in TxE's window.

        Raises:
            KuleshovError: something else than a movie's events, or no number of verbs.
        """
        if not isinstance(events, Tensor) or events.ndim != 2:
            shape = tuple(events.shape) if isinstance(events, Tensor) else type(events).__name__
            raise KuleshovError(f"a movie's event features (L, D) are expected, got {shape}")
        require_positive(count=count, step=step)
        probabilities = self.head(self.contextualizer.contextualize_long(events, step)).softmax(-1)  # (L, V)
        best = probabilities.topk(min(count, len(self.verbs)), dim=-1)
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [[(self.verbs[v], p) for v, p in zip(verbs, values, strict=True)] for verbs, values in rows]


class VerbTargets(VidSituData):
    """The first annotator's verb of every training event: `verbs` (B, 5) long, -1 where it is not learned.

    Args:
        unknown_verbs: what verbs outside the vocabulary are: `ignore` learns nothing of them, `class` makes them the
            official code's class `<unk>`, which is a miss wherever it is predicted.
        offscreen_file: JSON, segment id -> five truth values, which events happen off screen; of the generated
            world by default, where it lies beside the annotations.
    """

    def __init__(
        self, *, unknown_verbs: Literal["ignore", "class"] = "ignore", offscreen_file: str | None = None, **shared
    ) -> None:
        super().__init__(**shared)
        self.unknown_verbs, self.offscreen_file = unknown_verbs, offscreen_file

    def prepare(self) -> None:
        self.verbs = [*self.annotations.vocabulary(), *([UNKNOWN] if self.unknown_verbs == "class" else [])]
        self.offscreen = read_offscreen(self.root, self.offscreen_file)

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "verbs": self.verbs}

    def targets(self, ids: list[str], split: str) -> dict[str, Tensor]:
        number = {verb: i for i, verb in enumerate(self.verbs)}
        annotated = self.annotated(self.annotations.verbs, ids, split)
        other = number.get(UNKNOWN, -1)
        return {"verbs": torch.tensor([[number.get(event[0], other) for event in annotated[name]] for name in ids])}


class VerbData(VerbTargets, SegmentData):
    """VidSitu's event features with the verb of every event."""


def read_offscreen(root: Path, file: str | None) -> dict[str, list[bool]]:
    """Which events happen off screen, {} where nothing says so.

    Raises:
        MissingDataError: the file was named and is not there.
    """
    path = Path(file) if file is not None else root.parent / "truth" / "vidsitu_offscreen.json"
    if not path.is_file():
        if file is not None:
            raise MissingDataError("off-screen flags", path.absolute(), "leave offscreen_file out")
        return {}
    return read_json(path)


def split_accuracy(
    predicted: Mapping[str, Sequence[Sequence[str]]],
    annotated: Mapping[str, Sequence[Sequence[str]]],
    offscreen: Mapping[str, Sequence[bool]],
) -> dict[str, tuple[float, int]]:
    """Acc@1 in per cent of the events off screen and of those on screen, each with the number of its segments.

    Args:
        predicted: segment -> five events of ranked verbs.
        annotated: segment -> five events of one verb per annotator.
        offscreen: segment -> five truth values; segments that are not in it are left out.
    """
    hits = [
        (bool(hidden), name, ranked[0] in given[:ANNOTATORS])
        for name, events in predicted.items()
        for ranked, given, hidden in zip(events, annotated[name], offscreen.get(name, ()), strict=False)
    ]
    figures = {}
    for metric, wanted in (("acc1_offscreen", True), ("acc1_onscreen", False)):
        found = [(name, hit) for hidden, name, hit in hits if hidden == wanted]
        if found:
            figures[metric] = (100.0 * sum(hit for _, hit in found) / len(found), len({name for name, _ in found}))
    return figures
