"""What the three VidSitu tasks share of their data: segments, event features in memory, batches by index."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from kuleshov.core.distributed import rank, world_size
from kuleshov.core.errors import KuleshovError
from kuleshov.core.random import numpy_generator
from kuleshov.core.results import global_seed
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.features.event_store import EventStore
from kuleshov.txe.contextualizer import SegmentFeatures


class EpochOrder(DistributedSampler):
    """The samples' order in an epoch, drawn from (seed, epoch), this rank's share of it.

    It is a `DistributedSampler` so that Lightning keeps it; ranks take turns in one common order, the last
    round is filled up with samples from the beginning.
    """

    def __init__(self, samples: int, seed: int, shuffle: bool) -> None:
        super().__init__(range(samples), world_size(), rank(), shuffle=shuffle, seed=seed)

    def __iter__(self) -> Iterator[int]:
        count = len(self.dataset)
        order = list(range(count))
        if self.shuffle:
            order = numpy_generator(self.seed, self.epoch, 0).permutation(count).tolist()
        filled = [order[i % count] for i in range(self.total_size)]
        return iter(filled[self.rank :: self.num_replicas])


class Rows(Dataset):
    """Tensors of equal first dimension; a list of indices gives a whole batch at once."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return next(iter(self.tensors.values())).shape[0]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        rows = torch.as_tensor(indices)
        return {name: tensor[rows] for name, tensor in self.tensors.items()}


def as_they_are(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The collate function of rows that are a batch already."""
    return batch


def spread(ids: Sequence[str], count: int | None) -> list[str]:
    """`count` of the ids, evenly spread over their order; all where `count` is None or not smaller."""
    if count is None or count >= len(ids):
        return list(ids)
    if count < 1:
        raise KuleshovError(f"at least one segment is needed, {count} were asked for")
    return [ids[i * len(ids) // count] for i in range(count)]


class SegmentData(pl.LightningDataModule):
    """VidSitu's segments with their event features in memory; what is to be learned is a subclass's.

    Batches are dicts: `events` float32 (B, 5, D), the targets, and outside training `place` (B,) long, the
    segments' places in `test_ids`.

    Args:
        annotations: root of VidSitu's annotations.
        store: folder of the event features.
        batch_size: segments a step and device in training.
        eval_batch_size: segments a step and device where nothing is learned.
        seed: decides the order of the training segments; the training's seed when null.
        train_split: the split to train on.
        split: the split to choose the epoch by and to report.
        split_file: another list of segment ids to report on; `ann_idx` counts in it.
        train_segments: train on this many segments, evenly spread over the split; all by default.
        validate_segments: choose the epoch by this many; all by default. The report always takes all.
        allow_missing: go on where the store lacks segments; they are counted in the results.
        vocabulary: the official verb vocabulary pickle; found beside the annotations by default, else derived
            from the training annotations.
    """

    def __init__(
        self,
        annotations: str,
        store: str,
        batch_size: int = 16,
        eval_batch_size: int = 64,
        seed: int | None = None,
        train_split: str = "train",
        split: str = "valid",
        split_file: str | None = None,
        train_segments: int | None = None,
        validate_segments: int | None = None,
        allow_missing: bool = False,
        vocabulary: str | None = None,
    ) -> None:
        super().__init__()
        self.root, self.store_folder = Path(annotations), store
        self.seed = (global_seed() or 0) if seed is None else seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.train_split, self.split, self.split_file = train_split, split, split_file
        self.train_segments, self.validate_segments = train_segments, validate_segments
        self.allow_missing, self.vocabulary_file = allow_missing, vocabulary
        self.annotations: VidSitu | None = None

    def setup(self, stage: str) -> None:
        """Read the annotations and the features, once."""
        if self.annotations is not None:
            return
        self.annotations = VidSitu(self.root, self.vocabulary_file)
        store = EventStore(self.store_folder)
        self.width, self.backbone_sha256 = store.width, store.backbone_sha256
        train_ids = spread(self.annotations.segments(self.train_split), self.train_segments)
        self.split_ids = self.annotations.segments(self.split, self.split_file)
        features = self._features(store, train_ids)
        self.train_ids, self.train_features = features.ids, features.tensor  # (S, 5, D)
        features = self._features(store, self.split_ids)
        self.test_ids, test_features = features.ids, features.tensor
        self.prepare()
        self.train_rows = Rows({"events": self.train_features, **self.train_targets(self.train_ids)})
        self.test_rows = Rows({"events": test_features, **self.test_targets(self.test_ids)})
        chosen = set(spread(self.test_ids, self.validate_segments))
        self.validated = [place for place, name in enumerate(self.test_ids) if name in chosen]

    def _features(self, store: EventStore, ids: list[str]) -> SegmentFeatures:
        return SegmentFeatures(store, ids, allow_missing=self.allow_missing)

    def prepare(self) -> None:
        """What a task needs before its targets are made, a vocabulary for instance."""

    def facts(self) -> dict[str, Any]:
        """What a network needs to know of the data, in plain values."""
        return {"width": self.width}

    def set_epoch(self, epoch: int) -> None:
        """Nothing changes with the epoch but the order, of which Lightning takes care."""

    def train_targets(self, ids: list[str]) -> dict[str, Tensor]:
        """Targets of the training segments, (S, ...) each."""
        raise NotImplementedError

    def test_targets(self, ids: list[str]) -> dict[str, Tensor]:
        """What a reported segment brings beside its features, (S, ...) each."""
        return {}

    def train_dataloader(self) -> DataLoader:
        """Batches in the epoch's order; a last batch that is not full is left out."""
        order = EpochOrder(len(self.train_rows), self.seed, shuffle=True)
        return self._loader(self.train_rows, order, drop_last=order.num_samples >= self.batch_size)

    def val_dataloader(self) -> DataLoader:
        """The segments by which the epoch is chosen."""
        rows = {name: tensor[self.validated] for name, tensor in self.test_rows.tensors.items()}
        rows["place"] = torch.tensor(self.validated)
        return self._loader(Rows(rows), EpochOrder(len(self.validated), self.seed, shuffle=False))

    def test_dataloader(self) -> DataLoader:
        """All segments of the reported split."""
        rows = {**self.test_rows.tensors, "place": torch.arange(len(self.test_ids))}
        return self._loader(Rows(rows), EpochOrder(len(self.test_ids), self.seed, shuffle=False))

    def predict_dataloader(self) -> DataLoader:
        """The same as for the test."""
        return self.test_dataloader()

    def _loader(self, rows: Rows, order: EpochOrder, drop_last: bool = False) -> DataLoader:
        size = self.batch_size if order.shuffle else self.eval_batch_size
        return DataLoader(rows, size, sampler=order, collate_fn=as_they_are, drop_last=drop_last)
