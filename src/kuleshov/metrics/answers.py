"""The metric under all tasks: an answer a sample, collected over batches and ranks, each sample once."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

Score = Callable[[Tensor, Tensor], Mapping[str, float]]


class Answers(Metric):
    """Collects answers (B, ...) by the samples' places (B,), and scores them with a pure function.

    A distributed sampler repeats samples to make the ranks' shares even: each place counts once.

    Args:
        score: (places (n,), answers (n, ...)), in the order of the places -> figures by name; None to collect alone.
    """

    full_state_update = False
    place: list[Tensor]
    answer: list[Tensor]

    def __init__(self, score: Score | None = None) -> None:
        super().__init__()
        self.score = score
        self.add_state("place", [], dist_reduce_fx="cat")
        self.add_state("answer", [], dist_reduce_fx="cat")

    def update(self, place: Tensor, answer: Tensor) -> None:
        """Add a batch's answers; all batches' have the same shape but for the first dimension."""
        self.place.append(place.detach())
        self.answer.append(answer.detach())

    def compute(self) -> dict:
        """`place` (n,), ascending, and `answer` (n, ...) of all ranks, and the figures of `score`."""
        places, answers = dim_zero_cat(self.place), dim_zero_cat(self.answer)
        ordered, order = places.sort(stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        first[1:] = ordered[1:] != ordered[:-1]
        place, answer = ordered[first], answers[order[first]]
        scores = self.score(place, answer) if self.score is not None else {}
        return {"place": place, "answer": answer, **scores}
