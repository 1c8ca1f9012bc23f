"""How long training waits for data, and how many clips a second it sees."""

import time

import pytorch_lightning as pl


class Throughput(pl.Callback):
    """Logs `data/wait_s` (seconds per step spent waiting for a batch) and `perf/clips_per_s` (all processes).

    Args:
        clips_per_step: clips in a global batch, views counted one by one.
        every: steps over which both are averaged.
    """

    def __init__(self, clips_per_step: int, every: int = 20) -> None:
        self.clips_per_step, self.every = clips_per_step, every
        self._reset()

    def _reset(self) -> None:
        self._ended = self._began = time.perf_counter()
        self._wait, self._steps = 0.0, 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the time between epochs."""
        self._reset()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        """The batch is there: count the time since the last one was done."""
        self._wait += time.perf_counter() - self._ended

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Log every few steps."""
        self._ended = time.perf_counter()
        self._steps += 1
        if self._steps < self.every and batch_idx + 1 < trainer.num_training_batches:
            return
        seconds = self._ended - self._began
        pl_module.log("data/wait_s", self._wait / self._steps)
        pl_module.log("perf/clips_per_s", self._steps * self.clips_per_step / max(seconds, 1e-9))
        self._reset()
