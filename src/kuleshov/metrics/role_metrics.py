"""VidSitu's semantic role figures: CIDEr, BLEU, ROUGE-L by verb and by role, LEA and soft LEA.

The official figures (TheShadow29/VidSitu, `EvalFnCap`). What defines them:

- roles Arg0, Arg1, Arg2, ALoc, AScn; one item for each such argument of reference 0, event by event, in the
  order of its `Args`; a role that is not predicted reads ""; the predicted verb is not read;
- references: the annotations permuted by one legacy NumPy generator (seed 5, one permutation a segment in split
  order), without number 3 of the permuted list, at most three; number 3 is the human hypothesis. A subset of
  the segments therefore sees other permutations;
- the figures inside verbs (of reference 0) and roles recompute everything, document frequencies included;
- LEA (Moosavi and Strube, ACL 2016) asks whether two role texts that name the same thing still agree: a cluster is a
  list of mentions (`Ev1_Arg0`) that carry the same text. It compares with each reference separately over all five
  events (F1 over the corpus, then the mean); a prediction without Ev1 is left out of it. Soft LEA's precision weighs
  a cluster by the CIDEr of its texts (Sadhu et al., CVPR 2021).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kuleshov.core.errors import KuleshovError
from kuleshov.datasets.vidsitu_format import EVENTS, Annotation, role_of
from kuleshov.metrics.caption_metrics import Captions

SCORED_ROLES = ("Arg0", "Arg1", "Arg2", "ALoc", "AScn")
REFERENCES = 3
HUMAN = 3
SEED = 5
# the paper's columns, per cent, and the official figures that they show (CIDEr is printed a hundred times as great)
COLUMNS = {
    "CIDEr": "cider",
    "CIDEr-verb": "MacroVb_cider",
    "CIDEr-arg": "MacroArg_cider",
    "ROUGE-L": "rouge",
    "LEA": "lea",
    "LEA-soft": "lea_soft",
}

# event name -> role -> text; an event may be absent
Prediction = Mapping[str, Mapping[str, str]]
Clusters = Sequence[Sequence[str]]


@dataclass(frozen=True)
class References:
    """What a segment's prediction is compared with: at most three annotations, of which number 0 decides which
    roles are asked for; and the one kept as the human hypothesis, None where there are fewer than four."""

    segment: str
    annotations: Sequence[Annotation]
    human: Annotation | None


@dataclass(frozen=True)
class Item:
    """One role of one event: segment number, event, short role name, verb of reference 0, reference texts."""

    segment: int
    event: str
    role: str
    verb: str
    texts: list[str]


def choose_references(
    segments: Sequence[str], annotations: Mapping[str, Sequence[Annotation]], drawn_over: Sequence[str] | None = None
) -> list[References]:
    """The official choice of references; the permutations depend on all segments that are drawn over, and their order.

    Args:
        segments: those whose references are wanted.
        annotations: segment -> annotations.
        drawn_over: segments to draw over, `segments` among them; these themselves by default.

    Raises:
        KuleshovError: a segment has no annotation, or is not among those that are drawn over.
    """
    if drawn_over is not None:
        found = {one.segment: one for one in choose_references(drawn_over, annotations)}
        strange = [segment for segment in segments if segment not in found]
        if strange:
            raise KuleshovError(f"segment {strange[0]} is not in the split whose references are drawn")
        return [found[segment] for segment in segments]
    generator = np.random.RandomState(SEED)  # the official numbers are defined by this legacy generator
    chosen = []
    for segment in segments:
        given = annotations.get(segment, [])
        if not given:
            raise KuleshovError(f"segment {segment} has no role annotation")
        permuted = [given[i] for i in generator.permutation(len(given))]
        human = permuted[HUMAN] if len(permuted) > HUMAN else None
        references = [one for i, one in enumerate(permuted) if i != HUMAN][:REFERENCES]
        chosen.append(References(segment, references, human))
    return chosen


def role_items(references: Sequence[References]) -> list[Item]:
    """The items that are scored, in the official order.

    Raises:
        KuleshovError: annotators without the same argument names, a segment without any scored role.
    """
    items = []
    for number, one in enumerate(references):
        before = len(items)
        for place, event in enumerate(EVENTS):
            first = one.annotations[0][place]
            for name in first.arguments:
                if role_of(name) not in SCORED_ROLES:
                    continue
                without = [i for i, other in enumerate(one.annotations) if name not in other[place].arguments]
                if without:
                    raise KuleshovError(
                        f"segment {one.segment}, {event}: annotators must share argument names, but {name!r} is "
                        f"only with some of them (missing in reference {without[0]})"
                    )
                texts = [other[place].arguments[name] for other in one.annotations]
                items.append(Item(number, event, role_of(name), first.verb, texts))
        if len(items) == before:
            raise KuleshovError(f"segment {one.segment}: reference 0 has none of the roles {', '.join(SCORED_ROLES)}")
    return items


def score_roles(
    predictions: Sequence[Prediction], references: Sequence[References], headline: bool = False
) -> dict[str, float]:
    """The official role figures, unscaled, under their official names (CIDEr is times ten).

    Args:
        predictions: a segment's roles by event; other roles than the five scored ones are not read.
        references: the same segments, from `choose_references`.
        headline: give cider, rouge, lea and lea_soft alone, in less than half the time: for validation.

    Raises:
        KuleshovError: annotations or predictions at which the official scorer stops.
    """
    if not references:
        raise KuleshovError("no segment to score")
    items = role_items(references)
    texts = [predictions[item.segment].get(item.event, {}).get(item.role, "") for item in items]
    captions = Captions(texts, [item.texts for item in items])
    everything = range(len(items))
    cider = captions.cider(everything)
    figures = coreference_figures(predictions, references, items, cider)
    figures |= {"cider": float(cider.mean()), "rouge": float(captions.rouge.mean())}
    if headline:
        return figures
    figures |= {f"bleu_{n}": value for n, value in enumerate(captions.bleu(everything), 1)}
    for prefix, key in (("MacroVb", "verb"), ("MacroArg", "role")):
        groups: dict[str, list[int]] = defaultdict(list)
        for number, item in enumerate(items):
            groups[getattr(item, key)].append(number)
        found = {name: captions.figures(numbers) for name, numbers in groups.items()}
        for name in next(iter(found.values())):
            figures[f"{prefix}_{name}"] = float(np.mean([one[name] for one in found.values()]))
        if key == "role":
            figures |= {f"{role}_{name}": value for role, one in found.items() for name, value in one.items()}
    return figures


def coreference_figures(
    predictions: Sequence[Prediction], references: Sequence[References], items: Sequence[Item], item_cider: np.ndarray
) -> dict[str, float]:
    """`lea` and `lea_soft`: the mean over the references of the F1 over all segments; `item_cider` is (I,)."""
    # of two arguments with one short name the last one's CIDEr counts
    weights: dict[int, dict[str, float]] = defaultdict(dict)
    for item, value in zip(items, item_cider, strict=True):
        weights[item.segment][f"{item.event}_{item.role}"] = float(value)
    count = len(references[0].annotations)
    rounds = []
    for number in range(count):
        documents = []
        for segment, (prediction, one) in enumerate(zip(predictions, references, strict=True)):
            if EVENTS[0] not in prediction:
                continue
            if number >= len(one.annotations):
                raise KuleshovError(
                    f"segment {one.segment} has {len(one.annotations)} reference(s), the first segment {count}: "
                    "LEA needs as many for each"
                )
            predicted = clusters_of(predicted_mentions(prediction, one, number, weights[segment]))
            documents.append((predicted, clusters_of(reference_mentions(one.annotations[number])), weights[segment]))
        rounds.append(lea_figures(documents))
    return {name: sum(figures[name] for figures in rounds) / count for name in rounds[0]}


def resolved_links(clusters: Clusters, others: Clusters) -> list[float]:
    """Share of each cluster's links that `others` also hold; (len(clusters),).

    A cluster of one mention holds one link, to itself, which counts where the other cluster has one mention too.
    """
    home = {mention: i for i, other in enumerate(others) for mention in other}
    shares = []
    for cluster in clusters:
        if len(cluster) == 1:
            other = home.get(cluster[0])
            shares.append(1.0 if other is not None and len(others[other]) == 1 else 0.0)
            continue
        together = Counter(home[mention] for mention in cluster if mention in home)
        common = sum(n * (n - 1) / 2 for n in together.values())
        shares.append(common / (len(cluster) * (len(cluster) - 1) / 2))
    return shares


def lea_counts(clusters: Clusters, others: Clusters, weights: Mapping[str, float] | None = None) -> np.ndarray:
    """Numerator and denominator of LEA, (2,): clusters weighted by their size.

    With `weights`, mention -> CIDEr (times ten) of its text, those of soft LEA's precision: a cluster weighs its size
    squared times its mentions' mean weight, so the figure can exceed 1.
    """
    sizes = [len(cluster) for cluster in clusters]
    shares = resolved_links(clusters, others)
    if weights is None:
        return np.array([sum(size * share for size, share in zip(sizes, shares, strict=True)), sum(sizes)], float)
    energies = [sum(weights[mention] for mention in cluster) * len(cluster) for cluster in clusters]
    resolved = sum(energy * share for energy, share in zip(energies, shares, strict=True))
    return np.array([resolved, sum(size**2 for size in sizes)], float)


def f1(precision: Sequence[float], recall: Sequence[float]) -> float:
    """Harmonic mean of two (numerator, denominator) pairs; 0 where a denominator is 0."""
    p, r = (top / bottom if bottom else 0.0 for top, bottom in (precision, recall))
    return 2 * p * r / (p + r) if p + r else 0.0


def lea_figures(documents: Iterable[tuple[Clusters, Clusters, Mapping[str, float]]]) -> dict[str, float]:
    """`lea` and `lea_soft`: the F1 of precision and recall whose counts are summed over all segments.

    Args:
        documents: a segment's predicted clusters, its reference's, and mention -> CIDEr of its predicted text.
    """
    precision, soft, recall = np.zeros(2), np.zeros(2), np.zeros(2)
    for predicted, reference, weights in documents:
        precision += lea_counts(predicted, reference)
        soft += lea_counts(predicted, reference, weights)
        recall += lea_counts(reference, predicted)
    return {"lea": float(f1(precision, recall)), "lea_soft": float(f1(soft, recall))}


def reference_mentions(annotation: Annotation) -> list[tuple[str, str]]:
    """(mention, text) of an annotation's scored roles; a mention reads `Ev1_Arg0`."""
    return [
        (f"{event}_{role_of(name)}", text)
        for event, given in zip(EVENTS, annotation, strict=True)
        for name, text in given.arguments.items()
        if role_of(name) in SCORED_ROLES
    ]


def predicted_mentions(
    prediction: Prediction, one: References, number: int, known: Collection[str]
) -> list[tuple[str, str]]:
    """(mention, text) of the predicted roles that reference `number` has too.

    Raises:
        KuleshovError: an event that is not predicted, a mention that reference 0 (`known`) has not.
    """
    mentions = []
    for mention, _ in reference_mentions(one.annotations[number]):
        event, _, role = mention.partition("_")
        if event not in prediction:
            raise KuleshovError(f"segment {one.segment}: the prediction has no {event}")
        if role not in prediction[event]:
            continue
        if mention not in known:
            raise KuleshovError(
                f"segment {one.segment}: annotators must share argument names, but reference {number} has "
                f"{event} {role} and reference 0 does not"
            )
        mentions.append((mention, prediction[event][role]))
    return mentions


def clusters_of(mentions: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Mentions with equal texts together, in order of first occurrence."""
    clusters: dict[str, list[str]] = defaultdict(list)
    for mention, text in mentions:
        clusters[text].append(mention)
    return list(clusters.values())


def as_prediction(annotation: Annotation) -> dict[str, dict[str, str]]:
    """An annotation read as a prediction: the human row."""
    return {
        event: {role_of(name): text for name, text in given.arguments.items()}
        for event, given in zip(EVENTS, annotation, strict=True)
    }


def frequent_texts(annotations: Sequence[Annotation]) -> dict[str, str]:
    """Each scored role's most frequent text; ties in alphabetical order."""
    counts: dict[str, Counter[str]] = {role: Counter() for role in SCORED_ROLES}
    for mention, text in (found for annotation in annotations for found in reference_mentions(annotation)):
        counts[mention.partition("_")[2]][text] += 1
    return {role: min(given, key=lambda t: (-given[t], t)) for role, given in counts.items() if given}
