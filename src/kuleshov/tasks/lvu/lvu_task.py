"""An LVU task: learned from spans, scored on movies."""

import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kuleshov.core.errors import KuleshovError
from kuleshov.core.results import Report
from kuleshov.features.feature_store import grid_step
from kuleshov.metrics import lvu_metrics
from kuleshov.metrics.statistics import bootstrap_interval
from kuleshov.tasks.event_task import EventTask, Stage
from kuleshov.tasks.lvu.evaluate_lvu import score_movies, write_predictions
from kuleshov.tasks.lvu.lvu_data import SPLIT_OF

logger = logging.getLogger(__name__)


class LvuTask(EventTask):
    """Learns from spans by a subclass's `span_logits`; a movie's answer sums or averages those of all its spans.

    Where nothing before the head learns, every movie is contextualized once, whole, when the data is first read.

    Args:
        txe_windows: `sliding` windows of five events over a movie, or `blocks` that do not overlap.
        token_stride: seconds between two events of a window.
    """

    def __init__(
        self, *, txe_windows: Literal["sliding", "blocks"] = "sliding", token_stride: float = 2.0, **shared
    ) -> None:
        super().__init__(**shared)

    target = "label"

    @property
    def task(self) -> str:
        """The LVU task's name, as the data says."""
        return self.facts.get("task", "lvu")

    @property
    def outputs(self) -> int:
        """The classes, or one value."""
        return self.facts["classes"] or 1

    def configure_model(self) -> None:
        super().configure_model()
        if self.contextualizer is None:
            return
        data, txe = self.trainer.datamodule, self.contextualizer.txe
        self.facts["step"] = grid_step(data.events, self.hparams.token_stride) if txe is not None else 1
        if self.encodes_whole_movies:
            data.encode_events(self.encode_movie)
        elif txe is not None and self.hparams.txe_windows == "sliding":
            data.margin = (txe.max_events - 1) * self.facts["step"]

    @property
    def encodes_whole_movies(self) -> bool:
        """Whether the contextualizer learns nothing, so that the data can hold its output."""
        return not any(parameter.requires_grad for parameter in self.contextualizer.parameters())

    @torch.no_grad()
    def encode_movie(self, events: Tensor) -> Tensor:
        """Contextualize a whole movie (L, D) -> (L, W) on the module's device."""
        return self._contextualize(events.to(self.device).unsqueeze(0), torch.tensor([len(events)])).squeeze(0).cpu()

    def _contextualize(self, events: Tensor, length: Tensor) -> Tensor:
        windows, step = self.hparams.txe_windows, self.facts["step"]
        return self.contextualizer.contextualize_padded(events, length, windows, step)

    def scene(self, batch: dict[str, Tensor]) -> Tensor:
        """The batch's contextualized events, (B, L, D) -> (B, L, W)."""
        if self.encodes_whole_movies:
            return batch["events"]
        return self._contextualize(batch["events"], batch["length"])

    def span_logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Outputs of every span of the batch, (S, outputs)."""
        raise NotImplementedError

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        logits, label = self.span_logits(batch), batch["label"][batch["movie"]]
        if self.facts["classes"]:
            return F.cross_entropy(logits, label.long())
        return F.mse_loss(logits.squeeze(1), label.to(logits.dtype))

    def answer(self, batch: dict[str, Tensor]) -> Tensor:
        """Summed probabilities (B, C) or mean values (B, 1) of each movie's spans, float64."""
        logits = self.span_logits(batch)
        plain, movie, movies = logits.float().cpu().numpy(), batch["movie"].cpu().numpy(), len(batch["label"])
        if self.facts["classes"]:
            values = lvu_metrics.sum_probabilities(plain, movie, movies)
        else:
            values = lvu_metrics.mean_values(plain[:, 0], movie, movies)[:, None]
        dtype = torch.float32 if logits.device.type == "mps" else torch.float64  # MPS has no float64
        return torch.from_numpy(values).to(logits.device, dtype)

    def decode(self, sample_ids: list[str], answers: Tensor) -> dict[str, float]:
        """Class id (the lowest of several best) or centered value by movie.

        Raises:
            KuleshovError: answers that are not finite.
        """
        values = answers.cpu().numpy().reshape(len(sample_ids), -1)
        if not np.isfinite(values).all():
            raise KuleshovError("the model's outputs are not finite numbers: lower the learning rate")
        decoded = values.argmax(1) if self.facts["classes"] else values[:, 0]
        return dict(zip(sample_ids, decoded.tolist(), strict=True))

    def evaluate(self, predicted: dict[str, float], stage: Stage) -> Report:
        """The official metrics; `score`, of which more is better, on val; the metric's bootstrap interval on test."""
        data, split = self.trainer.datamodule, SPLIT_OF[stage]
        task, found = data.task, score_movies(data.task, data.rows, split, predicted)
        scored = [row for row in data.rows[split] if row.video_id in predicted]
        ids = [row.video_id for row in scored]
        report: dict[str, Any] = {"task": task.name, "split": split, "row": self.row}
        report |= {"sample_ids": ids, "of": found.of, "trivial": found.trivial}
        value = found.metrics[task.metric]
        if stage == "val":
            score = value if task.higher_is_better else -value
            return Report(metrics={**found.metrics, "score": score}, **report)
        answers, labels = np.array([predicted[name] for name in ids]), np.array([row.label for row in scored])
        low, high = bootstrap_interval(lvu_metrics.movie_scores(answers, labels, bool(task.classes)))
        interval = {f"{task.metric}_low95": low, f"{task.metric}_high95": high}
        if not found.beats_trivial and self.trainer.is_global_zero:
            trivial = found.trivial[task.metric]
            logger.warning(
                f"{task.name}, row {self.row}: test {task.metric} {value:.4g} does not beat the trivial row's "
                f"{trivial:.4g}"
            )
        report |= {"origin": self.origin(), "weights_sha256": self.weights_sha256()}
        return Report(metrics=found.metrics | interval, predictions=predicted, **report)

    def write_predictions(self, folder: Path, predictions: dict[str, float]) -> None:
        """Write `test.csv`, official `video_id,prediction` lines."""
        write_predictions(Path(folder) / "test.csv", predictions)
