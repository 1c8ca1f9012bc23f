"""What the trainings on VidSitu's segments share: the benchmark's scores and its prediction files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kuleshov.core.errors import KuleshovError
from kuleshov.core.results import Report
from kuleshov.datasets.vidsitu_predictions import write_predictions
from kuleshov.metrics.vidsitu_scorers import SCORERS, Scorer
from kuleshov.tasks.event_task import ScoredTask, Stage


class SegmentTask(ScoredTask):
    """Scores the reported split as the benchmark does, and writes its prediction files; data: `VidSituData`."""

    _scorer: Scorer | None = None

    def extra_scores(self, predicted: Mapping[str, Any]) -> dict[str, tuple[float, int]]:
        """Further figures of {segment: prediction}: name -> (value, number of segments)."""
        return {}

    def evaluate(self, predicted: dict[str, Any], stage: Stage) -> Report | None:
        """The paper's columns, per cent: to choose an epoch those that are quickly made, else the trivial rows too."""
        data = self.trainer.datamodule
        scorer = self.scorer(stage)
        if scorer is None:
            return None
        numbers = {name: number for number, name in enumerate(data.split_ids)}
        answers = {numbers[name]: answer for name, answer in predicted.items()}
        if stage == "val":
            metrics, trivial, counts = scorer.headline(answers), {}, {}
            metrics |= {name: value for name, (value, _) in self.extra_scores(predicted).items()}
        else:
            constant, _ = scorer.trivial()
            metrics, counts = self._figures(scorer, answers)
            trivial, _ = self._figures(scorer, {number: constant[number] for number in answers})
        return Report(
            task=self.task,
            split=data.split,
            row=self.row,
            metrics=metrics,
            trivial=trivial,
            sample_ids=list(predicted),
            of=len(data.split_ids),
            counts=counts,
            weights_sha256=self.weights_sha256(),
            predictions=predicted,
        )

    def _figures(self, scorer: Scorer, answers: dict[int, Any]) -> tuple[dict[str, float], dict[str, int]]:
        extra = self.extra_scores({scorer.segments[number]: answer for number, answer in answers.items()})
        metrics = scorer.table(scorer.official(answers)) | {name: value for name, (value, _) in extra.items()}
        return metrics, {name: count for name, (_, count) in extra.items()}

    def scorer(self, stage: Stage) -> Scorer | None:
        """The split's scorer, made once; None where a test split's labels are withheld.

        Raises:
            KuleshovError: labels are missing where there should be some.
        """
        data = self.trainer.datamodule
        if self._scorer is None:
            try:
                self._scorer = SCORERS[self.task](data.annotations, data.split, data.split_ids)
            except KuleshovError:
                if stage != "test" or not data.split.startswith("test"):
                    raise
        return self._scorer

    def write_predictions(self, folder: Path, predictions: dict[str, Any]) -> None:
        """Write the official file, `<split>.json`."""
        data = self.trainer.datamodule
        write_predictions(Path(folder) / f"{data.split}.json", self.task, predictions, data.split_ids)
