"""The data of an LVU task: movies from the event store and the instance store, spans drawn or all of them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from kuleshov.core.distributed import rank, world_size
from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.core.random import numpy_generator
from kuleshov.core.results import global_seed
from kuleshov.datasets.lvu import LVU_SPLITS, Lvu, LvuRow, find_lvu_task
from kuleshov.features.feature_store import EventStore, InstanceStore
from kuleshov.tasks.lvu.movie_samples import MovieTokens, Sample, SampleMaker, collate, open_movie

logger = logging.getLogger(__name__)
Sampling = Literal["span", "movie"]
SPLIT_OF = {"fit": "train", "val": "val", "test": "test", "predict": "test"}  # stage -> split


class EpochSampler(DistributedSampler):
    """Yields (epoch, number) for this rank, in an order drawn from (seed, epoch); the last batch is filled up."""

    def __init__(self, count: int, seed: int) -> None:
        super().__init__(range(count), world_size(), rank(), seed=seed)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = numpy_generator(self.seed, self.epoch, 0, view=7).permutation(len(self.dataset))
        filled = np.resize(order, self.total_size)
        return iter((self.epoch, int(number)) for number in filled[self.rank :: self.num_replicas])


class AllSpans(Dataset):
    """Evaluation: sample `number` is all spans of a movie; nothing is drawn unless the maker masks."""

    def __init__(self, movies: Sequence[MovieTokens], maker: SampleMaker, seed: int) -> None:
        self.movies, self.maker, self.seed = movies, maker, seed

    def __len__(self) -> int:
        return len(self.movies)

    def __getitem__(self, number: int) -> Sample:
        rng = numpy_generator(self.seed, 0, number, view=1) if self.maker.mask_share else None
        movie = self.movies[number]
        return self.maker(movie, movie.ends, rng, augment=False, place=number)


class RandomSpans(AllSpans):
    """Training: sample (epoch, number) is `spans` random spans of a movie.

    `span` draws from the pool of all movies' spans, so that long movies are seen more often (the official
    code); `movie` takes each movie once. An epoch has as many samples as movies.
    """

    def __init__(
        self, movies: Sequence[MovieTokens], maker: SampleMaker, seed: int, sampling: Sampling, spans: int = 1
    ) -> None:
        super().__init__(movies, maker, seed)
        self.sampling, self.spans = sampling, spans
        self._until = np.cumsum([len(movie.ends) for movie in movies])

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, number = key
        rng = numpy_generator(self.seed, epoch, number)
        if self.sampling == "span":
            number = int(np.searchsorted(self._until, rng.integers(self._until[-1]), "right"))
        movie = self.movies[number]
        ends = movie.ends[rng.integers(len(movie.ends), size=self.spans)]
        return self.maker(movie, ends, rng, augment=True, place=number)


class SpanData(pl.LightningDataModule):
    """What data of spans share.

    Args:
        batch_size: samples of a training batch, over all processes.
        eval_batch_size: movies of an evaluation batch, over all processes.
        span: seconds of a span.
        limit: most instances in a span.
        num_workers: processes that load data.
        seed: of everything drawn; null takes `--seed_everything`.
    """

    def __init__(
        self,
        *,
        batch_size: int = 16,
        eval_batch_size: int = 16,
        span: int = 60,
        limit: int = 254,
        num_workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.span, self.limit = span, limit
        self.seed = seed if seed is not None else (global_seed() or 0)
        self.movies: dict[str, list[MovieTokens]] = {}
        self.instances: InstanceStore | None = None
        self._features: Tensor | None = None

    def training_instances(self) -> Tensor:
        """Region features (M, F) of evenly chosen training movies, for statistics."""
        with_boxes = [movie for movie in self.movies["train"] if len(movie.instances["seconds"])]
        chosen = with_boxes[:: max(1, len(with_boxes) // 200)]
        return torch.cat([torch.from_numpy(self.instances.features(movie.id)) for movie in chosen])

    def maker(self, **options) -> SampleMaker:
        """A maker of samples from the data's stores; options are those of `SampleMaker`."""
        return SampleMaker(self._features, self.instances, self.span, self.limit, **options)

    def loader(self, dataset: AllSpans) -> DataLoader:
        """A loader of this process's share of the batches.

        Raises:
            KuleshovError: a batch that the processes cannot share evenly.
        """
        name, sampler = "eval_batch_size", None
        if isinstance(dataset, RandomSpans):
            name, sampler = "batch_size", EpochSampler(len(dataset), self.seed)
        whole = getattr(self, name)
        size, rest = divmod(whole, world_size())
        if rest or not size:
            raise KuleshovError(f"{name}={whole} cannot be shared by {world_size()} processes: choose a multiple")
        options = {"sampler": sampler, "num_workers": self.num_workers, "collate_fn": collate}
        return DataLoader(dataset, batch_size=size, **options)


class LvuData(SpanData):
    """One of LVU's nine tasks over stored event features, stored instances, or both.

    Args:
        annotations: LVU's root, which holds `lvu_1.0/`.
        task: relationship, way_speaking, scene, director, writer, year, genre, like_ratio or view_count.
        events: event store of the movies; null uses instances only.
        instances: instance store of the movies; null uses events only.
        span_step: seconds between two spans in evaluation.
        sampling: draw training spans from the pool of all `span`s, or a random span of each `movie`.
        mask_end_task: mask 15 % of the tracks in training and evaluation too, as the official code does.
    """

    def __init__(
        self,
        annotations: str,
        task: str,
        events: str | None = None,
        instances: str | None = None,
        span_step: int = 1,
        sampling: Sampling = "span",
        mask_end_task: bool = False,
        **shared,
    ) -> None:
        super().__init__(**shared)
        self.task = find_lvu_task(task)
        if events is None and instances is None:
            raise KuleshovError("an LVU task needs events or instances: name a store for at least one of them")
        self.annotations, self.events_folder, self.instances_folder = annotations, events, instances
        self.span_step, self.sampling = span_step, sampling
        self.mask_share = 0.15 if mask_end_task else 0.0
        self.margin = 0
        self.rows: dict[str, list[LvuRow]] = {}
        self.events: EventStore | None = None
        self._encode: Callable[[Tensor], Tensor] | None = None

    def setup(self, stage: str | None = None) -> None:
        if self.movies:
            return
        lvu = Lvu(self.annotations)
        self.rows = {split: lvu.rows(self.task.name, split) for split in LVU_SPLITS}
        self.events = EventStore(self.events_folder) if self.events_folder else None
        self.instances = InstanceStore(self.instances_folder) if self.instances_folder else None
        self.origin = self.events.origin if self.events is not None else "none"
        self._features = self.events.to_torch()[0] if self.events is not None else None
        opened = {split: self._open(split) for split in LVU_SPLITS}
        self._warn_of_empty_classes(opened["train"])
        self.movies = opened

    def _open(self, split: str) -> list[MovieTokens]:
        rows, name = self.rows[split], self.task.name
        opened = [open_movie(r.video_id, r.label, self.events, self.instances, self.span, self.span_step) for r in rows]
        missing = [row.video_id for row, movie in zip(rows, opened, strict=True) if movie is None]
        stores = " and ".join(str(f) for f in (self.events_folder, self.instances_folder) if f)
        if len(missing) == len(rows):
            raise MissingDataError(
                f"features of {name}'s {split} split (0 of {len(rows)} movies)",
                stores,
                "extract them with `kuleshov extract` or `kuleshov instances`, or name another store",
            )
        if missing:
            logger.warning(
                f"{name} {split}: {len(missing)} of {len(rows)} movies have no features in {stores} "
                f"(first {missing[0]}); scores are over the rest"
            )
        return [movie for movie in opened if movie is not None]

    def _warn_of_empty_classes(self, train: list[MovieTokens]) -> None:
        if not self.task.classes:
            return
        names = {int(row.label): row.class_name for rows in self.rows.values() for row in rows}
        for label in sorted(names.keys() - {int(movie.label) for movie in train}):
            logger.warning(
                f"{self.task.name}: class {label} ({names[label]}) has no training movie: it cannot be learned"
            )

    def facts(self) -> dict[str, Any]:
        """What a network is built from: the task, its classes (0 for a regression), widths (None without a store)."""
        return {
            "task": self.task.name,
            "classes": self.task.classes,
            "width": self.events.width if self.events is not None else None,
            "instance_width": self.instances.width if self.instances is not None else None,
            "masked": self.mask_share > 0,
            "backbone_sha256": self.events.backbone_sha256 if self.events is not None else None,
        }

    def sample_ids(self, stage: str) -> list[str]:
        """The movies of a stage's split, in the order that `place` counts in."""
        return [movie.id for movie in self.movies[SPLIT_OF[stage]]]

    def training_events(self) -> Tensor:
        """All event features of the training movies, (M, D)."""
        return torch.cat([self.events.events(movie.id) for movie in self.movies["train"]])

    def encode_events(self, encode: Callable[[Tensor], Tensor]) -> None:
        """Give events through `encode`, (L, D) -> (L, W): each whole movie once, when the next loader is made."""
        if encode != self._encode:
            self._encode, self._features = encode, None

    def _maker(self) -> SampleMaker:
        if self._encode is not None and self._features is None:
            movies = [movie for split in LVU_SPLITS for movie in self.movies[split]]
            encoded = [self._encode(self.events.events(movie.id)) for movie in movies]
            stops = np.cumsum([len(part) for part in encoded]).tolist()
            for movie, part, stop in zip(movies, encoded, stops, strict=True):
                movie.event_rows = range(stop - len(part), stop)
            self._features = torch.cat(encoded)
        return self.maker(margin=self.margin, mask_share=self.mask_share)

    def train_dataloader(self) -> DataLoader:
        return self.loader(RandomSpans(self.movies["train"], self._maker(), self.seed, self.sampling))

    def val_dataloader(self) -> DataLoader:
        return self.loader(AllSpans(self.movies["val"], self._maker(), self.seed))

    def test_dataloader(self) -> DataLoader:
        """All spans of the test split: what is reported, and what `predict` answers for."""
        return self.loader(AllSpans(self.movies["test"], self._maker(), self.seed))

    predict_dataloader = test_dataloader
