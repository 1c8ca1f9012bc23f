"""Windows of event features for masked-event pretraining."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.core.files import read_json, sha256_ids
from kuleshov.core.random import numpy_generator
from kuleshov.core.results import global_seed
from kuleshov.features.event_store import grid_step
from kuleshov.synthetic.truth import off_screen_flags
from kuleshov.txe.event_table import EventTable, Placement
from kuleshov.txe.windows import Movies, Weighting, WindowBatches, Windows, split_movies

logger = logging.getLogger(__name__)

TRAIN, VALIDATION, SAMPLE = 0, 1, 2  # views of the generator
OTHERS = 1000  # events that the true one is to be nearest among
OTHERS_SPARE = 200  # drawn in excess, for those that belong to the same movie
EVENT_SECONDS = 2.0  # distance of the events that VidSitu annotates


class EventWindows(pl.LightningDataModule):
    """Random windows of N events from event stores, gathered by index where the features are.

    The features are opened once and held as one tensor; a step's windows are one gather, without worker
    processes, collation or Python code a sample. See `Windows` for what an epoch holds.

    A batch has `events` float32 (B, N, D), `rows` int64 (B, N), `movie` int64 (B,) and `mask` float32 (B, 2),
    uniform numbers for the mask's size and place. A validation batch also has the events to be told apart,
    `others` float32 (R, D) and `others_movie` int64 (R,), and `offscreen` int8 (B, N): 1 off screen, 0 on
    screen, -1 unknown.

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
        self._table: EventTable | None = None
        self._batches: WindowBatches | None = None
        self._place: dict[str, int] = {}

    @property
    def table(self) -> EventTable:
        """All rows; opened when first needed."""
        if self._table is None:
            self._table = EventTable([*self.stores, *(self.val_stores or [])], self.placement)
        return self._table

    @property
    def width(self) -> int:
        """D, width of an event feature."""
        return self.table.width

    def setup(self, stage: str) -> None:
        """Open the stores and split the movies; movies that are too short are counted in the log."""
        if hasattr(self, "train_windows"):
            return
        step = grid_step(self.table.stores[0], self.token_stride)
        train, held = self._split()
        common = {"events": self.events, "step": step, "seed": self.seed}
        self.train_windows = Windows(
            train, weighting=self.weighting, per_movie=self.windows_per_movie, view=TRAIN, **common
        )
        self.val_windows: Windows | None = None
        if held.ids:
            self.val_windows = Windows(held, per_movie=self.val_windows_per_movie, view=VALIDATION, **common)
        short = self.train_windows.too_short + (self.val_windows.too_short if self.val_windows else [])
        if short:
            whole = len(train.ids) + len(held.ids)
            logger.warning("%d of %d movies are too short for a window (first %s)", len(short), whole, short[0])
        self._others = self._draw_others(train, held)
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
            return split_movies(movies, self.val_fraction, excluded)
        kept, _ = split_movies(movies, 0.0, excluded)
        # movies that are in both kinds of stores are trained on
        held = kept.first >= self.table.bases[len(self.stores)]
        return kept.only(~held), kept.only(held)

    def _draw_others(self, train: Movies, held: Movies) -> tuple[np.ndarray, np.ndarray]:
        """Rows that validation tells the true event from, and which held-out movie each is of (-1: none)."""
        rows = np.concatenate([held.rows(), train.rows()])
        drawn = numpy_generator(self.seed, 0, 0, SAMPLE).permutation(len(rows))[: OTHERS + OTHERS_SPARE]
        windows = self.val_windows
        owner = np.full(len(self.table), -1)
        if windows is not None:
            for number, (first, count) in enumerate(zip(windows.movies.first, windows.movies.count, strict=True)):
                owner[first : first + count] = number
        return rows[drawn], owner[rows[drawn]]

    def _read_offscreen(self, held: Movies) -> Tensor:
        flags = torch.full((len(self.table),), -1, dtype=torch.int8)
        if self.offscreen is not None:
            known = read_json(self.offscreen)
        else:
            known = off_screen_flags(Path(self.video_root).parent.parent) if self.video_root else {}
        found = [place for place, name in enumerate(held.ids) if name in known]
        if self.offscreen is not None and not found:
            raise KuleshovError(f"{self.offscreen} names none of the {len(held.ids)} movies held out")
        step = grid_step(self.table.stores[0], EVENT_SECONDS) if found else 1
        for place in found:
            first, count = int(held.first[place]), int(held.count[place])
            values = torch.tensor(known[held.ids[place]], dtype=torch.int8)[: (count - 1) // step + 1]
            flags[first : first + len(values) * step : step] = values
        return flags

    def train_dataloader(self) -> WindowBatches:
        """Index batches of the training movies, from where the checkpoint left off."""
        self._batches = WindowBatches(self.train_windows, self.batch_size)
        self._batches.go_on_from(self._place)
        return self._batches

    def state_dict(self) -> dict[str, Any]:
        """The place within the epoch, for checkpoints."""
        return self._batches.place() if self._batches else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember where the checkpoint left off; called before the loader is made."""
        self._place = state_dict

    def val_dataloader(self) -> WindowBatches | list:
        """Index batches of the held-out movies, the same every time; none where none is held out."""
        if self.val_windows is None:
            return []
        return WindowBatches(self.val_windows, self.batch_size, fixed=True)

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Gather the windows' features on the device."""
        rows = batch["rows"]
        self.table.settle(rows.device)
        batch["events"] = self.table.take(rows)  # (B, N, D)
        if self.trainer is not None and self.trainer.training:
            return batch
        index, movie = (torch.from_numpy(array).to(rows.device) for array in self._others)
        batch["others"], batch["others_movie"] = self.table.take(index), movie
        batch["offscreen"] = self._flags.to(rows.device)[rows]
        return batch

    @property
    def other_rows(self) -> np.ndarray:
        """The rows that validation tells the true event from."""
        return self._others[0]

    def sample_rows(self, most: int) -> np.ndarray:
        """At most `most` different rows of the training movies, in random order, the same for every rank."""
        rows = self.train_windows.movies.rows()
        return rows[numpy_generator(self.seed, 0, 1, SAMPLE).permutation(len(rows))[:most]]

    def describe(self) -> dict[str, Any]:
        """For the exported weights' manifest: what was trained on."""
        ids = self.train_windows.movies.ids
        return {
            **self.table.describe(),
            "movies": len(ids),
            "movie_ids_sha256": sha256_ids(ids),
            "events": self.events,
            "token_stride": self.token_stride,
            "weighting": self.weighting,
        }


def read_ids(path: str | Path) -> list[str]:
    """Ids from a JSON list, or from a text file, one a line; empty lines do not count."""
    path = Path(path)
    if not path.is_file():
        raise MissingDataError("list of ids", path.absolute(), "a JSON list or a movie id a line")
    if path.suffix == ".json":
        return [str(name) for name in read_json(path)]
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
