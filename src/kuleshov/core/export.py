"""The callback that hands weights on when a training ends."""

from pathlib import Path

import pytorch_lightning as pl
from torch import nn

from kuleshov.core.errors import KuleshovError
from kuleshov.core.results import global_seed
from kuleshov.core.weights import load_weights, save_weights


class ExportWeights(pl.Callback):
    """Writes `<run>/weights/<name>.safetensors` for each of the module's `exports()` at the end of fit.

    `exports()` returns {name: (nn.Module or {key: tensor}, manifest)}. Modules without it export nothing.
    The weights are those in memory at the end of the last epoch.
    """

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights on rank 0."""
        exports = getattr(pl_module, "exports", None)
        if exports is None or not trainer.is_global_zero or trainer.fast_dev_run:
            return
        for name, (source, manifest) in exports().items():
            tensors = source.state_dict() if isinstance(source, nn.Module) else source
            whole = {"epochs": trainer.current_epoch, "steps": trainer.global_step, "seed": global_seed()}
            save_weights(
                Path(trainer.default_root_dir) / "weights" / f"{name}.safetensors",
                tensors,
                {**whole, **manifest},
            )


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
