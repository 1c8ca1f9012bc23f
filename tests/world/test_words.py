"""Annotators stick to their words, disagree a little, and use the official argument names."""

import re

import numpy as np

from kuleshov.world.counts import sizes
from kuleshov.world.grammar import VERBS
from kuleshov.world.plan import plan
from kuleshov.world.story import VIDSITU, Event
from kuleshov.world.words import ROLES, Annotator, flip

OFFICIAL = re.compile(r"^(Arg[0-5] \(.+\)|ArgM \((direction|manner|location)\)|Scene of the Event)$")


def stories():
    return [movie.story for movie in plan(0, sizes(16)) if movie.story.kind == VIDSITU]


def test_every_verb_has_official_roles_and_a_scene():
    assert sorted(ROLES) == sorted(VERBS)
    for roles in ROLES.values():
        names = [name for name, _ in roles]
        assert all(OFFICIAL.match(name) for name in names)
        assert len(set(names)) == len(names) and "Scene of the Event" in names


def test_some_verbs_have_a_second_argument_and_places():
    names = {name.split(" (")[0] for roles in ROLES.values() for name, _ in roles}
    assert {"Arg0", "Arg1", "Arg2", "ArgM", "Scene of the Event"} <= names
    assert any(name == "ArgM (location)" for roles in ROLES.values() for name, _ in roles)


def test_an_annotator_names_a_person_the_same_all_through_a_movie():
    story = stories()[0]
    annotator = Annotator(story, 1)
    called = {0: set(), 1: set()}
    for event in story.events:
        if VERBS[event.verb] in ("push", "chase", "hug"):
            said = annotator.describe(event)
            called[event.agent].add(said[ROLES[VERBS[event.verb]][0][0]])
            called[event.patient].add(said[ROLES[VERBS[event.verb]][1][0]])
    assert all(len(names) <= 1 for names in called.values())
    assert called[0] != called[1]


def test_annotators_agree_often_but_not_always():
    same = []
    for story in stories():
        first, second = (Annotator(story, number).describe(story.events[0]) for number in (0, 1))
        assert list(first) == list(second)
        same += [first[name] == second[name] for name in first]
    assert 0.2 < np.mean(same) < 0.8


def test_direction_follows_the_mirror_and_leaving_goes_back():
    story = stories()[0]
    annotator = Annotator(story, 0)
    event = Event(VERBS.index("push"), 0, 1, 0, False, False, 1, 1)
    leave = Event(VERBS.index("leave"), 0, 1, 0, False, False, 1, 1)
    assert "right" in annotator.describe(event)["ArgM (direction)"]
    assert "left" in annotator.describe(leave)["ArgM (direction)"]


def test_flip_never_gives_the_same_class_and_keeps_its_rate():
    draw = np.random.default_rng(0)
    assert all(flip(2, 4, 1.0, draw) != 2 for _ in range(50))
    assert np.mean([flip(2, 4, 0.1, draw) != 2 for _ in range(2000)]) < 0.14
