"""Which verbs are taken for which: events by the annotators' verb and by the verb that a row names."""

from collections import Counter
from dataclasses import dataclass

from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.metrics.confusion_matrix import confusion_matrix
from kuleshov.report.columns import row_order
from kuleshov.report.job_answers import SplitAnswers


@dataclass(frozen=True)
class Confusion:
    """A row's confusion matrix: `counts[i][j]` events that most annotators call `verbs[i]` and the row `verbs[j]`."""

    row: str
    verbs: list[str]
    counts: list[list[int]]
    right: int

    @property
    def n(self) -> int:
        """Number of events."""
        return sum(map(sum, self.counts))


def confusions(answers: SplitAnswers) -> list[Confusion]:
    """The matrix of each row that names verbs: the annotators' commonest verbs, and the others."""
    names, annotated = answers.segments(), VidSitu(answers.root).verbs(answers.split)
    found = []
    for task, row, predicted in sorted(answers.rows, key=lambda one: row_order(one[1])):
        pairs = [
            (Counter(given).most_common(1)[0][0], ranked[0])
            for number, events in (predicted if task == "verbs" else {}).items()
            for given, ranked in zip(annotated.get(names[number], []), events, strict=False)
            if given and ranked
        ]
        if pairs:
            found.append(confusion(row, pairs))
    return found


def confusion(row: str, pairs: list[tuple[str, str]]) -> Confusion:
    """The matrix of (annotators' verb, named verb) pairs."""
    verbs, counts = confusion_matrix(pairs)
    return Confusion(row, verbs, counts.tolist(), sum(given == named for given, named in pairs))
