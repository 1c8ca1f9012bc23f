"""The Lightning callback that shows how many files a run could not read."""

import logging
from pathlib import Path

import pytorch_lightning as pl

from kuleshov.video.bad_files import BadFiles

log = logging.getLogger(__name__)
BAD_FILES_FILE = "bad_files.jsonl"


class BadFilesMonitor(pl.Callback):
    """Logs `data/decode_fail` after every epoch and tells the summary at the end of the fit.

    Args:
        filename: name of the list in the run's folder.
    """

    def __init__(self, filename: str = BAD_FILES_FILE) -> None:
        self.filename = filename

    def _count(self, trainer: pl.Trainer) -> dict[str, str]:
        bad_files = BadFiles(1, Path(trainer.default_root_dir) / self.filename)
        bad_files.refresh()
        return bad_files.reasons

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the number of files set aside so far."""
        pl_module.log("data/decode_fail", float(len(self._count(trainer))), rank_zero_only=True)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell how many files were set aside, and why the first ones."""
        reasons = self._count(trainer)
        if trainer.is_global_zero and reasons:
            named = "; ".join(f"{path} ({reason})" for path, reason in list(reasons.items())[:5])
            where = Path(trainer.default_root_dir) / self.filename
            log.warning("%d unreadable videos were replaced: %s; all in %s", len(reasons), named, where)
