"""What the models of the LVU tasks share: context, loss, scores over movies, predictions, results."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from kuleshov.core.distributed import gather_objects
from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import sha256_file
from kuleshov.core.results import Result, append_results, global_seed
from kuleshov.core.weights import load_weights
from kuleshov.features.event_store import grid_step
from kuleshov.metrics import lvu_metrics as scores
from kuleshov.metrics.statistics import bootstrap_interval
from kuleshov.tasks.evaluate_lvu import summary, write_predictions
from kuleshov.tasks.lvu.lr_schedule import linear_or_cosine
from kuleshov.tasks.lvu.scene_context import Windows, contextualize
from kuleshov.training.optimization import parameter_groups
from kuleshov.txe.contextualizer import ContextKind, Contextualizer
from kuleshov.txe.feature_normalizer import Normalization

logger = logging.getLogger(__name__)
ROWS = {"none": "backbone", "scratch": "scratch", "pretrained": "pretrained"}


class MovieTask(pl.LightningModule):
    """Learns an LVU task from spans and is scored on movies; a subclass makes a span's logits.

    The network is built in `configure_model`, when the data's widths and classes are known.

    Args:
        context: `none` (the backbone's features as they are), `scratch` or `pretrained` (through TxE).
        txe_weights: the pretrained TxE; only with `pretrained`.
        context_hidden: TxE's width; the pretrained weights decide where it is not given, else 1024.
        context_layers: TxE's layers; likewise, else 3.
        context_heads: TxE's attention heads; likewise, else 16.
        context_feedforward: TxE's feed-forward width; likewise, else 2048.
        context_windows: `sliding` windows of five events over a movie, or `blocks` that do not overlap.
        token_stride: seconds between two events of a window.
        normalize: statistics of the training features that are applied to them: none, center, standardize.
        frozen: leave TxE as it is; every movie is then contextualized once, before training.
        lr: learning rate.
        context_lr: learning rate of TxE; the same by default.
        weight_decay: of kernels.
        schedule: the rate falls to 0 `linear`ly or by a `cosine`.
        warmup_share: share of the steps over which the rate rises.
        row: name of the table's row; by default the context's.
    """

    def __init__(
        self,
        context: ContextKind = "none",
        txe_weights: str | None = None,
        context_hidden: int | None = None,
        context_layers: int | None = None,
        context_heads: int | None = None,
        context_feedforward: int | None = None,
        context_windows: Windows = "sliding",
        token_stride: float = 2.0,
        normalize: Normalization = "none",
        frozen: bool = False,
        lr: float = 1e-4,
        context_lr: float | None = None,
        weight_decay: float = 0.01,
        schedule: str = "linear",
        warmup_share: float = 0.1,
        row: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.context, self.txe_weights = context, txe_weights
        self.context_sizes = {
            "hidden": context_hidden,
            "layers": context_layers,
            "heads": context_heads,
            "feedforward": context_feedforward,
        }
        self.context_windows, self.token_stride = context_windows, token_stride
        self.normalize, self.frozen, self.row_name = normalize, frozen, row
        self.lr, self.context_lr, self.weight_decay = lr, context_lr, weight_decay
        self.schedule, self.warmup_share = schedule, warmup_share
        self.contextualizer: Contextualizer | None = None
        self._built = False
        self._found: list[tuple[str, list[float]]] = []

    def configure_model(self) -> None:
        """Build the network for the data's widths and classes; statistics are those of the training movies."""
        if self._built:
            return
        self._built = True
        data = self.trainer.datamodule
        self.classes = data.task.classes
        if data.event_width is not None:
            self._build_context(data)
        scene_width = None if self.contextualizer is None else self.contextualizer.out_width
        self.build(scene_width, data.instance_width, data.task.outputs)

    def _build_context(self, data: pl.LightningDataModule) -> None:
        self.step = grid_step(data.events, self.token_stride) if self.context != "none" else 1
        self.contextualizer = Contextualizer(
            self.context,
            data.event_width,
            self.txe_weights,
            normalize=self.normalize,
            frozen=self.frozen or self.context == "none",
            **self.context_sizes,
        )
        self.contextualizer.fit_statistics(data.training_events())
        self._whole_movies = self.contextualizer.frozen
        if self._whole_movies:
            data.replace_events(self._context_of_movie)
        elif self.context_windows == "sliding":
            data.margin = (self.contextualizer.txe.max_events - 1) * self.step

    @torch.no_grad()
    def _context_of_movie(self, events: Tensor) -> Tensor:
        """Contextualize a whole movie (L, D) -> (L, W) on the module's device."""
        length = torch.tensor([len(events)])
        events = events.to(self.device).unsqueeze(0)
        return contextualize(self.contextualizer, events, length, self.context_windows, self.step).squeeze(0).cpu()

    def scene(self, batch: dict[str, Tensor]) -> Tensor:
        """The batch's contextualized events, (B, L, D) -> (B, L, W)."""
        if self._whole_movies:
            return batch["events"]
        return contextualize(self.contextualizer, batch["events"], batch["length"], self.context_windows, self.step)

    def build(self, scene_width: int | None, instance_width: int | None, outputs: int) -> None:
        """Make the network for scene tokens of a width, region features of a width, and so many outputs."""
        raise NotImplementedError

    def span_logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Outputs of every span of the batch, (S, outputs)."""
        raise NotImplementedError

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Cross-entropy of (S, C) and class ids (S,), or the mean squared error of (S, 1) and values (S,)."""
        if self.classes:
            return F.cross_entropy(logits, label.long())
        return F.mse_loss(logits.squeeze(1), label.to(logits.dtype))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step's loss."""
        loss = self.loss(self.span_logits(batch), batch["label"][batch["movie"]])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["label"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Sum or average the spans of each movie."""
        self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Sum or average the spans of each movie."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: dict[str, Tensor], split: str) -> None:
        logits = self.span_logits(batch).float().cpu().numpy()
        movie, movies = batch["movie"].cpu().numpy(), len(batch["label"])
        if self.classes:
            values = scores.sum_probabilities(logits, movie, movies)
        else:
            values = scores.mean_values(logits[:, 0], movie, movies)[:, None]
        names = self.trainer.datamodule.movies[split]
        numbers = batch["number"].tolist()
        self._found += [(names[n].id, value.tolist()) for n, value in zip(numbers, values, strict=True)]

    def _predictions(self) -> dict[str, float]:
        """Every rank's predictions, once a movie: class id or centered value."""
        found = dict(gather_objects(self._found))
        self._found = []
        if not all(np.isfinite(values).all() for values in found.values()):
            raise KuleshovError("the model's outputs are not finite numbers: lower the learning rate")
        return {name: int(np.argmax(values)) if self.classes else values[0] for name, values in sorted(found.items())}

    def _summary(self, split: str, predicted: dict[str, float]) -> dict[str, Any]:
        data = self.trainer.datamodule
        scored = [row for row in data.rows[split] if row.video_id in predicted]
        return summary(data.task, data.rows["train"], scored, len(data.rows[split]), predicted)

    def on_validation_epoch_end(self) -> None:
        """Log the metric, and `val/score`: the same with more as better, to choose the epoch by."""
        report = self._summary("val", self._predictions())
        for name, value in report["metrics"].items():
            self.log(f"val/{name}", value, sync_dist=True)
        task = self.trainer.datamodule.task
        value = report["metrics"][task.metric]
        self.log("val/score", value if task.higher_is_better else -value, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """Write predictions and results on rank 0, and warn where they do not beat the trivial row."""
        predicted = self._predictions()
        if not self.trainer.is_global_zero:
            return
        folder, task = Path(self.trainer.default_root_dir), self.trainer.datamodule.task
        report = self._summary("test", predicted)
        if not self.trainer.fast_dev_run:
            write_predictions(folder / "predictions" / "test.csv", predicted)
            append_results(folder / "results.jsonl", self._results(report, predicted))
        if not report["beats_trivial"]:
            logger.warning(
                "%s, row %s: test %s %.4g does not beat the trivial row's %.4g",
                task.name,
                self.row,
                task.metric,
                report["metrics"][task.metric],
                report["trivial"][task.metric],
            )

    def _results(self, report: dict[str, Any], predicted: dict[str, float]) -> list[Result]:
        data, config = self.trainer.datamodule, Path(self.trainer.default_root_dir) / "config.yaml"
        common = {key: report[key] for key in ("n", "of", "sample_ids_sha256")}
        common |= {"task": data.task.name, "split": "test"}
        made = {
            **common,
            "seed": global_seed(),
            "row": self.row,
            "selection": self._selection(),
            "weights_sha256": self._weights_sha256(),
            "config_sha256": sha256_file(config) if config.is_file() else None,
        }
        rows = [row for row in data.rows["test"] if row.video_id in predicted]
        low, high = bootstrap_interval(
            scores.movie_scores(
                np.array([predicted[row.video_id] for row in rows]),
                np.array([row.label for row in rows]),
                bool(self.classes),
            )
        )
        metric = data.task.metric
        values = {**report["metrics"], f"{metric}_low95": low, f"{metric}_high95": high}
        lines = [Result(metric=name, value=value, **made) for name, value in values.items()]
        return lines + [
            Result(metric=name, value=value, row="trivial", **common) for name, value in report["trivial"].items()
        ]

    @property
    def row(self) -> str:
        """The table's row that this training belongs to."""
        return self.row_name or ROWS[self.context]

    def _selection(self) -> str:
        monitor = getattr(self.trainer.checkpoint_callback, "monitor", None)
        return f"epoch with best {monitor}" if monitor else "last epoch"

    def _weights_sha256(self) -> str | None:
        if self.txe_weights is not None:
            return load_weights(self.txe_weights)[1]["sha256"]
        events = self.trainer.datamodule.events
        return events.backbone_sha256 if events is not None else None

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; TxE's rate may differ from the rest's."""
        groups = []
        for module in self.children():
            of_context = module is self.contextualizer and self.context_lr is not None
            lr = self.context_lr if of_context else self.lr
            groups += [{**group, "lr": lr} for group in parameter_groups(module, self.weight_decay)]
        optimizer = torch.optim.AdamW(groups, lr=self.lr)
        total = int(self.trainer.estimated_stepping_batches)
        schedule = linear_or_cosine(optimizer, self.schedule, round(self.warmup_share * total), total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
