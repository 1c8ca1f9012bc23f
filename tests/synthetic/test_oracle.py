"""The ceiling is exact: it agrees with enumerating every story, and it is as often right as it claims."""

import itertools
from dataclasses import asdict

import numpy as np
import pytest

from kuleshov.synthetic.grammar import NO_RELATION, RELATIONS, VERB_IDS, Grammar, relation, successors
from kuleshov.synthetic.oracle import RELATED, pair_posteriors, predict, relation_posteriors, styles, verb_posteriors
from kuleshov.synthetic.story import Sizes, plan_world
from kuleshov.synthetic.truth import read_segments, segments_of


def tiny_chains() -> list[Grammar]:
    draw = np.random.default_rng(0)
    chains = []
    for after in ((1, 2, 0), (2, 0, 1)):
        transition = draw.dirichlet(np.ones(3), size=3)
        chains.append(Grammar(after, transition, draw.dirichlet(np.ones(3))))
    return chains


def enumerate_stories(seen, chains):
    """Every (style, five verbs) that fits what was seen, with its probability."""
    for style, chain in enumerate(chains):
        for verbs in itertools.product(range(3), repeat=len(seen)):
            if all(s is None or s == v for s, v in zip(seen, verbs, strict=True)):
                chance = chain.start[verbs[0]]
                for a, b in itertools.pairwise(verbs):
                    chance *= chain.transition[a, b]
                yield style, verbs, chance


SEEN = [(0, None, None, 2, None), (None,) * 5, (None, 1, None, None, None), (0, 1, 2, 0, 1)]


@pytest.mark.parametrize("seen", SEEN)
def test_verb_posteriors_are_those_of_enumeration(seen):
    chains = tiny_chains()
    table = np.zeros((5, 3))
    for _, verbs, chance in enumerate_stories(seen, chains):
        table[np.arange(5), verbs] += chance
    assert np.allclose(verb_posteriors(seen, chains), table / table.sum(1, keepdims=True))


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize(("first", "second"), [(0, 2), (1, 2), (2, 3), (2, 4)])
def test_pair_posteriors_are_those_of_enumeration(seen, first, second):
    chains = tiny_chains()
    table = np.zeros((2, 3, 3))
    for style, verbs, chance in enumerate_stories(seen, chains):
        table[style, verbs[first], verbs[second]] += chance
    assert np.allclose(pair_posteriors(seen, chains, first, second), table / table.sum())


@pytest.mark.parametrize("seen", SEEN)
def test_relation_posteriors_are_those_of_enumeration(seen):
    chains = tiny_chains()
    table = np.zeros((4, len(RELATIONS)))
    for style, verbs, chance in enumerate_stories(seen, chains):
        for row, index in enumerate(RELATED):
            first, second = sorted((index, 2))
            kind = relation(verbs[first], verbs[second], second - first, chains[style].successors)
            table[row, kind] += chance
    assert np.allclose(relation_posteriors(seen, chains), table / table.sum(1, keepdims=True))


def test_a_verb_that_was_seen_is_certain():
    assert verb_posteriors((3, None, None, None, None), styles())[0, 3] == pytest.approx(1)
    kinds = relation_posteriors((0, 0, 0, 0, 0), styles())
    assert np.allclose(kinds[:, NO_RELATION], 1)


def test_it_is_right_as_often_as_it_claims_and_context_tells_much():
    right, claimed, related, related_claimed = [], [], [], []
    movies = plan_world(1, Sizes.of(4, train_sources=25))
    for segment in (segment for movie in movies for segment in segments_of(asdict(movie))):
        truth, after, hidden = segment.verbs, successors(segment.style["writer"]), np.array(segment.off_screen)
        chance = verb_posteriors(segment.seen, styles())
        right += (chance.argmax(1) == np.array(truth))[hidden].tolist()
        claimed += chance.max(1)[hidden].tolist()
        for index, row in zip(RELATED, relation_posteriors(segment.seen, styles()), strict=True):
            first, second = sorted((index, 2))
            related.append(row.argmax() == relation(truth[first], truth[second], second - first, after))
            related_claimed.append(row.max())
    # 280 events off screen: one standard error is 0.025
    assert np.mean(right) == pytest.approx(np.mean(claimed), abs=0.07)
    assert np.mean(related) == pytest.approx(np.mean(related_claimed), abs=0.05)
    assert 0.65 < np.mean(claimed) < 0.85


def test_predictions_have_the_official_structure(tiny_world):
    verbs, relations = predict(tiny_world, "valid")
    segments = read_segments(tiny_world, "valid")
    assert [row["ann_idx"] for row in verbs] == [row["ann_idx"] for row in relations] == list(range(len(segments)))
    for row, segment in zip(verbs, segments, strict=True):
        assert [len(event) for event in row["pred_vbs_ev"]] == [5] * 5
        for event, verb in enumerate(segment.seen):
            assert verb is None or row["pred_vbs_ev"][event][0] == VERB_IDS[verb]
    assert all([len(event) for event in row["pred_evrels_ev"]] == [3] * 4 for row in relations)
