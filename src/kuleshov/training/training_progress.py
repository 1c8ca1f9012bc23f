"""Progress of a training: a rich bar at a terminal, plain lines in a log file."""

import sys
import time

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar


class Progress(pl.Callback):
    """A line an epoch on stderr with the logged metrics, where stderr is not a terminal.

    At a terminal Lightning's rich bar does it better: it is added there in its place.
    """

    def __init__(self) -> None:
        self._started = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Add the bar at a terminal."""
        has_bar = any(isinstance(callback, RichProgressBar) for callback in trainer.callbacks)
        if sys.stderr.isatty() and not has_bar and not trainer.fast_dev_run:
            bar = RichProgressBar()
            trainer.callbacks.append(bar)
            bar.setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember when the training began."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch's line."""
        if sys.stderr.isatty() or not trainer.is_global_zero:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        shown = "  ".join(f"{name} {value:.4g}" for name, value in sorted(values.items()))
        passed = time.monotonic() - self._started
        of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        print(f"epoch {trainer.current_epoch + 1}{of}  {passed:.0f} s  {shown}", file=sys.stderr, flush=True)
