"""What all trainings on VidSitu's segments share: optimization, predictions, results."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from kuleshov.core.distributed import gather_objects
from kuleshov.core.files import sha256_file
from kuleshov.core.results import Result, append_results, global_seed
from kuleshov.metrics.vidsitu_scorers import SCORERS, Scorer
from kuleshov.tasks.evaluate_vidsitu import evaluate, write_predictions
from kuleshov.training.optimization import parameter_groups, warmup_cosine


class SegmentTask(pl.LightningModule):
    """Trains on segments and scores the reported split as the benchmark does; a subclass brings the network.

    Reads from its datamodule: `annotations`, `root`, `split`, `split_file`, `split_ids` (the split's segments),
    `test_ids` (those that are there), `vocabulary_file`, `set_epoch`. Batches outside training bring `place`.

    Args:
        lr: learning rate.
        weight_decay: of kernels.
        beta2: second moment's decay of AdamW.
        warmup_epochs: epochs of linear warm-up.
        final_lr_factor: 1 keeps the rate constant after the warm-up; less lets it fall to this share by a cosine.
    """

    task = ""

    def __init__(
        self,
        *,
        lr: float = 1e-4,
        weight_decay: float = 0.0,
        beta2: float = 0.99,
        warmup_epochs: float = 0.0,
        final_lr_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr, self.weight_decay, self.beta2 = lr, weight_decay, beta2
        self.warmup_epochs, self.final_lr_factor = warmup_epochs, final_lr_factor
        self._scorer: Scorer | None = None
        self._predicted: list[tuple[int, Any]] = []

    @property
    def row(self) -> str:
        """The table's row that this training belongs to."""
        raise NotImplementedError

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The batch's training loss, a scalar."""
        raise NotImplementedError

    def predict(self, batch: dict[str, Tensor]) -> list[Any]:
        """What is predicted for each of the batch's segments, as `write_predictions` takes it."""
        raise NotImplementedError

    def extra_scores(self, predicted: dict[str, Any]) -> dict[str, tuple[float, int]]:
        """Further figures of {segment: prediction}: name -> (value, number of segments)."""
        return {}

    def weights_sha256(self) -> str | None:
        """sha256 of the weights that the training started from."""
        return None

    def on_train_epoch_start(self) -> None:
        """Tell the data which epoch it is."""
        self.trainer.datamodule.set_epoch(self.current_epoch)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step's loss."""
        loss = self.loss(batch)
        size = next(iter(batch.values())).shape[0]
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Predict; the scores are made when the epoch ends."""
        self._predicted += zip(batch["place"].tolist(), self.predict(batch), strict=True)

    test_step = validation_step

    def _collect(self) -> dict[str, Any]:
        """Every rank's predictions, once a segment, in the split's order: {segment: prediction}."""
        found = dict(gather_objects(self._predicted))
        self._predicted = []
        names = self.trainer.datamodule.test_ids
        return {names[place]: found[place] for place in sorted(found)}

    def scores(self, predicted: dict[str, Any]) -> dict[str, float]:
        """The paper's columns for {segment: prediction}, per cent, to choose the epoch by."""
        data = self.trainer.datamodule
        if self._scorer is None:
            self._scorer = SCORERS[self.task](data.annotations, data.split, data.split_ids)
        numbers = {name: number for number, name in enumerate(data.split_ids)}
        answers = {numbers[name]: prediction for name, prediction in predicted.items()}
        return self._scorer.table(self._scorer.official(answers))

    def on_validation_epoch_end(self) -> None:
        """Log the task's figures."""
        predicted = self._collect()
        extra = {name: value for name, (value, _) in self.extra_scores(predicted).items()}
        for name, value in {**self.scores(predicted), **extra}.items():
            self.log(f"val/{name}", float(value), sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """Write predictions and results on rank 0."""
        predicted = self._collect()
        if not self.trainer.is_global_zero:
            return
        data, folder = self.trainer.datamodule, Path(self.trainer.default_root_dir)
        path = folder / "predictions" / f"{data.split}.json"
        write_predictions(path, self.task, predicted, data.split_ids)
        report = evaluate(
            self.task, path, data.root, data.split, data.split_file, allow_missing=True, vocabulary=data.vocabulary_file
        )
        append_results(folder / "results.jsonl", self._results(report, predicted))

    def _results(self, report: dict, predicted: dict[str, Any]) -> list[Result]:
        config = Path(self.trainer.default_root_dir) / "config.yaml"
        common = {
            "task": self.task,
            "split": self.trainer.datamodule.split,
            "of": report["of"],
            "sample_ids_sha256": report["sample_ids_sha256"],
        }
        made = {
            **common,
            "seed": global_seed(),
            "row": self.row,
            "selection": self._selection(),
            "weights_sha256": self.weights_sha256(),
            "config_sha256": sha256_file(config) if config.is_file() else None,
        }
        n = report["n"]
        lines = [Result(metric=name, value=value, n=n, **made) for name, value in report["metrics"].items()]
        extra = self.extra_scores(predicted)
        lines += [Result(metric=name, value=value, n=count, **made) for name, (value, count) in extra.items()]
        trivial = {**common, "row": "trivial"}
        lines += [Result(metric=name, value=value, n=n, **trivial) for name, value in report["trivial"].items()]
        extra = self.extra_scores(self._trivial(predicted)) if extra else {}
        lines += [Result(metric=name, value=value, n=count, **trivial) for name, (value, count) in extra.items()]
        return lines

    def _trivial(self, predicted: dict[str, Any]) -> dict[str, Any]:
        """What the trivial predictor says of the predicted segments."""
        data = self.trainer.datamodule
        constant, _ = SCORERS[self.task](data.annotations, data.split, data.split_ids).trivial()
        numbers = {name: number for number, name in enumerate(data.split_ids)}
        return {name: constant[numbers[name]] for name in predicted}

    def _selection(self) -> str:
        callback = self.trainer.checkpoint_callback
        monitor = getattr(callback, "monitor", None)
        return f"epoch with best {monitor} on {self.trainer.datamodule.split}" if monitor else "last epoch"

    def rate(self, module: nn.Module) -> float:
        """The learning rate of one of the module's children."""
        return self.lr

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with betas 0.9 and `beta2`, warm-up, then constant or a cosine."""
        groups = []
        for module in self.children():
            named = parameter_groups(module, self.weight_decay)
            groups += [{**group, "lr": self.rate(module)} for group in named]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, self.beta2))
        total = int(self.trainer.estimated_stepping_batches)
        warmup = round(self.warmup_epochs * total / max(1, self.trainer.max_epochs or 1))
        warmup = min(warmup, total)  # a shortened training (fast_dev_run) is all warm-up
        schedule = warmup_cosine(optimizer, warmup, total, self.final_lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
