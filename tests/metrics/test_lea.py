"""LEA and soft LEA against slow versions of their definitions."""

import itertools
import random

import pytest

from kuleshov.metrics.role_metrics import f1, lea_counts, lea_figures, resolved_links

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


@pytest.mark.parametrize("seed", range(20))
def test_against_the_definitions(seed):
    rng = random.Random(seed)
    mentions = [f"m{i}" for i in range(8)]
    left = random_clusters(rng, mentions[: rng.randint(3, 8)])
    right = random_clusters(rng, mentions[rng.randint(0, 3) :])
    shares = resolved_links(left, right)
    assert shares == pytest.approx([slow_share(cluster, right) for cluster in left])
    counts = [lea_counts(left, right), lea_counts(right, left)]
    assert counts[0][0] == pytest.approx(sum(len(c) * s for c, s in zip(left, shares, strict=True)))
    # a corpus of the same segment twice has the figure of one
    weights = {mention: rng.random() for mention in mentions}
    once, twice = (lea_figures([(left, right, weights)] * n) for n in (1, 2))
    assert once == pytest.approx(twice) and once["lea"] == pytest.approx(f1(*counts))
    assert once["lea_soft"] == pytest.approx(f1(lea_counts(left, right, weights), counts[1]))


def test_closed_forms():
    b = [["m1", "m2"], ["m3", "m4"], ["m5", "m6"]]
    # of three links m1-m2 stays; m4 alone is not alone in b; m5-m6 stays
    assert resolved_links(A, b) == pytest.approx([1 / 3, 0.0, 1.0])
    assert lea_counts(A, b).tolist() == [3.0, 6.0]
    soft = lea_counts(A, b, dict.fromkeys(["m1", "m2", "m3", "m4", "m5", "m6"], 2.0))
    assert soft == pytest.approx([3 * 6 * (1 / 3) + 0 + 2 * 4 * 1, 9 + 1 + 4])
    assert f1((1, 2), (1, 1)) == pytest.approx(2 / 3) and f1((0, 0), (1, 1)) == 0.0


def test_perfect_and_empty():
    weights = dict.fromkeys(["m1", "m2", "m3", "m4", "m5", "m6"], 1.0)
    assert lea_figures([(A, A, weights)]) == pytest.approx({"lea": 1.0, "lea_soft": 1.0})
    assert lea_figures([([], A, {})]) == lea_figures([]) == {"lea": 0.0, "lea_soft": 0.0}
    # soft LEA can exceed 1: CIDEr is a number up to ten
    assert lea_figures([(A, A, dict.fromkeys(weights, 5.0))])["lea_soft"] > 1
