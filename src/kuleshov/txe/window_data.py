"""Windows of event features drawn from many movies, for masked-event pretraining."""

import logging
from collections.abc import Iterator
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kuleshov.core.distributed import rank, world_size
from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import read_json, read_text, sha256_ids
from kuleshov.core.random import numpy_generator
from kuleshov.core.results import global_seed
from kuleshov.features.feature_store import grid_step
from kuleshov.synthetic.truth import event_labels
from kuleshov.txe.event_table import EventTable, Movies, Placement
from kuleshov.txe.masked_event_losses import OTHERS

logger = logging.getLogger(__name__)

Weighting = Literal["movie", "event"]
TRAIN, VALIDATION, SAMPLE = 0, 1, 2  # views of the generator
OTHERS_SPARE = 200  # drawn in excess, for those that belong to the same movie
EVENT_SECONDS = 2.0  # distance of the events that VidSitu annotates


class Windows:
    """A loader of index batches: random windows of N events, `step` rows apart; no data, only which rows.

    A batch is {rows: int64 (b, N), movie: int64 (b,), mask: float32 (b, 2)}. An epoch's draws come from one generator
    made of (seed, epoch) and are laid out as arrays: window i of an epoch is the same whatever the number of ranks,
    and after a resume. A last batch with fewer windows than ranks is left out. Lightning calls `set_epoch` through
    `sampler`.

    Args:
        movies: those with fewer than (N - 1) * step + 1 events are left out and listed in `too_short`.
        events: N.
        step: rows between two events of a window.
        weighting: an epoch holds, with `movie`, every movie `per_movie` times, each time a window at a uniform place
            (the paper's 1,000 epochs of LVU and 100 of VidSitu are of this kind); with `event`, (all events) / N
            windows, uniform over all places of all movies, so that a movie counts by its length.
        per_movie: windows of a movie in an epoch, with weighting `movie`.
        seed: of the draws.
        batch_size: windows of a step over all ranks; each takes its contiguous share, in rank order.
        fixed: the same epoch every time, drawn apart from those of training (validation).

    Raises:
        KuleshovError: no movie is long enough, or fewer windows in a step than ranks.
    """

    batch_sampler = None  # Lightning asks loaders with a sampler for it

    def __init__(
        self,
        movies: Movies,
        events: int,
        step: int = 1,
        weighting: Weighting = "movie",
        per_movie: int = 1,
        seed: int = 0,
        batch_size: int = 256,
        fixed: bool = False,
    ) -> None:
        if weighting not in get_args(Weighting):
            raise KuleshovError(f"weighting is movie or event, not {weighting!r}")
        if batch_size < world_size():
            raise KuleshovError(f"batch_size={batch_size} is smaller than the number of ranks: raise it")
        span = (events - 1) * step + 1
        fits = movies.count >= span
        self.too_short = list(movies.only(~fits).ids)
        self.movies = movies.only(fits)
        if not self.movies.ids:
            raise KuleshovError(
                f"none of {len(movies.ids)} movies has the {span} events that a window of {events} takes "
                f"({step} apart): extract longer movies, or at a smaller stride"
            )
        self.events, self.step, self.weighting, self.per_movie = events, step, weighting, per_movie
        self.seed, self.batch_size, self.fixed = seed, batch_size, fixed
        by_length = max(1, int(self.movies.count.sum()) // events)
        self.size = len(self.movies.ids) * per_movie if weighting == "movie" else by_length  # windows of an epoch
        self._places = self.movies.count - span + 1
        self.epoch, self.given, self._resume = 0, 0, {}

    def draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """An epoch: first rows (n,) int64, movies (n,) int64, uniform draws (n, 2) float32 for the mask."""
        generator = numpy_generator(self.seed, epoch, 0, VALIDATION if self.fixed else TRAIN)
        if self.weighting == "movie":
            movie = generator.permutation(np.repeat(np.arange(len(self.movies.ids)), self.per_movie))
            place = (generator.random(self.size) * self._places[movie]).astype(np.int64)
        else:
            last = self._places.cumsum()
            flat = generator.integers(last[-1], size=self.size)
            movie = np.searchsorted(last, flat, side="right")
            place = flat - (last[movie] - self._places[movie])
        first = self.movies.first[movie] + place
        return first, movie, generator.random((self.size, 2), dtype=np.float32)

    def rows(self, first: np.ndarray) -> Tensor:
        """The rows of windows that begin at `first` (n,): int64 (n, N)."""
        return torch.from_numpy(first[:, None] + np.arange(self.events) * self.step)

    @property
    def sampler(self) -> "Windows":
        """Itself: Lightning sets the epoch of a loader's sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next pass gives."""
        self.epoch = 0 if self.fixed else epoch

    def state_dict(self) -> dict[str, int]:
        """The place within the epoch."""
        return {"epoch": self.epoch, "given": self.given}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on from a place: the next pass, if over the same epoch, leaves out what was given."""
        self._resume = dict(state_dict)

    def __len__(self) -> int:
        whole, rest = divmod(self.size, self.batch_size)
        return whole + (rest >= world_size())

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        resume, self._resume = self._resume, {}
        begin = resume.get("given", 0) if resume.get("epoch") == self.epoch else 0
        first, movie, mask = self.draw(self.epoch)
        for number in range(begin, len(self)):
            whole = np.arange(number * self.batch_size, min((number + 1) * self.batch_size, self.size))
            share = np.array_split(whole, world_size())[rank()]
            self.given = number + 1
            tensors = {"movie": torch.from_numpy(movie[share]), "mask": torch.from_numpy(mask[share])}
            yield {"rows": self.rows(first[share]), **tensors}


class EventWindows(pl.LightningDataModule):
    """Random windows of N events from event stores, gathered by index where the features are.

    A step's windows are one gather from one tensor, without worker processes, collation or Python code a sample.
    A batch has `events` float32 (B, N, D), `rows` int64 (B, N), `movie` int64 (B,) and `mask` float32 (B, 2),
    uniform numbers for the mask's size and place. A validation batch also has the distractors of recall,
    `others` float32 (R, D) and `others_movie` int64 (R,), and `offscreen` int8 (B, N): 1 off screen, 0 on
    screen, -1 unknown. A batch of prediction is a whole movie, `events` (L, D) and `rows` (L,).

    Args:
        stores: folders of event features; several are pooled.
        val_stores: folders to validate on; without them a share of the movies is held out.
        val_fraction: share of the movies held out, chosen by a hash of their ids.
        include: file with the movie ids to use (JSON list, as VidSitu's split files, or one id a line);
            default: all.
        exclude: file with movie ids that are used for nothing.
        events: N.
        token_stride: seconds between the beginnings of two events of a window; a multiple of the store's.
        weighting: `movie`: every movie counts the same in an epoch; `event`: by its length.
        windows_per_movie: windows of a movie in an epoch, with weighting `movie`.
        val_windows_per_movie: the same for validation; drawn once.
        batch_size: windows of a step, over all ranks together.
        placement: where the features are: auto, device, host or mmap.
        offscreen: JSON {movie id: [whether its k-th two-second event is off screen]}, for validation only;
            default: the generated world's truth, where `video_root` is in one.
        video_root: folder of the movies, for TensorBoard's pictures and a world's truth; without it the
            pictures have text only.
        seed: of the windows and masks; default: the run's seed.
    """

    def __init__(
        self,
        stores: list[str],
        val_stores: list[str] | None = None,
        val_fraction: float = 0.05,
        include: str | None = None,
        exclude: str | None = None,
        events: int = 5,
        token_stride: float = 2.0,
        weighting: Weighting = "movie",
        windows_per_movie: int = 1,
        val_windows_per_movie: int = 4,
        batch_size: int = 256,
        placement: Placement = "auto",
        offscreen: str | None = None,
        video_root: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.stores, self.val_stores, self.val_fraction = stores, val_stores, val_fraction
        self.include, self.exclude = include, exclude
        self.events, self.token_stride = events, token_stride
        self.weighting, self.windows_per_movie = weighting, windows_per_movie
        self.val_windows_per_movie, self.batch_size = val_windows_per_movie, batch_size
        self.placement, self.offscreen, self.video_root = placement, offscreen, video_root
        self.seed = seed if seed is not None else (global_seed() or 0)
        self.train_windows: Windows | None = None
        self.val_windows: Windows | None = None

    @cached_property
    def table(self) -> EventTable:
        """All rows; opened when first needed."""
        return EventTable([*self.stores, *(self.val_stores or [])], self.placement)

    @property
    def width(self) -> int:
        """D, width of an event feature."""
        return self.table.width

    @property
    def step(self) -> int:
        """Rows between two events of a window."""
        return grid_step(self.table.stores[0], self.token_stride)

    def setup(self, stage: str) -> None:
        """Open the stores and split the movies; movies that are too short are counted in the log."""
        if self.train_windows is not None or stage == "predict":
            return
        train, held = self._split()
        common = {"events": self.events, "step": self.step, "seed": self.seed, "batch_size": self.batch_size}
        self.train_windows = Windows(train, weighting=self.weighting, per_movie=self.windows_per_movie, **common)
        short = list(self.train_windows.too_short)
        if held.ids:
            self.val_windows = Windows(held, per_movie=self.val_windows_per_movie, fixed=True, **common)
            short += self.val_windows.too_short
        if short:
            whole = len(train.ids) + len(held.ids)
            logger.warning("%d of %d movies are too short for a window (first %s)", len(short), whole, short[0])
        self.others, self._others_movie = self._draw_others(train, held)
        self._flags = self._read_offscreen(held)

    def _split(self) -> tuple[Movies, Movies]:
        excluded = read_ids(self.exclude) if self.exclude else []
        movies = self.table.movies()
        if self.include:
            wanted = set(read_ids(self.include))
            movies = movies.only(np.array([name in wanted for name in movies.ids], dtype=bool))
            if not movies.ids:
                raise KuleshovError(f"{self.include} names none of the movies in {', '.join(self.stores)}")
        if not self.val_stores:
            return movies.split(self.val_fraction, excluded)
        kept, _ = movies.split(0.0, excluded)
        # movies that are in both kinds of stores are trained on
        held = kept.first >= self.table.bases[len(self.stores)]
        return kept.only(~held), kept.only(held)

    def _draw_others(self, train: Movies, held: Movies) -> tuple[Tensor, Tensor]:
        """Rows of the distractors of recall, and which held-out movie each is of (-1: none)."""
        rows = np.concatenate([held.rows(), train.rows()])
        drawn = numpy_generator(self.seed, 0, 0, SAMPLE).permutation(len(rows))[: OTHERS + OTHERS_SPARE]
        owner = np.full(len(self.table), -1)
        if self.val_windows is not None:
            movies = self.val_windows.movies
            owner[movies.rows()] = np.repeat(np.arange(len(movies.ids)), movies.count)
        return torch.from_numpy(rows[drawn]), torch.from_numpy(owner[rows[drawn]])

    def _read_offscreen(self, held: Movies) -> Tensor:
        flags = torch.full((len(self.table),), -1, dtype=torch.int8)
        if self.offscreen is not None:
            known = read_json(self.offscreen)
        else:
            truth = event_labels(Path(self.video_root).parent.parent) if self.video_root else {}
            known = {name: labels["off_screen"] for name, labels in truth.items()}
        found = [place for place, name in enumerate(held.ids) if name in known]
        if self.offscreen is not None and not found:
            raise KuleshovError(f"{self.offscreen} names none of the {len(held.ids)} movies held out")
        step = grid_step(self.table.stores[0], EVENT_SECONDS) if found else 1
        for place in found:
            first, count = int(held.first[place]), int(held.count[place])
            values = torch.tensor(known[held.ids[place]], dtype=torch.int8)[: (count - 1) // step + 1]
            flags[first : first + len(values) * step : step] = values
        return flags

    def train_dataloader(self) -> Windows:
        """Index batches of the training movies, from where the checkpoint left off."""
        return self.train_windows

    def state_dict(self) -> dict[str, Any]:
        """The loader's place: its own state comes too late, as the optimizer's schedule asks for the loader first."""
        return {} if self.train_windows is None else self.train_windows.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a place; a prediction has none."""
        if self.train_windows is not None:
            self.train_windows.load_state_dict(state_dict)

    def val_dataloader(self) -> Windows | list:
        """Index batches of the held-out movies, the same every time; none where none is held out."""
        return [] if self.val_windows is None else self.val_windows

    def predict_dataloader(self) -> DataLoader:
        """All movies of all stores, whole, one a batch."""
        movies = self.table.movies()
        spans = zip(movies.first, movies.count, strict=True)
        return DataLoader([{"rows": torch.arange(f, f + c)} for f, c in spans], collate_fn=itemgetter(0))

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Gather the windows' features on the device."""
        rows = batch["rows"]
        batch["events"] = self.table.to(rows.device).take(rows)  # (B, N, D)
        if self.trainer is not None and (self.trainer.training or self.trainer.predicting):
            return batch
        batch["others"] = self.table.take(self.others.to(rows.device))
        batch["others_movie"] = self._others_movie.to(rows.device)
        batch["offscreen"] = self._flags.to(rows.device)[rows]
        return batch

    def sample_rows(self, most: int) -> np.ndarray:
        """At most `most` different rows of the training movies, in random order, the same for every rank."""
        rows = self.train_windows.movies.rows()
        return rows[numpy_generator(self.seed, 0, 1, SAMPLE).permutation(len(rows))[:most]]

    def describe(self) -> dict[str, Any]:
        """For the exported weights' manifest: what was trained on."""
        ids = self.train_windows.movies.ids
        facts = {"movies": len(ids), "movie_ids_sha256": sha256_ids(ids), "events": self.events}
        return {**self.table.describe(), **facts, "token_stride": self.token_stride, "weighting": self.weighting}


def read_ids(path: str | Path) -> list[str]:
    """Ids from a JSON list, or from a text file, one a line; empty lines do not count."""
    what, how = "list of ids", "name a JSON list or a text with a movie id a line"
    if Path(path).suffix == ".json":
        return [str(name) for name in read_json(path, what, how, list)]
    return [line.strip() for line in read_text(path, what, how).splitlines() if line.strip()]
