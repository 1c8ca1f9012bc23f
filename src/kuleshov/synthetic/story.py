"""Stories: a movie's style, cast and chain of events, drawn from the grammar and nothing else."""

from dataclasses import asdict, dataclass

import numpy as np

from kuleshov.core.random import numpy_generator
from kuleshov.synthetic.cast import CHARACTERS
from kuleshov.synthetic.counts import SEGMENT_EVENTS
from kuleshov.synthetic.grammar import GENRES, TURN_BREAK, TURNS, VERBS, WRITERS, Grammar, grammar

LVU, VIDSITU, KINETICS = 0, 1, 2
# purposes of the random streams; no two share one, so frames off screen know nothing of the story
IDS, STYLE, EVENTS, SCREEN, STAGING, FRAMES, WORDS, COUNTS, ORDER = range(1, 10)
ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
# 0.385 before two events of five are forced on screen gives 35 % off screen
OFF_SCREEN = 0.385
MIN_ON_SCREEN = 2
SCENE_CHANGE = 0.15
# the number of classes of each style
STYLES = {
    "relationship": len(TURNS),
    "way_speaking": 5,
    "scene": 6,
    "director": 8,
    "writer": WRITERS,
    "year": 9,
    "genre": GENRES,
}


@dataclass(frozen=True)
class Event:
    """Two seconds of story: indices of verb, agent, patient (into the cast), scene, and the staging."""

    verb: int
    agent: int
    patient: int
    scene: int
    off_screen: bool
    mirrored: bool
    speed: int
    place: int


@dataclass(frozen=True)
class Story:
    """One movie: its kind and number (which name its random streams), styles, cast and events.

    A compilation has `looks`, the styles of each event; elsewhere the movie's styles hold throughout.
    """

    seed: int
    kind: int
    number: int
    id: str
    style: dict[str, int]
    cast: tuple[int, ...]
    events: tuple[Event, ...]
    looks: tuple[dict[str, int], ...] = ()

    def look(self, index: int) -> dict[str, int]:
        """The styles that one event is filmed in: the movie's, or its own in a compilation."""
        return self.looks[index] if self.looks else self.style

    def record(self) -> dict:
        """The story as plain JSON values."""
        return asdict(self)


def stream(seed: int, purpose: int, kind: int, number: int, view: int = 0) -> np.random.Generator:
    """The generator of one purpose for one movie (and, by `view`, one of its events)."""
    return numpy_generator(seed, 10 * purpose + kind, number, view)


def video_id(seed: int, kind: int, number: int) -> str:
    """An 11-character id that is drawn from the seed and the movie's place in the world alone."""
    letters = stream(seed, IDS, kind, number).integers(len(ID_LETTERS), size=11)
    return "".join(ID_LETTERS[letter] for letter in letters)


def balanced(seed: int, name: str, kind: int, count: int) -> np.ndarray:
    """Class indices (count,) of one style for all movies of a kind: as even as can be, shuffled."""
    order = stream(seed, ORDER, kind, list(STYLES).index(name))
    return order.permutation(np.arange(count) % STYLES[name])


def tell(seed: int, kind: int, number: int, style: dict[str, int], events: int) -> Story:
    """Draw the story of one movie.

    Args:
        seed: the world's seed.
        kind: LVU, VIDSITU or KINETICS.
        number: the movie's number within its kind.
        style: class index of each style of `STYLES`.
        events: how many events of two seconds.
    """
    draw = stream(seed, EVENTS, kind, number)
    cast = tuple(int(c) for c in draw.choice(len(CHARACTERS), size=3, replace=False))
    verbs = _chain(draw, grammar(style["writer"], style["genre"]), events)
    agents = _turns(draw, TURNS[style["relationship"]], events)
    return Story(
        seed=seed,
        kind=kind,
        number=number,
        id=video_id(seed, kind, number),
        style=dict(style),
        cast=cast,
        events=_stage(draw, verbs, agents, off_screen(seed, kind, number, events), style["scene"]),
    )


def tell_clip(seed: int, number: int, looks: list[dict[str, int]], verb: int) -> Story:
    """Draw a Kinetics-style clip: shots of one verb, each by other people, elsewhere, filmed otherwise.

    What stays from one end of the clip to the other is the verb, as in a compilation of one action. With a
    single scene, two clips of a video would have its scenery in common first of all, and a small network
    that is trained for minutes would learn that alone.

    Args:
        seed: the world's seed.
        number: the clip's number.
        looks: class index of each style of `STYLES`, a dict a shot.
        verb: the verb.
    """
    draw = stream(seed, EVENTS, KINETICS, number)
    cast = draw.permutation(len(CHARACTERS))[: 2 * len(looks)]
    scenes = draw.permutation(STYLES["scene"])[: len(looks)]
    events = tuple(
        Event(verb, 2 * k, 2 * k + 1, int(scene), False, bool(draw.random() < 0.5), *_staging(draw))
        for k, scene in enumerate(scenes)
    )
    people = tuple(int(member) for member in cast)
    name = video_id(seed, KINETICS, number)
    return Story(seed, KINETICS, number, name, looks[0], people, events, tuple(looks))


def off_screen(seed: int, kind: int, number: int, events: int) -> np.ndarray:
    """Which events (events,) happen off screen; at least two of each segment's five stay on screen."""
    draw = stream(seed, SCREEN, kind, number)
    flags = np.zeros(events, bool)
    for first in range(0, events, SEGMENT_EVENTS):
        part = flags[first : first + SEGMENT_EVENTS]
        part[:] = draw.random(len(part)) < OFF_SCREEN
        while (~part).sum() < min(MIN_ON_SCREEN, len(part)):
            part[:] = draw.random(len(part)) < OFF_SCREEN
    return flags


def _chain(draw: np.random.Generator, rules: Grammar, events: int) -> list[int]:
    verbs = [int(draw.choice(len(VERBS), p=rules.start))]
    while len(verbs) < events:
        verbs.append(int(draw.choice(len(VERBS), p=rules.transition[verbs[-1]])))
    return verbs


def _turns(draw: np.random.Generator, pattern: str, events: int) -> list[int]:
    # which of the two main characters is A is drawn, so the pattern shows in the order alone
    swap, phase = int(draw.integers(2)), int(draw.integers(len(pattern)))
    agents = []
    for _ in range(events):
        agents.append("AB".index(pattern[phase]) ^ swap)
        broken = draw.random() < TURN_BREAK
        phase = int(draw.integers(len(pattern))) if broken else (phase + 1) % len(pattern)
    return agents


def _staging(draw: np.random.Generator) -> tuple[int, int]:
    return int(draw.integers(3)), int(draw.integers(3))


def _stage(
    draw: np.random.Generator, verbs: list[int], agents: list[int], hidden: np.ndarray, scene: int
) -> tuple[Event, ...]:
    scenes = np.full(len(verbs), scene)
    if len(verbs) > 3 * SEGMENT_EVENTS and draw.random() < SCENE_CHANGE:
        first = int(draw.integers(1, len(verbs) - SEGMENT_EVENTS))
        scenes[first : first + SEGMENT_EVENTS] = draw.integers(STYLES["scene"])
    return tuple(
        Event(verb, agent, 1 - agent, int(place), bool(off), bool(draw.random() < 0.5), *_staging(draw))
        for verb, agent, off, place in zip(verbs, agents, hidden, scenes, strict=True)
    )
