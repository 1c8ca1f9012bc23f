"""The grammar is the proof's ground: successors, jumps, and relations as the definition says."""

from collections import Counter

import numpy as np
import pytest

from kuleshov.synthetic.grammar import (
    FAVORITE,
    GENRES,
    NO_RELATION,
    RELATION_OF_VERB,
    RELATIONS,
    VERB_IDS,
    VERB_NAMES,
    VERBS,
    WRITERS,
    describe,
    grammar,
    relation,
    successors,
)


def test_sixteen_distinct_verbs_in_official_spelling():
    assert len(set(VERBS)) == len(set(VERB_IDS)) == 16
    assert VERB_IDS[VERBS.index("push")] == "push.01"
    assert VERB_NAMES[VERBS.index("push")] == "push (apply force)"


@pytest.mark.parametrize("writer", range(WRITERS))
def test_successors_are_a_permutation_without_fixed_verbs(writer):
    after = successors(writer)
    assert sorted(after) == list(range(16))
    assert all(verb != successor for verb, successor in enumerate(after))


def test_twelve_verbs_keep_their_successor_with_every_writer():
    kept = [len({successors(writer)[verb] for writer in range(WRITERS)}) == 1 for verb in range(16)]
    assert sum(kept) == 12
    assert len({successors(writer) for writer in range(WRITERS)}) == WRITERS


@pytest.mark.parametrize("writer", range(WRITERS))
@pytest.mark.parametrize("genre", range(GENRES))
def test_chain_is_a_law_and_starts_where_it_stays(writer, genre):
    rules = grammar(writer, genre)
    assert np.allclose(rules.transition.sum(1), 1)
    assert np.allclose(rules.start @ rules.transition, rules.start)
    assert (rules.transition[np.arange(16), rules.successors] >= FAVORITE).all()


def test_relation_follows_the_favorite_path():
    after = successors(0)
    push = VERBS.index("push")
    assert relation(push, after[push], 1, after) == RELATION_OF_VERB[push] == RELATIONS.index("Causes")
    assert relation(push, after[after[push]], 2, after) == RELATION_OF_VERB[push]
    assert relation(push, after[push], 2, after) == NO_RELATION
    assert relation(push, push, 1, after) == NO_RELATION


def test_relation_depends_on_the_order_of_the_two_events():
    after = successors(0)
    forward = [relation(verb, after[verb], 1, after) for verb in range(16)]
    backward = [relation(after[verb], verb, 1, after) for verb in range(16)]
    assert NO_RELATION not in forward
    assert set(backward) == {NO_RELATION}


def test_all_four_relations_are_frequent_and_none_rules():
    draw, counts = np.random.default_rng(0), Counter()
    for _ in range(600):
        rules = grammar(int(draw.integers(WRITERS)), int(draw.integers(GENRES)))
        verbs = [draw.choice(16, p=rules.start)]
        while len(verbs) < 5:
            verbs.append(draw.choice(16, p=rules.transition[verbs[-1]]))
        for first, second in ((0, 2), (1, 2), (2, 3), (2, 4)):
            counts[relation(verbs[first], verbs[second], second - first, rules.successors)] += 1
    shares = [counts[kind] / counts.total() for kind in range(4)]
    assert 0.12 < min(shares) and max(shares) < 0.45


def test_description_holds_everything_the_ceiling_needs():
    described = describe()
    assert described["successors_by_writer"][3] == list(successors(3))
    assert np.isclose(np.sum(described["jumps_by_genre"]), GENRES, atol=1e-4)
