"""The callback that makes dropout belong to the batch, not to the process's history."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from kuleshov.core.results import global_seed


class SeedEveryBatch(pl.Callback):
    """Seeds torch's global generators from (seed, epoch, batch, rank) as each training batch begins.

    What is drawn for a sample has its own generator (`core.random`), and the order of samples comes from
    samplers that have theirs; the global generator is left for dropout. A training that goes on from a
    checkpoint therefore draws what the uninterrupted one draws.
    """

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the generators of this rank."""
        key = (global_seed() or 0, trainer.current_epoch, batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1)))
