"""Annotators stick to their words, disagree a little, and use the official argument names."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np

from kuleshov.synthetic.annotators import ROLES, Annotator, flip
from kuleshov.synthetic.figures import CHARACTERS
from kuleshov.synthetic.grammar import VERBS
from kuleshov.synthetic.story import VIDSITU, Sizes, plan_world

OFFICIAL = re.compile(r"^(Arg[0-5] \(.+\)|ArgM \((direction|manner|location)\)|Scene of the Event)$")


def stories():
    return [movie for movie in plan_world(0, Sizes.of(16)) if movie.kind == VIDSITU]


def test_every_verb_has_official_roles_and_a_scene():
    assert sorted(ROLES) == sorted(VERBS)
    for roles in ROLES.values():
        assert all(OFFICIAL.match(name) for name in roles)
        assert "Scene of the Event" in roles


def test_some_verbs_have_a_second_argument_and_places():
    names = {name.split(" (")[0] for roles in ROLES.values() for name in roles}
    assert {"Arg0", "Arg1", "Arg2", "ArgM", "Scene of the Event"} <= names
    assert any(name == "ArgM (location)" for roles in ROLES.values() for name in roles)


def of_verb(verb: str, **changes):
    """A story whose first event is of a given verb."""
    story = stories()[0]
    event = replace(story.events[0], verb=VERBS.index(verb), **changes)
    return replace(story, events=(event, *story.events[1:]))


def names_of_agents(annotator: int) -> list[int]:
    """Per movie and character, how many names an annotator has for it in verbs with two people."""
    counts = []
    for story in stories():
        words, called = Annotator(story, annotator), {0: [], 1: []}
        for place, event in enumerate(story.events):
            if VERBS[event.verb] in ("push", "chase", "hug", "dance", "hit", "knock"):
                said = list(words.describe(place).values())
                called[event.agent].append(said[0])
                called[event.patient].append(said[1])
        counts += [Counter(names).most_common(1)[0][1] / len(names) for names in called.values() if names]
    return counts


def test_an_annotator_mostly_names_a_person_the_same():
    shares = names_of_agents(1)
    assert 0.85 < np.mean(shares) < 1


def test_what_an_annotator_says_does_not_depend_on_what_was_asked_before():
    story = stories()[0]
    first, second = Annotator(story, 0), Annotator(story, 0)
    first.describe(7)
    assert first.describe(3) == second.describe(3)


def test_annotators_agree_often_but_not_always():
    same = []
    for story in stories():
        first, second = (Annotator(story, number).describe(0) for number in (0, 1))
        assert list(first) == list(second)
        same += [first[name] == second[name] for name in first]
    assert 0.1 < np.mean(same) < 0.7


def test_direction_follows_the_mirror_and_leaving_goes_back():
    pushed = Annotator(of_verb("push", mirrored=False), 0).describe(0)
    left = Annotator(of_verb("leave", mirrored=False), 0).describe(0)
    assert "right" in pushed["ArgM (direction)"] and "left" in left["ArgM (direction)"]


def test_agent_and_patient_are_told_by_their_clothes():
    story = of_verb("push", agent=0, patient=1)
    said = Annotator(story, 2).describe(0)
    assert said["Arg0 (pusher)"] in CHARACTERS[story.cast[0]].phrases
    assert said["Arg1 (thing pushed)"] in CHARACTERS[story.cast[1]].phrases


def test_flip_never_gives_the_same_class_and_keeps_its_rate():
    draw = np.random.default_rng(0)
    assert all(flip(2, 4, 1.0, draw) != 2 for _ in range(50))
    assert np.mean([flip(2, 4, 0.1, draw) != 2 for _ in range(2000)]) < 0.14
