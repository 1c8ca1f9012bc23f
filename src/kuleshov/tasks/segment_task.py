"""What the three VidSitu tasks share of their training: context, optimisation, predictions, results."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from kuleshov.context.features import ContextKind, Contextualizer
from kuleshov.context.model import Normalization
from kuleshov.core.distributed import gather_objects, rank
from kuleshov.core.manifest import sha256_file
from kuleshov.core.optim import parameter_groups, warmup_cosine
from kuleshov.core.random import numpy_generator
from kuleshov.core.results import Result, append_results, global_seed
from kuleshov.core.weights import load_weights
from kuleshov.metrics.vidsitu import SCORERS, Scorer
from kuleshov.tasks.evaluate_vidsitu import evaluate, write_predictions

ROWS = {"none": "backbone", "scratch": "scratch", "pretrained": "pretrained", "language": "language"}


class SegmentTask(pl.LightningModule):
    """Learns a task on contextualized event features; a subclass brings the head and the loss.

    The network is built in `configure_model`, when the data is known.

    Args:
        context: `none` (the backbone's features as they are), `scratch` or `pretrained` (through TxE).
        txe_weights: the pretrained TxE; only with `pretrained`.
        hidden: TxE's width; the pretrained weights decide where it is not given, else 1024.
        layers: TxE's layers; likewise, else 3.
        heads: TxE's attention heads; likewise, else 16.
        feedforward: TxE's feed-forward width; likewise, else 2048.
        dropout: TxE's dropout while the task is learned.
        normalize: statistics of the training features that are applied to them: none, center, standardize.
        layer_norm: with `none`, normalise each event feature over its width, as TxE's output is.
        frozen: leave TxE as it is, only the head learns.
        lr: learning rate.
        context_lr: learning rate of TxE; the same by default.
        weight_decay: of kernels.
        beta2: second moment's decay of AdamW.
        warmup_epochs: epochs of linear warm-up.
        final_lr_factor: 1 keeps the rate constant after the warm-up; less lets it fall to this share by a cosine.
    """

    task = ""

    def __init__(
        self,
        context: ContextKind = "none",
        txe_weights: str | None = None,
        hidden: int | None = None,
        layers: int | None = None,
        heads: int | None = None,
        feedforward: int | None = None,
        dropout: float = 0.1,
        normalize: Normalization = "none",
        layer_norm: bool = False,
        frozen: bool = False,
        lr: float = 1e-4,
        context_lr: float | None = None,
        weight_decay: float = 0.0,
        beta2: float = 0.99,
        warmup_epochs: float = 0.0,
        final_lr_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.context, self.txe_weights, self.frozen = context, txe_weights, frozen
        self.sizes = {"hidden": hidden, "layers": layers, "heads": heads, "feedforward": feedforward}
        self.dropout, self.normalize, self.layer_norm = dropout, normalize, layer_norm
        self.lr, self.context_lr, self.weight_decay, self.beta2 = lr, context_lr, weight_decay, beta2
        self.warmup_epochs, self.final_lr_factor = warmup_epochs, final_lr_factor
        self.contextualizer: Contextualizer | None = None
        self._built = False
        self._scorer: Scorer | None = None
        self._predicted: list[tuple[int, Any]] = []

    def configure_model(self) -> None:
        """Build the network for the data's widths; feature statistics are those of the training segments."""
        if self._built:
            return
        self._built = True
        if self.context == "language":
            self.build(None)
            return
        data = self.trainer.datamodule
        self.contextualizer = Contextualizer(
            self.context,
            data.width,
            self.txe_weights,
            dropout=self.dropout,
            normalize=self.normalize,
            frozen=self.frozen,
            layer_norm=self.layer_norm,
            **self.sizes,
        )
        self.contextualizer.fit_statistics(data.train_features)
        self.build(self.contextualizer.out_width)

    def build(self, width: int | None) -> None:
        """Make the head for contextualized features of this width; None where there are none."""
        raise NotImplementedError

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The batch's training loss, a scalar."""
        raise NotImplementedError

    def predict(self, batch: dict[str, Tensor]) -> list[Any]:
        """What is predicted for each of the batch's segments, as `write_predictions` takes it."""
        raise NotImplementedError

    def scores(self, predicted: dict[str, Any]) -> dict[str, float]:
        """The paper's columns for {segment: prediction}, per cent, to choose the epoch by."""
        data = self.trainer.datamodule
        if self._scorer is None:
            self._scorer = SCORERS[self.task](data.annotations, data.split, data.split_ids)
        numbers = {name: number for number, name in enumerate(data.split_ids)}
        answers = {numbers[name]: prediction for name, prediction in predicted.items()}
        return self._scorer.table(self._scorer.official(answers))

    def extra_scores(self, predicted: dict[str, Any]) -> dict[str, tuple[float, int]]:
        """Further figures of {segment: prediction}: name -> (value, number of segments)."""
        return {}

    def on_train_epoch_start(self) -> None:
        """Let dropout depend on seed, epoch and rank alone, so that a resumed training goes on alike."""
        seed = global_seed() or 0
        drawn = numpy_generator(seed, self.current_epoch, rank(), view=1).integers(2**62)
        torch.manual_seed(int(drawn))

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> Tensor:
        """One step's loss."""
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=batch["events"].shape[0])
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """Predict; the scores are made when the epoch ends."""
        self._predicted += zip(batch["place"].tolist(), self.predict(batch), strict=True)

    test_step = validation_step

    def _collect(self) -> dict[str, Any]:
        """Every rank's predictions, once a segment, in the split's order: {segment: prediction}."""
        found = dict(gather_objects(self._predicted))
        self._predicted = []
        names = self.trainer.datamodule.test_ids
        return {names[place]: found[place] for place in sorted(found)}

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
        report = evaluate(self.task, path, data.root, data.split, data.split_file, allow_missing=True, vocabulary=data.vocabulary_file)
        append_results(folder / "results.jsonl", self._results(report, self.extra_scores(predicted)))

    def _results(self, report: dict, extra: dict[str, tuple[float, int]]) -> list[Result]:
        data = self.trainer.datamodule
        common = {
            "task": self.task,
            "split": data.split,
            "of": report["of"],
            "sample_ids_sha256": report["sample_ids_sha256"],
        }
        config = Path(self.trainer.default_root_dir) / "config.yaml"
        made = {
            **common,
            "seed": global_seed(),
            "row": self.row,
            "selection": self._selection(),
            "weights_sha256": self._weights_sha256(),
            "config_sha256": sha256_file(config) if config.is_file() else None,
        }
        n = report["n"]
        lines = [Result(metric=name, value=value, n=n, **made) for name, value in report["metrics"].items()]
        lines += [Result(metric=name, value=value, n=count, **made) for name, (value, count) in extra.items()]
        trivial = {**common, "n": n, "row": "trivial"}
        lines += [Result(metric=name, value=value, **trivial) for name, value in report["trivial"].items()]
        return lines

    @property
    def row(self) -> str:
        """The table's row that this training belongs to."""
        return ROWS[self.context]

    def _selection(self) -> str:
        callback = self.trainer.checkpoint_callback
        monitor = getattr(callback, "monitor", None)
        return f"epoch with best {monitor} on {self.trainer.datamodule.split}" if monitor else "last epoch"

    def _weights_sha256(self) -> str | None:
        if self.txe_weights is not None:
            return load_weights(self.txe_weights)[1]["sha256"]
        return self.trainer.datamodule.backbone_sha256

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with betas 0.9 and `beta2`; TxE's rate may differ from the head's."""
        groups = []
        for _, module in self.named_children():
            of_context = module is self.contextualizer and self.context_lr is not None
            lr = self.context_lr if of_context else self.lr
            groups += [{**group, "lr": lr} for group in parameter_groups(module, self.weight_decay)]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, self.beta2))
        total = int(self.trainer.estimated_stepping_batches)
        warmup = round(self.warmup_epochs * total / max(1, self.trainer.max_epochs or 1))
        warmup = 0 if self.trainer.fast_dev_run else warmup  # one step is no training to warm up for
        schedule = warmup_cosine(optimizer, warmup, total, self.final_lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
