"""The callbacks of every training: reproducible draws, what is logged and written, what keeps the last good state."""

import itertools
import logging
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_fabric.utilities.throughput import Throughput
from pytorch_lightning.callbacks import BasePredictionWriter, ModelCheckpoint, RichProgressBar
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import nn

from kuleshov.core.distributed import gather_objects
from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import sha256_file, write_through
from kuleshov.core.results import Report, append_results, global_seed
from kuleshov.core.weights import save_weights
from kuleshov.video.bad_files import BAD_FILES_FILE, BadFiles

log = logging.getLogger(__name__)
RESULTS, PREDICTIONS, CHECKPOINTS = "results.jsonl", "predictions", "checkpoints"


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

        def write(temporary: Path) -> None:
            # through a file of Python's: torch's own tells of a full disk by the position that it did not expect
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)

        try:
            write_through(path, write)
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise KuleshovError(
                f"cannot write {path} ({reason}): make room and give the same command again; it goes on from the "
                "checkpoint before"
            ) from error


class RunCheckpoint(ModelCheckpoint):
    """A checkpoint in `<run>/checkpoints`; a training that goes on goes on in the same file."""

    def __init__(self, **options: Any) -> None:
        super().__init__(enable_version_counter=False, **options)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Take the run's folder."""
        self.dirpath = str(Path(trainer.default_root_dir) / CHECKPOINTS)
        super().setup(trainer, pl_module, stage)


class BestCheckpoint(RunCheckpoint):
    """A checkpoint of the epoch with the greatest (mode `max`) or smallest (`min`) value of the metric `monitor`.

    The first one of a training chooses the epoch that is scored.
    """

    def __init__(self, monitor: str, mode: str = "max", filename: str = "best") -> None:
        super().__init__(monitor=monitor, mode=mode, filename=filename)


class LastCheckpoint(RunCheckpoint):
    """`last.ckpt`, after every epoch, to go on from."""

    def __init__(self) -> None:
        super().__init__(filename="last", save_on_train_epoch_end=True)


class GradientNorm(pl.Callback):
    """Logs the gradients' norm over all parameters, `train/grad_norm`, at every step that is logged."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log before the gradients are clipped."""
        if (trainer.global_step + 1) % trainer.log_every_n_steps == 0:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            pl_module.log("train/grad_norm", torch.nn.utils.get_total_norm(gradients))


class StepTimes(pl.Callback):
    """Logs `data/wait_s`, seconds that a step waited for its batch, and `perf/samples_per_s`, of all processes.

    Both are of the steps since they were last logged in the epoch.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin here too: a training that goes on within an epoch starts none."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the time between epochs."""
        self._ended, self._throughput, self._steps = time.perf_counter(), Throughput(window_size=2), 0
        self._waits: list[float] = []
        self._throughput.update(time=self._ended, batches=0, samples=0)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        """The batch is there: count the time since the last one was done."""
        self._waits.append(time.perf_counter() - self._ended)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Log every few steps, and at the epoch's end."""
        self._ended, self._steps, steps = time.perf_counter(), self._steps + 1, batch_idx + 1
        if steps != trainer.num_training_batches and steps % trainer.log_every_n_steps:
            return
        pl_module.log("data/wait_s", sum(self._waits) / len(self._waits))
        self._waits = []
        samples = self._steps * getattr(trainer.datamodule, "batch_size", 0)
        if samples:
            self._throughput.update(time=self._ended, batches=self._steps, samples=samples)
            pl_module.log("perf/samples_per_s", self._throughput.compute()["device/samples_per_sec"])


class EpochLines(pl.Callback):
    """A line an epoch on stderr with the logged metrics; at a terminal Lightning's rich bar takes its place."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Add the bar at a terminal."""
        self._started = time.monotonic()
        has_bar = any(isinstance(callback, RichProgressBar) for callback in trainer.callbacks)
        if sys.stderr.isatty() and not has_bar and not trainer.fast_dev_run:
            bar = RichProgressBar()
            trainer.callbacks.append(bar)
            bar.setup(trainer, pl_module, stage)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch's line."""
        if sys.stderr.isatty() or not trainer.is_global_zero:
            return
        shown = "  ".join(f"{name} {float(value):.4g}" for name, value in sorted(trainer.callback_metrics.items()))
        of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        passed = time.monotonic() - self._started
        print(f"epoch {trainer.current_epoch + 1}{of}  {passed:.0f} s  {shown}", file=sys.stderr, flush=True)


class ExportWeights(pl.Callback):
    """Writes `<run>/weights/<name>.safetensors` for each of the module's `exports()` when a fit ends.

    `exports()` returns {name: (nn.Module or {key: tensor}, manifest)}. Where a checkpoint callback monitors a
    metric the best epoch's weights are written, otherwise the last epoch's; the module keeps those that it has. A
    module's hyper-parameter `export_by` names the metric where several are monitored.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse an `export_by` that nothing monitors before anything is learned."""
        selection_rule(trainer, pl_module.hparams.get("export_by"))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights on rank 0."""
        exports = getattr(pl_module, "exports", None)
        if exports is None or trainer.fast_dev_run or trainer.interrupted or not trainer.is_global_zero:
            return
        common = {"epochs": trainer.current_epoch, "steps": trainer.global_step, "seed": global_seed()}
        by = pl_module.hparams.get("export_by")
        common["selection"] = selection_rule(trainer, by)
        best, kept = best_checkpoint(trainer, by), None
        if best:
            kept = deepcopy(pl_module.state_dict())
            stored = torch.load(best, map_location="cpu", weights_only=True)
            pl_module.load_state_dict(stored["state_dict"])
        for name, (source, manifest) in exports().items():
            tensors = source.state_dict() if isinstance(source, nn.Module) else source
            path = Path(trainer.default_root_dir) / "weights" / f"{name}.safetensors"
            save_weights(path, tensors, {**common, **manifest})
        if kept is not None:
            pl_module.load_state_dict(kept)


class WriteResults(pl.Callback):
    """Appends the module's `report` to `<run>/results.jsonl`, and writes its predictions, after fit and test.

    A module sets `report`, a `core.results.Report`, when an epoch of testing (or, where it has no test, of
    validation) ends; `write_predictions(folder, predictions)` puts predictions into the benchmark's own format.
    A test without a fit before it writes into `<run>/tests/<time>`: the training's own results stay as they are.
    The final scores also go to TensorBoard's HPARAMS, beside the hyper-parameters.
    """

    _fitted = False

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what the last validation found, for a module without a test."""
        if trainer.fast_dev_run:
            return
        self._fitted = True
        if trainer.is_global_zero:
            # of an earlier fit in the same folder, whose weights are gone too
            (Path(trainer.default_root_dir) / RESULTS).unlink(missing_ok=True)
        if not is_overridden("test_step", pl_module):
            self.on_test_end(trainer, pl_module)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what the test found."""
        report: Report | None = getattr(pl_module, "report", None)
        if report is None or trainer.fast_dev_run or not trainer.is_global_zero:
            return
        run = Path(trainer.default_root_dir)
        folder = run if self._fitted else new_folder(run / "tests" / time.strftime("%Y-%m-%d-%H%M%S"))
        config = run / "config.yaml"
        digest = sha256_file(config) if config.is_file() else None
        if self._fitted:
            # of an earlier training in the same folder
            (folder / RESULTS).unlink(missing_ok=True)
        append_results(folder / RESULTS, report.lines(global_seed(), selection_rule(trainer), digest))
        if report.predictions:
            pl_module.write_predictions(folder / PREDICTIONS, report.predictions)
        print(f"results{' and predictions' if report.predictions else ''} in {folder}", file=sys.stderr)
        if trainer.logger is not None:
            final = {f"final/{name}": float(value) for name, value in report.metrics.items()}
            trainer.logger.log_hyperparams(plain_hparams(pl_module), final)


class WritePredictions(BasePredictionWriter):
    """`kuleshov predict`: hands what `predict_step` gave, {sample id: answer}, to the module's `write_predictions`."""

    def __init__(self) -> None:
        super().__init__("epoch")

    def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices) -> None:
        """Gather all ranks' answers, and write them on rank 0 into `<run>/predictions`."""
        batches = [batch for part in predictions for batch in (part if isinstance(part, list) else [part])]
        answers = dict(gather_objects([item for batch in batches for item in batch.items()]))
        if trainer.is_global_zero and not trainer.fast_dev_run:
            folder = Path(trainer.default_root_dir) / PREDICTIONS
            pl_module.write_predictions(folder, answers)
            print(f"{len(answers)} predictions in {folder}", file=sys.stderr)


def new_folder(path: Path) -> Path:
    """`path`, or where it is there already the first of `path-2`, `path-3` ... that is not."""
    numbered = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([path], numbered) if not folder.exists())


def best_checkpoint(trainer: pl.Trainer, monitor: str | None = None) -> str:
    """The best epoch's checkpoint by a metric, the first that is monitored by default; empty where none is."""
    return getattr(_monitoring(trainer, monitor), "best_model_path", "")


def selection_rule(trainer: pl.Trainer, monitor: str | None = None) -> str:
    """How weights were chosen, in words; `monitor` as in `best_checkpoint`."""
    callback = _monitoring(trainer, monitor)
    return f"epoch with the {callback.mode}imum {callback.monitor}" if callback is not None else "last epoch"


def _monitoring(trainer: pl.Trainer, monitor: str | None) -> ModelCheckpoint | None:
    """The callback that keeps the best epoch by a metric.

    Raises:
        KuleshovError: a metric that none of them monitors.
    """
    known = {one.monitor: one for one in reversed(trainer.checkpoint_callbacks) if getattr(one, "monitor", None)}
    if monitor is not None and monitor not in known:
        raise KuleshovError(f"export_by={monitor}: no BestCheckpoint monitors it (known: {', '.join(known) or 'none'})")
    return known.get(monitor, next(reversed(known.values()), None))


def plain_hparams(module: pl.LightningModule) -> dict[str, Any]:
    """The hyper-parameters without what LightningCLI notes among them."""
    return {name: value for name, value in module.hparams.items() if not name.startswith("_")}


class BadFilesMonitor(pl.Callback):
    """Logs `data/decode_fail`, the number of unreadable files, after every epoch, and names them when the fit ends."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the number of files listed so far."""
        found = BadFiles(1, Path(trainer.default_root_dir) / BAD_FILES_FILE).reasons
        pl_module.log("data/decode_fail", float(len(found)), rank_zero_only=True)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Name the first files and why they could not be read."""
        path = Path(trainer.default_root_dir) / BAD_FILES_FILE
        reasons = BadFiles(1, path).reasons
        if trainer.is_global_zero and reasons:
            named = "; ".join(f"{name} ({reason})" for name, reason in list(reasons.items())[:5])
            log.warning("%d unreadable videos were replaced: %s; all in %s", len(reasons), named, path)


DEFAULT = (  # of every training, after those that its configuration names
    SeedEveryBatch,
    StopAtNonFinite,
    LastCheckpoint,
    ExportWeights,
    WriteResults,
    WritePredictions,
    GradientNorm,
    StepTimes,
    EpochLines,
)
