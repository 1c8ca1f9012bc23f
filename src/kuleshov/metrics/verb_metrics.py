"""VidSitu's verb figures: hits among the annotators' verbs, and recall averaged over verbs.

The official figures (TheShadow29/VidSitu, `EvlFn_Vb`): a rank-k hit is any of the first k verbs among the
first ten annotators' verbs of the event. Recall looks at verbs that at least two of these ten gave, hit by any
of the five predicted verbs, averaged per verb, over verbs with strictly more than a threshold of such events.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

RANKS = 5
ANNOTATORS = 10
THRESHOLDS = range(10)
# the paper's columns, per cent, and the official figures that they show
COLUMNS = {"Acc@1": "Per_Ev_Top_1", "Acc@5": "Per_Ev_Top_5", "Recall@5": "recall_macro_1_th_9"}

EventVerbs = Sequence[Sequence[str]]


def score_verbs(predictions: Sequence[EventVerbs], annotations: Sequence[EventVerbs]) -> dict[str, float]:
    """The official verb figures, unscaled, under their official names.

    Args:
        predictions: per segment five events of ranked verb ids; those beyond the fifth are not read.
        annotations: per segment five events of one verb id per annotator; those beyond the tenth are not read.
    """
    hits: list[list[int]] = []  # an entry an event: hit at rank 1..5
    videos: list[list[int]] = []  # an entry a segment: all events hit
    recalled: dict[str, list[int]] = defaultdict(list)
    for predicted, annotated in zip(predictions, annotations, strict=True):
        events = []
        for verbs, given in zip(predicted, annotated, strict=True):
            ranked, counts = verbs[:RANKS], Counter(given[:ANNOTATORS])
            first = next((rank for rank, verb in enumerate(ranked) if verb in counts), RANKS)
            events.append([int(first < k) for k in range(1, RANKS + 1)])
            for verb, count in counts.items():
                if count >= 2:
                    recalled[verb].append(int(verb in ranked))
        hits += events
        videos.append([min(column) for column in zip(*events, strict=True)])
    figures = {f"Per_Ev_Top_{k + 1}": _mean([row[k] for row in hits]) for k in range(RANKS)}
    figures |= {f"Per_Vid_Top_{k + 1}": _mean([row[k] for row in videos]) for k in range(RANKS)}
    figures["acc"] = figures[f"Per_Ev_Top_{RANKS}"]
    for threshold in THRESHOLDS:
        kept = [_mean(values) for values in recalled.values() if len(values) > threshold]
        figures[f"recall_macro_1_th_{threshold}"] = _mean(kept)
        figures[f"num_vbs_thresh_{threshold}"] = float(len(kept))
    return figures


def frequent_verbs(annotations: Sequence[EventVerbs], number: int = RANKS) -> list[str]:
    """The verbs that the first ten annotators gave most often; ties in alphabetical order."""
    counts = Counter(verb for events in annotations for given in events for verb in given[:ANNOTATORS])
    return sorted(counts, key=lambda verb: (-counts[verb], verb))[:number]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
