"""The callback that makes dropout and shuffling belong to the epoch, not to the process's history."""

import numpy as np
import pytorch_lightning as pl
import torch

from kuleshov.core.results import global_seed


class SeedEveryEpoch(pl.Callback):
    """Seeds torch's global generator from (seed, epoch, rank) as each training epoch begins.

    What is drawn for a sample has its own generator (`core.random`); the global one is left for dropout and
    for samplers. A training that goes on from a checkpoint of an epoch's end therefore draws what the
    uninterrupted one draws.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed the generator of this rank."""
        key = (global_seed() or 0, trainer.current_epoch, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1)))
