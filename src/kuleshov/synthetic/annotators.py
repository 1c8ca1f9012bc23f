"""The words of the annotators: the roles of each verb, and who says what for whom."""

import numpy as np

from kuleshov.synthetic.figures import CHARACTERS, SCENES
from kuleshov.synthetic.grammar import VERBS
from kuleshov.synthetic.story import WORDS, Story, StoryEvent

_SHARED = {
    "direction": "ArgM (direction)",
    "down": "ArgM (direction)",
    "manner": "ArgM (manner)",
    "where": "ArgM (location)",
    "crate": "ArgM (location)",
    "scene": "Scene of the Event",
}


def _roles(own: dict[str, str], *shared: str) -> dict[str, str]:
    return own | {_SHARED[what]: what for what in (*shared, "scene")}


# official argument names of each verb, in the order of its Arg_List, and what fills them
ROLES = {
    "chase": _roles({"Arg0 (chaser)": "agent", "Arg1 (thing chased)": "patient"}, "direction", "manner"),
    "fall": _roles({"Arg1 (thing falling)": "agent"}, "down", "manner", "where"),
    "crawl": _roles({"Arg0 (crawler)": "agent"}, "direction", "manner", "where"),
    "hide": _roles({"Arg0 (hider)": "agent", "Arg2 (hidden from)": "patient"}, "crate", "manner"),
    "enter": _roles({"Arg0 (one entering)": "agent", "Arg1 (place entered)": "place name"}, "direction", "manner"),
    "wave": _roles({"Arg0 (waver)": "agent", "Arg2 (waved at)": "patient"}, "manner", "where"),
    "hug": _roles({"Arg0 (hugger)": "agent", "Arg1 (hugged)": "patient"}, "manner", "where"),
    "dance": _roles({"Arg0 (dancer)": "agent", "Arg1 (partner)": "patient"}, "manner", "where"),
    "push": _roles({"Arg0 (pusher)": "agent", "Arg1 (thing pushed)": "patient"}, "direction", "manner"),
    "hit": _roles({"Arg0 (hitter)": "agent", "Arg1 (thing hit)": "patient", "Arg2 (instrument)": "fist"}, "manner"),
    "knock": _roles({"Arg0 (knocker)": "agent", "Arg1 (thing knocked)": "patient"}, "down", "manner"),
    "leave": _roles({"Arg0 (one leaving)": "agent", "Arg1 (place left)": "place name"}, "direction", "manner"),
    "throw": _roles(
        {"Arg0 (thrower)": "agent", "Arg1 (thing thrown)": "ball", "Arg2 (thrown at)": "patient"}, "direction"
    ),
    "jump": _roles({"Arg0 (jumper)": "agent"}, "manner", "where"),
    "spin": _roles({"Arg1 (thing spinning)": "agent"}, "direction", "manner"),
    "give": _roles(
        {"Arg0 (giver)": "agent", "Arg1 (thing given)": "ball", "Arg2 (entity given to)": "patient"}, "where"
    ),
}

_SCENE_WORDS = {
    "office": ("in an office", "office", "office room", "inside an office", "at work"),
    "airport": ("in an airport", "airport", "airport hall", "inside an airport", "at the gate"),
    "school": ("in a school", "school", "classroom", "inside a school", "at school"),
    "hotel": ("in a hotel", "hotel", "hotel room", "inside a hotel", "at the hotel"),
    "prison": ("in a prison", "prison", "prison cell", "inside a prison", "behind bars"),
    "restaurant": ("in a restaurant", "restaurant", "dining room", "inside a restaurant", "at dinner"),
}
_PLACE_NAMES = {name: (f"the {name}", name, words[2]) for name, words in _SCENE_WORDS.items()}
_SIDES = (
    ("on the left", "left side", "at the left side"),
    ("in the middle", "middle of the room", "at the center"),
    ("on the right", "right side", "at the right side"),
)
_WAYS = (("to the right", "right", "rightwards"), ("to the left", "left", "leftwards"))
_MANNERS = (("slowly", "calmly", "with care"), ("steadily", "as usual", "normally"), ("quickly", "fast", "in a hurry"))
_THINGS = {
    "ball": ("red ball", "ball", "orange ball"),
    "fist": ("fist", "his fist", "bare hands"),
    "down": ("to the ground", "down", "onto the floor"),
    "crate": ("behind a crate", "behind a box", "behind a wooden crate"),
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
        for name, what in ROLES[VERBS[event.verb]].items():
            phrases = _phrases(self.story, event, what)
            slip, other = draw.random() < SLIP, _choose(phrases, draw)
            texts[name] = other if slip else self._usual[phrases]
        return texts


def _choose(phrases: tuple[str, ...], draw: np.random.Generator) -> str:
    plain, other = draw.random() < PLAIN, int(draw.integers(1, len(phrases)))
    return phrases[0] if plain else phrases[other]


def _phrases(story: Story, event: StoryEvent, what: str) -> tuple[str, ...]:
    # motions are written from left to right, but whoever leaves goes the other way
    way = event.mirrored != (VERBS[event.verb] == "leave")
    tables = {
        "agent": CHARACTERS[story.cast[event.agent]].phrases,
        "patient": CHARACTERS[story.cast[event.patient]].phrases,
        "scene": _SCENE_WORDS[SCENES[event.scene]],
        "place name": _PLACE_NAMES[SCENES[event.scene]],
        "direction": _WAYS[way],
        "manner": _MANNERS[event.speed],
        "where": _SIDES[event.place],
    }
    return (tables | _THINGS)[what]


def _vocabulary() -> list[tuple[str, ...]]:
    people = [character.phrases for character in CHARACTERS]
    tables = (_SCENE_WORDS, _PLACE_NAMES, _THINGS)
    return [*people, *_SIDES, *_WAYS, *_MANNERS, *(words for table in tables for words in table.values())]


def flip(truth: int, classes: int, chance: float, draw: np.random.Generator) -> int:
    """A class index, replaced by another one with a given chance."""
    wrong, other = draw.random() < chance, int(draw.integers(1, classes))
    return (truth + other) % classes if wrong else truth
