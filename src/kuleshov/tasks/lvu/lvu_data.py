"""The data of an LVU task: movies from the event store and the instance store, spans drawn or all of them."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from kuleshov.core import distributed
from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.core.random import numpy_generator
from kuleshov.core.results import global_seed
from kuleshov.datasets.lvu import SPLITS, Lvu, Row, Task, task_named
from kuleshov.features.event_store import EventStore
from kuleshov.features.instance_store import InstanceStore
from kuleshov.tasks.lvu.movie_samples import Movie, Sample, SampleMaker, collate, open_movie, region_rows

logger = logging.getLogger(__name__)
Sampling = Literal["span", "movie"]


class EpochSampler(DistributedSampler):
    """Yields (epoch, number) for this rank, in an order drawn from (seed, epoch); the last batch is filled up."""

    def __init__(self, count: int, seed: int) -> None:
        super().__init__(range(count), distributed.world_size(), distributed.rank(), seed=seed)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = numpy_generator(self.seed, self.epoch, 0, view=7).permutation(len(self.dataset))
        filled = np.resize(order, self.total_size)
        return iter((self.epoch, int(number)) for number in filled[self.rank :: self.num_replicas])


class RandomSpans(Dataset):
    """Training: sample (epoch, number) is `spans` random spans of a movie.

    `span` draws from the pool of all movies' spans, so that long movies are seen more often (the official
    code); `movie` gives each movie its turn. An epoch has as many samples as movies.
    """

    def __init__(
        self, movies: Sequence[Movie], maker: SampleMaker, seed: int, sampling: Sampling, spans: int = 1
    ) -> None:
        if sampling not in ("span", "movie"):
            raise KuleshovError(f"sampling is span or movie, not {sampling!r}")
        self.movies, self.maker, self.seed, self.sampling, self.spans = movies, maker, seed, sampling, spans
        self._until = np.cumsum([len(movie.ends) for movie in movies])

    def __len__(self) -> int:
        return len(self.movies)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, number = key
        rng = numpy_generator(self.seed, epoch, number)
        if self.sampling == "span":
            number = int(np.searchsorted(self._until, rng.integers(self._until[-1]), "right"))
        movie = self.movies[number]
        ends = movie.ends[rng.integers(len(movie.ends), size=self.spans)]
        return self.maker(movie, ends, rng, augment=True, number=number)


class AllSpans(Dataset):
    """Evaluation: sample `number` is all spans of a movie; nothing is drawn unless the maker masks."""

    def __init__(self, movies: Sequence[Movie], maker: SampleMaker, seed: int) -> None:
        self.movies, self.maker, self.seed = movies, maker, seed

    def __len__(self) -> int:
        return len(self.movies)

    def __getitem__(self, number: int) -> Sample:
        rng = numpy_generator(self.seed, 0, number, view=1) if self.maker.mask_share else None
        movie = self.movies[number]
        return self.maker(movie, movie.ends, rng, augment=False, number=number)


class LvuData(pl.LightningDataModule):
    """One of LVU's nine tasks over stored event features, stored instances, or both.

    Args:
        annotations: LVU's root, which holds `lvu_1.0/`.
        task: relationship, way_speaking, scene, director, writer, year, genre, like_ratio or view_count.
        events: event store of the movies; null uses instances only.
        instances: instance store of the movies; null uses events only.
        batch_size: spans a training batch (of each process).
        eval_batch_size: movies an evaluation batch.
        span: seconds of a span.
        span_step: seconds between two spans in evaluation.
        limit: most instances in a span.
        sampling: draw training spans from the pool of all `span`s, or a random span of each `movie`.
        mask_end_task: mask 15 % of the tracks in training and evaluation too, as the official code does.
        num_workers: processes that load data.
        seed: of everything drawn; null takes `--seed_everything`.
    """

    def __init__(
        self,
        annotations: str,
        task: str,
        events: str | None = None,
        instances: str | None = None,
        batch_size: int = 16,
        eval_batch_size: int = 16,
        span: int = 60,
        span_step: int = 1,
        limit: int = 254,
        sampling: Sampling = "span",
        mask_end_task: bool = False,
        num_workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.task: Task = task_named(task)
        if events is None and instances is None:
            raise KuleshovError("an LVU task needs events or instances: name a store for at least one of them")
        self.annotations, self.events_folder, self.instances_folder = annotations, events, instances
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.span, self.span_step, self.limit, self.sampling = span, span_step, limit, sampling
        self.mask_share = 0.15 if mask_end_task else 0.0
        self.seed = seed if seed is not None else (global_seed() or 0)
        self.margin = 0
        self.movies: dict[str, list[Movie]] = {}
        self.rows: dict[str, list[Row]] = {}
        self.missing: dict[str, list[str]] = {}
        self.events: EventStore | None = None
        self.instances: InstanceStore | None = None
        self._features: Tensor | None = None

    def setup(self, stage: str | None = None) -> None:
        """Open the stores and the annotations, once.

        Raises:
            KuleshovError: no movie of a split has features, or files are broken.
        """
        if self.movies:
            return
        lvu = Lvu(self.annotations)
        self.rows = {split: lvu.rows(self.task.name, split) for split in SPLITS}
        self.events = EventStore(self.events_folder) if self.events_folder else None
        self.instances = InstanceStore(self.instances_folder) if self.instances_folder else None
        self._features = self.events.tensor()[0] if self.events is not None else None
        opened = {split: self._open(split) for split in SPLITS}
        self._warn_of_empty_classes(opened["train"])
        self.movies = opened

    def _open(self, split: str) -> list[Movie]:
        movies = []
        for row in self.rows[split]:
            movie = open_movie(row.video_id, row.label, self.events, self.instances, self.span, self.span_step)
            movies += [movie] if movie is not None else []
        present = {movie.id for movie in movies}
        self.missing[split] = [row.video_id for row in self.rows[split] if row.video_id not in present]
        stores = " and ".join(str(f) for f in (self.events_folder, self.instances_folder) if f)
        if not movies:
            raise MissingDataError(
                f"features of {self.task.name}'s {split} split (0 of {len(self.rows[split])} movies)",
                stores,
                "extract them with `kuleshov extract` or `kuleshov instances`, or name another store",
            )
        if self.missing[split]:
            logger.warning(
                "%s %s: %d of %d movies have no features in %s (first %s); scores are over the rest",
                self.task.name,
                split,
                len(self.missing[split]),
                len(self.rows[split]),
                stores,
                self.missing[split][0],
            )
        return movies

    def _warn_of_empty_classes(self, train: list[Movie]) -> None:
        if not self.task.classes:
            return
        names = {int(row.label): row.class_name for rows in self.rows.values() for row in rows}
        seen = Counter(int(movie.label) for movie in train)
        for label in sorted(names.keys() - seen.keys()):
            logger.warning(
                "%s: class %d (%s) has no training movie: it cannot be learned", self.task.name, label, names[label]
            )

    @property
    def event_width(self) -> int | None:
        """D of the event features, None without events."""
        return self._features.shape[1] if self._features is not None else None

    @property
    def instance_width(self) -> int | None:
        """F of the region features, None without instances."""
        return self.instances.width if self.instances is not None else None

    def training_events(self) -> Tensor:
        """All event features of the training movies, (M, D)."""
        rows = torch.cat([torch.arange(m.event_rows.start, m.event_rows.stop) for m in self.movies["train"]])
        return self._features[rows].float()

    def training_instances(self) -> Tensor:
        """Region features of some training movies, (M, F)."""
        return region_rows(self.movies["train"], self.instances)

    def replace_events(self, change: Callable[[Tensor], Tensor]) -> None:
        """Put each movie's events (L, D) through `change` -> (L, W), once; nothing is sliced with a margin then."""
        changed, row = [], 0
        for movie in (movie for split in SPLITS for movie in self.movies[split]):
            whole = change(self._features[movie.event_rows.start : movie.event_rows.stop].float())
            movie.event_rows = range(row, row + len(whole))
            changed.append(whole)
            row += len(whole)
        self._features, self.margin = torch.cat(changed), 0

    def _maker(self) -> SampleMaker:
        return SampleMaker(
            self._features, self.instances, self.span, self.limit, margin=self.margin, mask_share=self.mask_share
        )

    def train_dataloader(self) -> DataLoader:
        """Random spans."""
        data = RandomSpans(self.movies["train"], self._maker(), self.seed, self.sampling)
        return DataLoader(
            data,
            self.batch_size,
            sampler=EpochSampler(len(data), self.seed),
            num_workers=self.num_workers,
            collate_fn=collate,
        )

    def _evaluation(self, split: str) -> DataLoader:
        data = AllSpans(self.movies[split], self._maker(), self.seed)
        return DataLoader(data, self.eval_batch_size, num_workers=self.num_workers, collate_fn=collate, shuffle=False)

    def val_dataloader(self) -> DataLoader:
        """All spans of the val split: chooses the epoch."""
        return self._evaluation("val")

    def test_dataloader(self) -> DataLoader:
        """All spans of the test split: what is reported."""
        return self._evaluation("test")
