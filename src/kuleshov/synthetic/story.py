"""Stories and the plan of a world: every movie's style, cast, events, split and path, from the seed and the sizes."""

from dataclasses import asdict, dataclass
from typing import Self

import numpy as np

from kuleshov.core.errors import KuleshovError
from kuleshov.core.random import numpy_generator
from kuleshov.synthetic.figures import CHARACTERS
from kuleshov.synthetic.grammar import GENRES, TURN_BREAK, TURNS, VERBS, WRITERS, grammar
from kuleshov.synthetic.motions import EVENT_FRAMES

LVU, VIDSITU, KINETICS = KINDS = ("lvu", "vidsitu", "kinetics")
TEST_SETS = ("testvb", "testsrl", "testevrel")
SEGMENT_EVENTS = 5
CLIP_EVENTS = 5
# purposes of the random streams; no two share one, so frames off screen know nothing of the story
IDS, STYLE, EVENTS, SCREEN, STAGING, FRAMES, WORDS, COUNTS, ORDER, ONE_SCENE, COUPLE = range(1, 12)
ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
# 0.385 before two events of five are forced on screen gives 35 % off screen
OFF_SCREEN = 0.385
MIN_ON_SCREEN = 2
SCENE_CHANGE = 0.15
# of a movie with a couple: the events of a shot, and the share of shots in the movie's own scene
SHOT_EVENTS = (2, 5)
AT_HOME = 0.6
# the number of classes of each style; the order is that of the draws
STYLES = {
    "relationship": len(TURNS),
    "way_speaking": 5,
    "scene": 6,
    "director": 8,
    "writer": WRITERS,
    "year": 9,
    "genre": GENRES,
}
Styles = dict[str, int]


@dataclass(frozen=True)
class Sizes:
    """The number of movies of each kind in a world.

    `movies` are long and have LVU's labels, `*_sources` are VidSitu's source videos (`test_sources` for each of three
    test sets), `clips` are of one verb, in five shots; `events` are those of two seconds in a movie or source;
    `one_scene` is the share of the clips that keep people, place and camera throughout; `couples` gives the long movies
    several shots a minute and a small couple behind, who shows the relationship.

    Raises:
        KuleshovError: a count is below one, a share is none, or the length is no whole number of segments.
    """

    movies: int
    train_sources: int
    valid_sources: int
    test_sources: int
    clips: int
    events: int = 30
    one_scene: float = 0.0
    couples: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.one_scene <= 1:
            raise KuleshovError(f"one_scene is a share of the clips, from 0 to 1, got {self.one_scene}")
        for name, value in asdict(self).items():
            if value < 1 and name not in ("one_scene", "couples"):
                raise KuleshovError(f"a world needs at least one of each: {name} is {value}")
        if self.events % SEGMENT_EVENTS:
            raise KuleshovError(
                f"events must be a multiple of {SEGMENT_EVENTS} (a segment's events), got {self.events}"
            )

    @classmethod
    def of(cls, movies: int, **changes: float) -> Self:
        """The sizes that belong to a number of long movies, some of them changed."""
        usual = {"train_sources": max(2, movies // 8), "valid_sources": max(1, movies // 10)}
        usual |= {"test_sources": max(1, movies // 80), "clips": max(32, 3 * movies)}
        return cls(movies, **(usual | changes))

    @property
    def frames(self) -> int:
        """The number of frames of the whole world."""
        long = self.movies + self.train_sources + self.valid_sources + len(TEST_SETS) * self.test_sources
        return (long * self.events + self.clips * CLIP_EVENTS) * EVENT_FRAMES


@dataclass(frozen=True)
class StoryEvent:
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
    """One movie: its kind and number (which name its random streams), styles, cast, events and split.

    A compilation has `looks`, the styles of each event; elsewhere the movie's styles hold throughout. With a `couple`
    the last two of the cast stand behind.
    """

    seed: int
    kind: str
    number: int
    id: str
    style: Styles
    cast: tuple[int, ...]
    events: tuple[StoryEvent, ...]
    looks: tuple[Styles, ...] = ()
    split: str = "train"
    couple: bool = False

    def look(self, index: int) -> Styles:
        """The styles that one event is filmed in: the movie's, or its own in a compilation."""
        return self.looks[index] if self.looks else self.style

    def stream(self, purpose: int, view: int = 0) -> np.random.Generator:
        """The generator of one purpose for this movie (and, by `view`, for one of its events)."""
        return stream(self.seed, purpose, self.kind, self.number, view)

    @property
    def path(self) -> str:
        """The video's path relative to the world's folder."""
        return f"{self.kind}/{'clips' if self.kind == KINETICS else 'videos'}/{self.id}.mp4"

    @property
    def imdb_id(self) -> str:
        """The id of the film a video was cut from, drawn like the video id."""
        draw = stream(self.seed, COUNTS, LVU, 0)
        # an affine permutation of all seven-digit numbers: no two films share one
        factor, offset = 10 * int(draw.integers(10**6)) + 7, int(draw.integers(10**7))
        return f"tt{(factor * (3 * self.number + KINDS.index(self.kind)) + offset) % 10**7:07d}"


def stream(seed: int, purpose: int, kind: str, number: int, view: int = 0) -> np.random.Generator:
    """The generator of one purpose for one movie (and, by `view`, one of its events)."""
    return numpy_generator(seed, 10 * purpose + KINDS.index(kind), number, view)


def video_id(seed: int, kind: str, number: int) -> str:
    """An 11-character id that is drawn from the seed and the movie's place in the world alone."""
    letters = stream(seed, IDS, kind, number).integers(len(ID_LETTERS), size=11)
    return "".join(ID_LETTERS[letter] for letter in letters)


def plan_world(seed: int, sizes: Sizes) -> list[Story]:
    """All movies of a world, LVU first, then VidSitu's sources, then the clips."""
    return _lvu(seed, sizes) + _vidsitu(seed, sizes) + _kinetics(seed, sizes)


def _lvu(seed: int, sizes: Sizes) -> list[Story]:
    count = sizes.movies
    styles = {name: balanced(seed, name, LVU, count) for name in STYLES}
    held = max(1, round(0.2 * count)) if count >= 3 else 0
    names = ["train"] * (count - 2 * held) + ["val"] * held + ["test"] * held
    splits = stream(seed, STYLE, LVU, count).permutation(np.array(names))
    movies = []
    for number, split in enumerate(splits):
        style = {name: int(values[number]) for name, values in styles.items()}
        movies.append(write_story(seed, LVU, number, style, sizes.events, str(split), sizes.couples))
    return movies


def balanced(seed: int, name: str, kind: str, count: int) -> np.ndarray:
    """Class indices (count,) of one style for all movies of a kind: as even as can be, shuffled."""
    order = stream(seed, ORDER, kind, list(STYLES).index(name))
    return order.permutation(np.arange(count) % STYLES[name])


def _vidsitu(seed: int, sizes: Sizes) -> list[Story]:
    splits = ["train"] * sizes.train_sources + ["valid"] * sizes.valid_sources
    splits += [name for name in TEST_SETS for _ in range(sizes.test_sources)]
    styles = [_any_styles(seed, VIDSITU, number, 1)[0] for number in range(len(splits))]
    return [write_story(seed, VIDSITU, n, styles[n], sizes.events, split) for n, split in enumerate(splits)]


def _kinetics(seed: int, sizes: Sizes) -> list[Story]:
    rounds = -(-sizes.clips // len(VERBS))
    held = max(1, rounds // 5) if rounds > 1 else 0
    clips = []
    for number in range(sizes.clips):
        looks = _any_styles(seed, KINETICS, number, CLIP_EVENTS)
        split = "val" if number // len(VERBS) >= rounds - held else "train"
        one_scene = stream(seed, ONE_SCENE, KINETICS, number).random() < sizes.one_scene
        clips.append(write_clip(seed, number, looks, number % len(VERBS), split, one_scene))
    return clips


def _any_styles(seed: int, kind: str, number: int, count: int) -> list[Styles]:
    draw = stream(seed, STYLE, kind, number)
    return [{name: int(draw.integers(classes)) for name, classes in STYLES.items()} for _ in range(count)]


def write_clip(
    seed: int, number: int, looks: list[Styles], verb: int, split: str = "train", one_scene: bool = False
) -> Story:
    """Draw a Kinetics-style clip: shots of one verb, one after the other by other people, elsewhere, filmed otherwise.

    What stays from one end of the clip to the other is the verb, as in a compilation of one action (docs/world.md); of
    one scene it is everything, and the first shot's people do the same again.
    """
    draw = stream(seed, EVENTS, KINETICS, number)
    cast = tuple(int(member) for member in draw.permutation(len(CHARACTERS))[: 2 * len(looks)])
    scenes = draw.permutation(STYLES["scene"])[: len(looks)]
    events = tuple(
        # pairs of the cast take turns
        StoryEvent(verb, 2 * shot % len(cast), (2 * shot + 1) % len(cast), int(scene), False, *_staging(draw))
        for shot, scene in enumerate(scenes)
    )
    if one_scene:
        looks, cast, events = looks[:1] * len(looks), cast[:2], events[:1] * len(looks)
    name = video_id(seed, KINETICS, number)
    return Story(seed, KINETICS, number, name, looks[0], cast, events, tuple(looks), split)


def write_story(
    seed: int, kind: str, number: int, style: Styles, events: int, split: str = "train", couple: bool = False
) -> Story:
    """Draw the story of one movie of the world `seed`, by its kind and its number within it."""
    draw = stream(seed, EVENTS, kind, number)
    cast = tuple(int(c) for c in draw.choice(len(CHARACTERS), size=3, replace=False))
    verbs = _verbs(draw, style, events)
    agents = _agents(draw, TURNS[style["relationship"]], events)
    scenes = _scenes(draw, style["scene"], events)
    if couple:
        behind = stream(seed, COUPLE, kind, number)
        others = [member for member in range(len(CHARACTERS)) if member not in cast]
        cast += tuple(int(member) for member in behind.choice(others, size=2, replace=False))
        scenes = _shots(behind, style["scene"], events)
    hidden = off_screen(seed, kind, number, events)
    staged = tuple(
        StoryEvent(verb, agent, 1 - agent, int(scene), bool(off), *_staging(draw))
        for verb, agent, scene, off in zip(verbs, agents, scenes, hidden, strict=True)
    )
    name = video_id(seed, kind, number)
    return Story(seed, kind, number, name, dict(style), cast, staged, split=split, couple=couple)


def _verbs(draw: np.random.Generator, style: Styles, events: int) -> list[int]:
    rules = grammar(style["writer"], style["genre"])
    verbs = [int(draw.choice(len(VERBS), p=rules.start))]
    while len(verbs) < events:
        verbs.append(int(draw.choice(len(VERBS), p=rules.transition[verbs[-1]])))
    return verbs


def _agents(draw: np.random.Generator, pattern: str, events: int) -> list[int]:
    # which of the two main characters is A is drawn, so the pattern shows in the order alone
    swap, phase = int(draw.integers(2)), int(draw.integers(len(pattern)))
    agents = []
    for _ in range(events):
        agents.append("AB".index(pattern[phase]) ^ swap)
        broken = draw.random() < TURN_BREAK
        phase = int(draw.integers(len(pattern))) if broken else (phase + 1) % len(pattern)
    return agents


def _scenes(draw: np.random.Generator, scene: int, events: int) -> np.ndarray:
    scenes = np.full(events, scene)
    if events > 3 * SEGMENT_EVENTS and draw.random() < SCENE_CHANGE:
        first = int(draw.integers(1, events - SEGMENT_EVENTS))
        scenes[first : first + SEGMENT_EVENTS] = draw.integers(STYLES["scene"])
    return scenes


def _shots(draw: np.random.Generator, scene: int, events: int) -> np.ndarray:
    """The scene of each event (events,) of a movie that is cut into shots."""
    scenes = np.empty(0, int)
    while len(scenes) < events:
        place = scene if draw.random() < AT_HOME else int(draw.integers(STYLES["scene"]))
        scenes = np.append(scenes, np.full(draw.integers(SHOT_EVENTS[0], SHOT_EVENTS[1] + 1), place))
    return scenes[:events]


def off_screen(seed: int, kind: str, number: int, events: int) -> np.ndarray:
    """Which events (events,) happen off screen; at least two of each segment's five stay on screen."""
    draw = stream(seed, SCREEN, kind, number)
    flags = np.zeros(events, bool)
    for first in range(0, events, SEGMENT_EVENTS):
        part = flags[first : first + SEGMENT_EVENTS]
        part[:] = draw.random(len(part)) < OFF_SCREEN
        while (~part).sum() < min(MIN_ON_SCREEN, len(part)):
            part[:] = draw.random(len(part)) < OFF_SCREEN
    return flags


def _staging(draw: np.random.Generator) -> tuple[bool, int, int]:
    """Mirrored, speed and place of an event."""
    return bool(draw.random() < 0.5), int(draw.integers(3)), int(draw.integers(3))
