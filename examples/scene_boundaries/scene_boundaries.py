"""A task of one's own on event features: does a new scene begin between two events?

One module, one DataModule; the YAML and the stage file lie beside them. Nothing of it is in the package.
"""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.functional.classification import binary_average_precision

from kuleshov.core.random import numpy_generator
from kuleshov.core.results import Report, global_seed
from kuleshov.features.feature_store import EventStore, grid_step
from kuleshov.synthetic.truth import read_stories
from kuleshov.tasks.event_task import EventTask, Stage

EVENT_SECONDS = 2.0
SPLITS = {"train": "train", "val": "val", "test": "test", "predict": "test"}


def boundary_loss(logits: Tensor, labels: Tensor, weight: float) -> Tensor:
    """Mean binary cross-entropy, boundaries weighted: logits (B, N - 1) and labels (B, N - 1) in {0, 1}."""
    return F.binary_cross_entropy_with_logits(logits, labels.float(), pos_weight=logits.new_tensor(weight))


class SceneBoundaryTask(EventTask):
    """Says for each pair of neighboring events of a window how likely a new scene begins between them.

    Args:
        head_width: width of the head's hidden layer.
    """

    task = "scene_boundaries"

    def __init__(self, *, head_width: int = 128, **shared) -> None:
        super().__init__(**shared)

    def build(self, width: int | None) -> None:
        """Make the head: two neighbors' features and their distance, to one number."""
        hidden = self.hparams.head_width
        self.head = nn.Sequential(nn.Linear(3 * width, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, events: Tensor) -> Tensor:
        """Event features (B, N, D) -> logits (B, N - 1)."""
        seen = self.contextualizer(events)
        before, after = seen[:, :-1], seen[:, 1:]
        return self.head(torch.cat([before, after, (after - before).abs()], dim=-1)).squeeze(-1)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Weighted cross-entropy over the pairs."""
        return boundary_loss(self(batch["events"]), batch["boundaries"], self.facts["weight"])

    def answer(self, batch: dict[str, Tensor]) -> Tensor:
        """Probabilities (B, N - 1)."""
        return self(batch["events"]).sigmoid()

    def evaluate(self, predicted: dict[str, Any], stage: Stage) -> Report:
        """Average precision over all pairs; the trivial row finds boundaries no better than by chance."""
        data = self.trainer.datamodule
        labels = torch.stack([data.labels[name] for name in predicted]).flatten()
        chances = torch.tensor(list(predicted.values())).flatten()
        return Report(
            task=self.task,
            split=SPLITS[stage],
            row=self.row,
            metrics={"average_precision": 100 * float(binary_average_precision(chances, labels))},
            trivial={"average_precision": 100 * float(labels.float().mean())},
            sample_ids=list(predicted),
            of=len(data.sample_ids(stage)),
            weights_sha256=self.weights_sha256(),
            predictions=predicted,
        )


class SceneBoundaryData(pl.LightningDataModule):
    """Windows of neighboring events of the generated world's LVU movies, with the truth about their scenes.

    Batches: `events` float32 (B, N, D), `boundaries` int64 (B, N - 1), `place` int64 (B,).

    Args:
        world: folder of the generated world.
        events: event store of its LVU movies.
        window: N, events of a window.
        batch_size: windows of a step.
        seed: of the order; default: the run's seed.
    """

    def __init__(self, world: str, events: str, window: int = 5, batch_size: int = 64, seed: int | None = None) -> None:
        super().__init__()
        self.world, self.folder, self.window, self.batch_size = Path(world), events, window, batch_size
        self.seed = (global_seed() or 0) if seed is None else seed
        self.ids: dict[str, list[str]] = {}
        self.labels: dict[str, Tensor] = {}

    def setup(self, stage: str) -> None:
        """Cut the movies into windows, once; neighboring windows share an event, so that no pair is lost."""
        if self.ids:
            return
        self.store = EventStore(self.folder)
        step = grid_step(self.store, EVENT_SECONDS)
        self.features: dict[str, Tensor] = {}
        self.ids = {"train": [], "val": [], "test": []}
        for story in read_stories(self.world):
            if story["kind"] != "lvu" or story["id"] not in self.store:
                continue
            events = self.store.events(story["id"])[::step]
            scenes = torch.tensor([event["scene"] for event in story["events"]])[: len(events)]
            for first in range(0, len(events) - self.window + 1, self.window - 1):
                name = f"{story['id']}@{first}"
                cut = scenes[first : first + self.window]
                self.features[name] = events[first : first + self.window]
                self.labels[name] = (cut[1:] != cut[:-1]).long()
                self.ids[story["split"]].append(name)

    def facts(self) -> dict[str, Any]:
        """What the network is built from: the features' width and backbone, and how rare boundaries are."""
        rare = torch.stack([self.labels[name] for name in self.ids["train"]]).float().mean()
        weight = float((1 - rare) / rare.clamp(min=1e-6))
        return {"width": self.store.width, "backbone_sha256": self.store.backbone_sha256, "weight": weight}

    def training_events(self) -> Tensor:
        """The training windows' events (M, D), for statistics."""
        return torch.cat([self.features[name] for name in self.ids["train"]])

    def sample_ids(self, stage: Stage) -> list[str]:
        """The windows, `<movie>@<first event>`, in the order that `place` counts in."""
        return self.ids[SPLITS[stage]]

    def _loader(self, split: str, shuffle: bool = False) -> DataLoader:
        names = self.ids[split]
        rows = [torch.stack([table[name] for name in names]) for table in (self.features, self.labels)]
        data = TensorDataset(*rows, torch.arange(len(names)))
        keys = ("events", "boundaries", "place")

        def collate(samples: list[tuple[Tensor, ...]]) -> dict[str, Tensor]:
            return {key: torch.stack(column) for key, column in zip(keys, zip(*samples, strict=True), strict=True)}

        generator = torch.Generator().manual_seed(int(numpy_generator(self.seed, 0, 0).integers(2**31)))
        return DataLoader(data, batch_size=self.batch_size, shuffle=shuffle, collate_fn=collate, generator=generator)

    def train_dataloader(self) -> DataLoader:
        """The training windows, shuffled."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        """The windows by which the epoch is chosen."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        """The windows that are reported."""
        return self._loader("test")

    predict_dataloader = test_dataloader
