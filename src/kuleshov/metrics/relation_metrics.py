"""VidSitu's event relation figures, with the official majority mask.

The official figures (TheShadow29/VidSitu, `EvlFn_EvRel`): Ev1, Ev2, Ev4 and Ev5 against Ev3; the first three
annotations in file order. The majority label is the most common one, ties to the first seen; an event counts
only where that label has two votes, and then once for each annotator who gave it, compared with the prediction
at that annotator's place.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from kuleshov.core.errors import KuleshovError

ANNOTATORS = 3
# the paper's columns, per cent, and the official figures that they show
COLUMNS = {"Mean-Acc": "Macro_Top_1", "Top1-Acc": "Top_1"}

# a segment's annotations: a list of four labels an annotator
Annotations = Sequence[Sequence[str]]


def majorities(annotations: Annotations) -> Iterator[tuple[str, int, tuple[str, ...]]]:
    """Majority label, its votes, and all labels of each of a segment's four events."""
    for given in zip(*annotations[:ANNOTATORS], strict=True):
        yield *Counter(given).most_common(1)[0], given


def score_relations(
    predictions: Sequence[Sequence[Sequence[str]]], annotations: Sequence[Annotations]
) -> dict[str, float | dict[str, float]]:
    """The official relation figures, unscaled, under their official names.

    A label that is the majority only where annotators tie has no mean; the official code divides by zero there.
    It is left out of the macro mean here (`masked_labels` names such labels).

    Args:
        predictions: per segment four events of one label per annotator place.
        annotations: per segment one list of four labels per annotator; those beyond the third are not read.

    Raises:
        KuleshovError: no event has a majority label.
    """
    by_label: dict[str, list[int]] = defaultdict(list)
    for predicted, annotated in zip(predictions, annotations, strict=True):
        for labels, (majority, votes, given) in zip(predicted, majorities(annotated), strict=True):
            if votes >= 2:
                asked = [label for label, vote in zip(labels, given, strict=True) if vote == majority]
                by_label[majority] += [int(label == majority) for label in asked]
    if not by_label:
        raise KuleshovError("no event has a relation that two annotators gave: there is nothing to score")
    recalls = {label: sum(hits) / len(hits) for label, hits in by_label.items()}
    hits = [hit for many in by_label.values() for hit in many]
    return {
        "Top_1": sum(hits) / len(hits),
        "Len": len(hits),
        "Macro_Top_1": sum(recalls.values()) / len(recalls),
        "Macro_Top_Dct": recalls,
    }


def masked_labels(annotations: Sequence[Annotations]) -> list[str]:
    """Labels that are the majority only where the annotators tie: the macro mean leaves them out."""
    found = [(label, votes >= 2) for annotated in annotations for label, votes, _ in majorities(annotated)]
    return sorted({label for label, _ in found} - {label for label, agreed in found if agreed})


def frequent_relation(annotations: Sequence[Annotations]) -> str:
    """The label that is the majority most often; the constant answer."""
    counts: Counter[str] = Counter()
    for label, votes, _ in (found for annotated in annotations for found in majorities(annotated)):
        if votes >= 2:
            counts[label] += votes
    return min(counts, key=lambda label: (-counts[label], label)) if counts else "NoRel"
