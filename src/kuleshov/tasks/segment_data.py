"""VidSitu's segments: samples in order, splits, event features, and the benchmark's scores of a task on them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from kuleshov.core.distributed import rank, world_size
from kuleshov.core.errors import FormatError, KuleshovError
from kuleshov.core.random import numpy_generator
from kuleshov.core.results import Report, global_seed
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.datasets.vidsitu_predictions import write_predictions
from kuleshov.features.feature_store import EventStore
from kuleshov.metrics.vidsitu_scorers import SCORERS, Scorer
from kuleshov.tasks.event_task import ScoredTask, Stage
from kuleshov.txe.contextualizer import segment_features
from kuleshov.video.video_file import evenly


class EpochOrder(DistributedSampler):
    """The samples' order in an epoch, and this process's share of it.

    Processes take turns in one common order: their t-th batches together are the t-th batch of a single process.
    A subclass of `DistributedSampler`, so that Lightning leaves it in place and sets its epoch.

    Args:
        samples: how many there are.
        seed: together with the epoch decides the order.
        batch_size: the global batch of training, which shuffles and leaves out a last batch that is not full; None
            takes all samples as they stand, some of them twice where the processes' shares would be uneven.
    """

    def __init__(self, samples: int, seed: int, batch_size: int | None = None) -> None:
        super().__init__(range(samples), world_size(), rank(), shuffle=batch_size is not None, seed=seed)
        self.used = samples
        if batch_size is not None and samples > batch_size:
            self.used = samples // batch_size * batch_size
        self.num_samples = -(-self.used // self.num_replicas)

    def __iter__(self) -> Iterator[int]:
        order = list(range(len(self.dataset)))
        if self.shuffle:
            order = numpy_generator(self.seed, self.epoch, 0).permutation(len(order)).tolist()
        filled = [order[i % self.used] for i in range(self.num_samples * self.num_replicas)]
        return iter(filled[self.rank :: self.num_replicas])


class Rows(Dataset):
    """Tensors of equal first dimension; a loader takes a whole batch at once."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return next(iter(self.tensors.values())).shape[0]

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        rows = torch.as_tensor(indices)
        return {name: tensor[rows] for name, tensor in self.tensors.items()}


class VidSituData(pl.LightningDataModule):
    """Segments of one split to learn from, and of another to choose the epoch by and to report.

    A subclass reads what the network sees (`load`); a task's data says what is learned (`prepare`, `targets`, `facts`).
    Batches outside training bring `place` (B,) long, the segments' places in `test_ids`.

    Args:
        annotations: root of VidSitu's annotations.
        batch_size: segments a training step, over all processes.
        eval_batch_size: segments a step and process where nothing is learned.
        seed: decides the order of the training segments; the training's seed when null.
        train_split: the split to train on.
        split: the split to choose the epoch by, to report, and to predict.
        split_file: another list of segment ids to report on; `ann_idx` counts in it.
        train_segments: train on this many segments, evenly spread over the split; all by default.
        validate_segments: choose the epoch by this many; all by default. The report always takes all.
        allow_missing: go on where features or videos are missing; they are counted in the results.
        vocabulary: the official verb vocabulary pickle; found beside the annotations by default, else derived
            from the training annotations.
    """

    def __init__(
        self,
        *,
        annotations: str,
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
        self.root, self.vocabulary_file, self.allow_missing = Path(annotations), vocabulary, allow_missing
        self.seed = (global_seed() or 0) if seed is None else seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.train_split, self.split, self.split_file = train_split, split, split_file
        self.train_segments, self.validate_segments = train_segments, validate_segments
        self.scoring: dict[str, Any] = {}  # further arguments of the task's scorer
        self.annotations: VidSitu | None = None
        self.train_rows: Dataset | None = None

    def setup(self, stage: str) -> None:
        """Read the annotations and the reported split, and to fit also the training split, once each."""
        learns = stage == "fit"
        if self.annotations is not None and (self.train_rows is not None or not learns):
            return
        self.annotations = VidSitu(self.root, self.vocabulary_file)
        self.train_ids = evenly(self.annotations.segments(self.train_split), self.train_segments)
        self.split_ids = self.annotations.segments(self.split, self.split_file)
        self.prepare()
        self.load(learns)
        chosen = set(evenly(self.test_ids, self.validate_segments))
        self.validated = [place for place, name in enumerate(self.test_ids) if name in chosen]

    def prepare(self) -> None:
        """What a task needs of the annotations before targets are made, a vocabulary for instance."""

    def load(self, learns: bool) -> None:
        """Set `test_ids` and `test_rows` of the segments that are there, and to learn `train_ids` and `train_rows`."""
        raise NotImplementedError

    def targets(self, ids: list[str], split: str) -> dict[str, Tensor]:
        """What is to be learned of a split's segments, (S, ...) each."""
        raise NotImplementedError

    def labels(self, ids: list[str]) -> dict[str, Tensor]:
        """The targets of reported segments, for a loss on them; {} where they are withheld, or some are."""
        try:
            return self.targets(ids, self.split)
        except KuleshovError:
            return {}

    def annotated(self, read: Callable[[str], Mapping[str, Any]], ids: list[str], split: str) -> Mapping[str, Any]:
        """What `read` gives of a split: `annotations.verbs`, `.roles` or `.relations`.

        Raises:
            FormatError: segments of the split are not annotated: how many, and the first.
        """
        found = read(split)
        absent = [name for name in ids if name not in found]
        if absent:
            reason = f"{len(absent)} of {len(ids)} segments of {split} are not annotated: get the whole file"
            raise FormatError(self.root, reason, absent[0])
        return found

    def facts(self) -> dict[str, Any]:
        """What a network needs to know of the data, in plain values."""
        return {}

    def sample_ids(self, stage: Stage) -> list[str]:
        """The segments that `place` counts in."""
        return self.test_ids

    def loader(self, rows: Dataset, batch_size: int, order: EpochOrder) -> DataLoader:
        """Batches of this process's share."""
        return DataLoader(rows, batch_size=batch_size, sampler=order, collate_fn=lambda batch: batch)

    def train_dataloader(self) -> DataLoader:
        """Batches in the epoch's order.

        Raises:
            KuleshovError: a batch that the processes cannot share evenly.
        """
        share, rest = divmod(self.batch_size, world_size())
        if rest or share < 1:
            raise KuleshovError(
                f"a global batch of {self.batch_size} cannot be shared by {world_size()} processes: choose a multiple"
            )
        return self.loader(self.train_rows, share, EpochOrder(len(self.train_rows), self.seed, self.batch_size))

    def val_dataloader(self) -> DataLoader:
        """The segments by which the epoch is chosen."""
        rows = Subset(self.test_rows, self.validated)
        return self.loader(rows, self.eval_batch_size, EpochOrder(len(rows), self.seed))

    def test_dataloader(self) -> DataLoader:
        """All segments of the reported split."""
        return self.loader(self.test_rows, self.eval_batch_size, EpochOrder(len(self.test_rows), self.seed))

    predict_dataloader = test_dataloader


class SegmentData(VidSituData):
    """VidSitu's segments with their event features in memory: batches bring `events` float32 (B, 5, D).

    Args:
        events: folder of the event features.
    """

    def __init__(self, *, events: str, **shared) -> None:
        super().__init__(**shared)
        self.events = events

    def load(self, learns: bool) -> None:
        store = EventStore(self.events)
        self.width, self.backbone_sha256, self.origin = store.width, store.backbone_sha256, store.origin
        if learns:
            self.train_ids, events = segment_features(store, self.train_ids, allow_missing=self.allow_missing)
            self.train_rows = Rows({"events": events, **self.targets(self.train_ids, self.train_split)})
        self.test_ids, events = segment_features(store, self.split_ids, allow_missing=self.allow_missing)
        rows = {"events": events, "place": torch.arange(len(self.test_ids))}
        labels = self.labels(self.test_ids) if learns else {}
        self.test_rows = Rows({**rows, **labels, **self.given(self.test_ids)})

    def given(self, ids: list[str]) -> dict[str, Tensor]:
        """What a reported segment brings beside its features, (S, ...) each."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Feature width, and the backbone that made the features."""
        return {"width": self.width, "backbone_sha256": self.backbone_sha256}

    def training_events(self) -> Tensor | None:
        """Features (S, 5, D) of the training segments; None where nothing is learned."""
        return self.train_rows.tensors["events"] if self.train_rows is not None else None


class SegmentTask(ScoredTask):
    """Scores the reported split as the benchmark does, and writes its prediction files; data: `VidSituData`."""

    _scorer: Scorer | None = None

    def extra_scores(self, predicted: Mapping[str, Any]) -> dict[str, tuple[float, int]]:
        """Further figures of {segment: prediction}: name -> (value, number of segments)."""
        return {}

    def evaluate(self, predicted: dict[str, Any], stage: Stage) -> Report | None:
        """The paper's columns, per cent: to choose an epoch those that are quickly made, else the trivial rows too."""
        data, scorer = self.trainer.datamodule, self.scorer(stage)
        if scorer is None:
            return None
        numbers = {name: number for number, name in enumerate(data.split_ids)}
        answers = {numbers[name]: answer for name, answer in predicted.items()}
        extra, trivial = self.extra_scores(predicted), {}
        if stage == "val":
            metrics = scorer.headline(answers)
        else:
            metrics = scorer.table(scorer.official(answers))
            constant, _ = scorer.trivial()
            trivial = scorer.table(scorer.official({number: constant[number] for number in answers}))
            guessed = self.extra_scores({name: constant[numbers[name]] for name in predicted})
            trivial |= {name: value for name, (value, _) in guessed.items()}
        return Report(
            task=self.task,
            split=data.split,
            row=self.row,
            metrics=metrics | {name: value for name, (value, _) in extra.items()},
            trivial=trivial,
            sample_ids=list(predicted),
            of=len(data.split_ids),
            counts={name: count for name, (_, count) in extra.items()},
            origin=self.origin() if stage == "test" else {},
            weights_sha256=self.weights_sha256(),
            predictions=predicted,
        )

    def scorer(self, stage: Stage) -> Scorer | None:
        """The split's scorer, made once; None where a test split's labels are withheld.

        Raises:
            KuleshovError: labels are missing where there should be some.
        """
        data = self.trainer.datamodule
        if self._scorer is None:
            try:
                self._scorer = SCORERS[self.task](data.annotations, data.split, data.split_ids, **data.scoring)
            except KuleshovError:
                if stage != "test" or not data.split.startswith("test"):
                    raise
        return self._scorer

    def write_predictions(self, folder: Path, predictions: dict[str, Any]) -> None:
        """Write the official file, `<split>.json`."""
        data = self.trainer.datamodule
        write_predictions(Path(folder) / f"{data.split}.json", self.task, predictions, data.split_ids)
