"""LEA and soft LEA: do two role texts that name the same thing still agree? (coreference of role texts)

A cluster is a list of mentions (`Ev1_Arg0`) that carry the same text. LEA: Moosavi and Strube, ACL 2016;
soft LEA: Sadhu et al., CVPR 2021, whose precision weighs a cluster by the CIDEr of its texts.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

Clusters = Sequence[Sequence[str]]


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


def lea_counts(clusters: Clusters, others: Clusters) -> tuple[float, float]:
    """Numerator and denominator of LEA: clusters weighted by their size."""
    shares = resolved_links(clusters, others)
    numerator = sum(len(cluster) * share for cluster, share in zip(clusters, shares, strict=True))
    return numerator, float(sum(len(cluster) for cluster in clusters))


def soft_precision_counts(clusters: Clusters, others: Clusters, weights: Mapping[str, float]) -> tuple[float, float]:
    """Numerator and denominator of soft LEA's precision.

    A cluster weighs its size squared times its mentions' mean weight, so the figure can exceed 1.

    Args:
        clusters: the prediction's clusters.
        others: the reference's clusters.
        weights: mention -> CIDEr (times ten) of its text.
    """
    shares = resolved_links(clusters, others)
    numerator = sum(sum(weights[m] for m in c) * len(c) * share for c, share in zip(clusters, shares, strict=True))
    return numerator, float(sum(len(c) ** 2 for c in clusters))


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
        soft += soft_precision_counts(predicted, reference, weights)
        recall += lea_counts(reference, predicted)
    return {"lea": float(f1(precision, recall)), "lea_soft": float(f1(soft, recall))}
