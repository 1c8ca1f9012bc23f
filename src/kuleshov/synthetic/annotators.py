"""The words of the annotators: the roles of each verb, and who says what for whom."""

import numpy as np

from kuleshov.synthetic.figures import CHARACTERS
from kuleshov.synthetic.grammar import VERBS
from kuleshov.synthetic.scenery import SCENES
from kuleshov.synthetic.story import WORDS, Story, StoryEvent

AGENT, PATIENT, BALL, FIST, PLACE_NAME = "agent", "patient", "ball", "fist", "place name"
DIRECTION, DOWN, MANNER, WHERE, CRATE, SCENE = "direction", "down", "manner", "where", "crate", "scene"
_COMMON = {
    "direction": ("ArgM (direction)", DIRECTION),
    "down": ("ArgM (direction)", DOWN),
    "manner": ("ArgM (manner)", MANNER),
    "where": ("ArgM (location)", WHERE),
    "crate": ("ArgM (location)", CRATE),
}


def _roles(own: dict[str, str], *common: str) -> tuple[tuple[str, str], ...]:
    return (*own.items(), *(_COMMON[name] for name in common), ("Scene of the Event", SCENE))


# official argument names of each verb, in the order of its Arg_List, and what fills them
ROLES: dict[str, tuple[tuple[str, str], ...]] = {
    "chase": _roles({"Arg0 (chaser)": AGENT, "Arg1 (thing chased)": PATIENT}, "direction", "manner"),
    "fall": _roles({"Arg1 (thing falling)": AGENT}, "down", "manner", "where"),
    "crawl": _roles({"Arg0 (crawler)": AGENT}, "direction", "manner", "where"),
    "hide": _roles({"Arg0 (hider)": AGENT, "Arg2 (hidden from)": PATIENT}, "crate", "manner"),
    "enter": _roles({"Arg0 (one entering)": AGENT, "Arg1 (place entered)": PLACE_NAME}, "direction", "manner"),
    "wave": _roles({"Arg0 (waver)": AGENT, "Arg2 (waved at)": PATIENT}, "manner", "where"),
    "hug": _roles({"Arg0 (hugger)": AGENT, "Arg1 (hugged)": PATIENT}, "manner", "where"),
    "dance": _roles({"Arg0 (dancer)": AGENT, "Arg1 (partner)": PATIENT}, "manner", "where"),
    "push": _roles({"Arg0 (pusher)": AGENT, "Arg1 (thing pushed)": PATIENT}, "direction", "manner"),
    "hit": _roles({"Arg0 (hitter)": AGENT, "Arg1 (thing hit)": PATIENT, "Arg2 (instrument)": FIST}, "manner"),
    "knock": _roles({"Arg0 (knocker)": AGENT, "Arg1 (thing knocked)": PATIENT}, "down", "manner"),
    "leave": _roles({"Arg0 (one leaving)": AGENT, "Arg1 (place left)": PLACE_NAME}, "direction", "manner"),
    "throw": _roles({"Arg0 (thrower)": AGENT, "Arg1 (thing thrown)": BALL, "Arg2 (thrown at)": PATIENT}, "direction"),
    "jump": _roles({"Arg0 (jumper)": AGENT}, "manner", "where"),
    "spin": _roles({"Arg1 (thing spinning)": AGENT}, "direction", "manner"),
    "give": _roles({"Arg0 (giver)": AGENT, "Arg1 (thing given)": BALL, "Arg2 (entity given to)": PATIENT}, "where"),
}

_SCENE_WORDS = {
    "office": ("in an office", "office", "office room", "inside an office", "at work"),
    "airport": ("in an airport", "airport", "airport hall", "inside an airport", "at the gate"),
    "school": ("in a school", "school", "classroom", "inside a school", "at school"),
    "hotel": ("in a hotel", "hotel", "hotel room", "inside a hotel", "at the hotel"),
    "prison": ("in a prison", "prison", "prison cell", "inside a prison", "behind bars"),
    "restaurant": ("in a restaurant", "restaurant", "dining room", "inside a restaurant", "at dinner"),
}
_PLACE_NAMES = {name: (f"the {name}", name, f"{words[2]}") for name, words in _SCENE_WORDS.items()}
_SIDES = (
    ("on the left", "left side", "at the left side"),
    ("in the middle", "middle of the room", "at the center"),
    ("on the right", "right side", "at the right side"),
)
_WAYS = (("to the right", "right", "rightwards"), ("to the left", "left", "leftwards"))
_MANNERS = (("slowly", "calmly", "with care"), ("steadily", "as usual", "normally"), ("quickly", "fast", "in a hurry"))
_THINGS = {
    BALL: ("red ball", "ball", "orange ball"),
    FIST: ("fist", "his fist", "bare hands"),
    DOWN: ("to the ground", "down", "onto the floor"),
    CRATE: ("behind a crate", "behind a box", "behind a wooden crate"),
}
# the plain phrase is used more often than any of its synonyms
PLAIN = 0.35
# now and then somebody calls a thing by another of its names
SLIP = 0.1


class Annotator:
    """Somebody who describes one movie and mostly sticks to the same words for the same things.

    Args:
        story: the movie.
        number: which annotator of this movie, from 0.
    """

    def __init__(self, story: Story, number: int) -> None:
        self.story, self.number = story, number
        draw = story.stream(WORDS, number)
        # all choices are made now, in one order, so that they do not depend on what is asked first
        self._usual = {phrases: _choose(phrases, draw) for phrases in _vocabulary()}

    def describe(self, place: int) -> dict[str, str]:
        """The official `Args` of the movie's event number `place`: argument name -> text."""
        event = self.story.events[place]
        draw = self.story.stream(WORDS, 10**5 * (self.number + 1) + place)
        texts = {}
        for name, what in ROLES[VERBS[event.verb]]:
            phrases = _phrases(self.story, event, what)
            slip, other = draw.random() < SLIP, _choose(phrases, draw)
            texts[name] = other if slip else self._usual[phrases]
        return texts


def _choose(phrases: tuple[str, ...], draw: np.random.Generator) -> str:
    plain, other = draw.random() < PLAIN, int(draw.integers(1, len(phrases)))
    return phrases[0] if plain else phrases[other]


def _phrases(story: Story, event: StoryEvent, what: str) -> tuple[str, ...]:
    if what in (AGENT, PATIENT):
        member = event.agent if what == AGENT else event.patient
        return CHARACTERS[story.cast[member]].phrases
    scene = SCENES[event.scene]
    tables = {
        SCENE: _SCENE_WORDS[scene],
        PLACE_NAME: _PLACE_NAMES[scene],
        DIRECTION: _WAYS[_way(event)],
        MANNER: _MANNERS[event.speed],
        WHERE: _SIDES[event.place],
    }
    return tables[what] if what in tables else _THINGS[what]


def _way(event: StoryEvent) -> int:
    # motions are written from left to right, but whoever leaves goes the other way
    return int(event.mirrored) ^ int(VERBS[event.verb] == "leave")


def _vocabulary() -> list[tuple[str, ...]]:
    people = [character.phrases for character in CHARACTERS]
    tables = (_SCENE_WORDS, _PLACE_NAMES, _THINGS)
    return [*people, *_SIDES, *_WAYS, *_MANNERS, *(words for table in tables for words in table.values())]


def flip(truth: int, classes: int, chance: float, draw: np.random.Generator) -> int:
    """A class index, replaced by another one with a given chance."""
    wrong, other = draw.random() < chance, int(draw.integers(1, classes))
    return (truth + other) % classes if wrong else truth
