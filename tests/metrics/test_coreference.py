"""LEA, soft LEA and the older coreference figures against slow versions of their definitions."""

import itertools
import random

import pytest

from kuleshov.metrics.coreference import (
    Document,
    aligned_similarity,
    b_cubed_counts,
    corpus_figures,
    mention_counts,
    muc_counts,
)
from kuleshov.metrics.lea import f1, lea_counts, resolved_links, soft_precision_counts

A = [["m1", "m2", "m3"], ["m4"], ["m5", "m6"]]


def random_clusters(rng, mentions):
    clusters = {}
    for mention in mentions:
        clusters.setdefault(rng.randint(0, 4), []).append(mention)
    return list(clusters.values())


def slow_share(cluster, others):
    """Links of a cluster that one of the other clusters holds too, by looking at each pair."""
    if len(cluster) == 1:
        return float([cluster[0]] in [list(other) for other in others])
    links = list(itertools.combinations(cluster, 2))
    return sum(any(a in other and b in other for other in others) for a, b in links) / len(links)


def slow_similarity(left, right):
    """CEAF-e by trying every assignment."""
    if len(left) > len(right):
        left, right = right, left
    similarity = [[2 * len(set(a) & set(b)) / (len(a) + len(b)) for b in right] for a in left]
    return max(
        sum(similarity[i][j] for i, j in enumerate(order))
        for order in itertools.permutations(range(len(right)), len(left))
    )


@pytest.mark.parametrize("seed", range(20))
def test_against_the_definitions(seed):
    rng = random.Random(seed)
    mentions = [f"m{i}" for i in range(8)]
    left = random_clusters(rng, mentions[: rng.randint(3, 8)])
    right = random_clusters(rng, mentions[rng.randint(0, 3) :])
    shares = resolved_links(left, right)
    assert shares == pytest.approx([slow_share(cluster, right) for cluster in left])
    assert lea_counts(left, right)[0] == pytest.approx(sum(len(c) * s for c, s in zip(left, shares, strict=True)))
    assert aligned_similarity(left, right) == pytest.approx(slow_similarity(left, right))
    assert aligned_similarity(right, left) == pytest.approx(slow_similarity(left, right))


def test_larger_alignments():
    rng = random.Random(0)
    for _ in range(30):
        mentions = [f"m{i}" for i in range(14)]
        left = [mentions[i::7] for i in range(7)]
        rng.shuffle(mentions)
        right = [mentions[i::6] for i in range(6)]
        assert aligned_similarity(left, right) == pytest.approx(slow_similarity(left, right))


def test_closed_forms():
    b = [["m1", "m2"], ["m3", "m4"], ["m5", "m6"]]
    # of three links m1-m2 stays; m4 alone is not alone in b; m5-m6 stays
    assert resolved_links(A, b) == pytest.approx([1 / 3, 0.0, 1.0])
    assert lea_counts(A, b) == pytest.approx((3.0, 6.0))
    assert soft_precision_counts(A, b, dict.fromkeys(["m1", "m2", "m3", "m4", "m5", "m6"], 2.0)) == pytest.approx(
        (3 * 6 * (1 / 3) + 0 + 2 * 4 * 1, 9 + 1 + 4)
    )
    assert muc_counts(A, b) == (2.0, 3.0)
    assert b_cubed_counts(A, b) == pytest.approx(((4 + 1) / 3 + 1 + 2, 6.0))
    assert mention_counts(A, [["m1", "m9"]]) == (1.0, 6.0)


def test_perfect_and_empty():
    weights = dict.fromkeys(["m1", "m2", "m3", "m4", "m5", "m6"], 1.0)
    perfect = corpus_figures([Document(A, A, weights)])
    assert perfect == pytest.approx(dict.fromkeys(perfect, 1.0))
    assert set(corpus_figures([Document([], A, {})]).values()) == {0.0}
    assert set(corpus_figures([]).values()) == {0.0}
    # soft LEA can exceed 1: CIDEr is a number up to ten
    assert corpus_figures([Document(A, A, dict.fromkeys(weights, 5.0))])["lea_soft"] > 1


def test_f1_of_counts():
    assert f1((1, 2), (1, 1)) == pytest.approx(2 / 3)
    assert f1((0, 0), (1, 1)) == 0.0
