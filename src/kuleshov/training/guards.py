"""What keeps a training's last good state: numbers that are not finite stop it, checkpoints are written whole."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import write_through


class StopAtNonFinite(pl.Callback):
    """Stops the training when its loss or a weight is NaN or infinite, before the epoch's checkpoint is written.

    The losses are looked at every few steps, so that a GPU need not be waited for at each.
    """

    def __init__(self) -> None:
        self._losses: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer, pl_module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the loss; look at those kept when the step is logged."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, torch.Tensor):
            self._losses.append(loss.detach())
        if (batch_idx + 1) % trainer.log_every_n_steps == 0:
            self._check(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the losses that are left, and at every weight.

        Raises:
            KuleshovError: which weight is not finite.
        """
        self._check(trainer)
        for name, value in pl_module.named_parameters():
            if not bool(value.isfinite().all()):
                raise KuleshovError(f"epoch {trainer.current_epoch}: weight {name} {_NOT_FINITE}")

    def _check(self, trainer: pl.Trainer) -> None:
        losses, self._losses = self._losses, []
        if losses and not bool(torch.stack(losses).isfinite().all()):
            raise KuleshovError(f"epoch {trainer.current_epoch}: the loss {_NOT_FINITE}")


_NOT_FINITE = "is no finite number: lower the learning rate; the last good checkpoint is kept"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint into a temporary file beside its place, and renames it when it is whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write it.

        Raises:
            KuleshovError: there is no room for it; the checkpoint before stays.
        """
        try:
            write_through(path, lambda temporary: torch.save(checkpoint, temporary))
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise KuleshovError(
                f"cannot write {path} ({reason}): make room and give the same command again; it goes on from the "
                "checkpoint before"
            ) from error
