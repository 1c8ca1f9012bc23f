"""The callback that hands weights on when a training ends."""

from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from kuleshov.core.errors import KuleshovError
from kuleshov.core.results import global_seed
from kuleshov.core.weights import load_weights, save_weights


class ExportWeights(pl.Callback):
    """Writes `<run>/weights/<name>.safetensors` for each of the module's `exports()` when a fit ends.

    `exports()` returns {name: (nn.Module or {key: tensor}, manifest)}. Where a checkpoint callback monitors
    a metric, the best epoch's weights are loaded first, and stay; otherwise the last epoch's are taken.
    """

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the best epoch on every rank, and write the weights on rank 0."""
        if trainer.fast_dev_run or trainer.interrupted:
            return
        selection = load_best(trainer, pl_module)
        exports = getattr(pl_module, "exports", None)
        if exports is None or not trainer.is_global_zero:
            return
        common = {"epochs": trainer.current_epoch, "steps": trainer.global_step}
        common |= {"seed": global_seed(), "selection": selection}
        for name, (source, manifest) in exports().items():
            tensors = source.state_dict() if isinstance(source, nn.Module) else source
            path = Path(trainer.default_root_dir) / "weights" / f"{name}.safetensors"
            save_weights(path, tensors, {**common, **manifest})


def load_best(trainer: pl.Trainer, module: pl.LightningModule) -> str:
    """Load the best epoch where a metric is monitored, and return the selection rule in words."""
    callback = trainer.checkpoint_callback
    monitor, best = getattr(callback, "monitor", None), getattr(callback, "best_model_path", "")
    if not monitor or not best:
        return "last epoch"
    stored = torch.load(best, map_location="cpu", weights_only=True)
    module.load_state_dict(stored["state_dict"])
    return f"epoch with the {callback.mode}imum {monitor}"


def load_into(module: nn.Module, path: str | Path) -> dict:
    """Load exported weights into a module, strictly, and return their manifest.

    Raises:
        KuleshovError: keys or shapes differ; the first of each kind is named.
    """
    tensors, manifest = load_weights(path)
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    if expected != found:
        missing, unexpected = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
        shapes = [key for key in sorted(expected.keys() & found.keys()) if expected[key] != found[key]]
        said = [f"{len(missing)} missing (first {missing[0]})"] if missing else []
        said += [f"{len(unexpected)} unexpected (first {unexpected[0]})"] if unexpected else []
        said += [f"{key}: {found[key]} for {expected[key]}" for key in shapes[:1]]
        raise KuleshovError(f"{path} does not fit {type(module).__name__}: {', '.join(said)}")
    module.load_state_dict(tensors)
    return manifest
