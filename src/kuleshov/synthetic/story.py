"""Stories and the plan of a world: every movie's style, cast, events, split and path, from the seed and the sizes."""

from dataclasses import asdict, dataclass

import numpy as np

from kuleshov.core.random import numpy_generator
from kuleshov.synthetic.figures import CHARACTERS
from kuleshov.synthetic.grammar import GENRES, TURN_BREAK, TURNS, VERBS, WRITERS, Grammar, grammar
from kuleshov.synthetic.sizes import CLIP_EVENTS, SEGMENT_EVENTS, TEST_SETS, Sizes

LVU, VIDSITU, KINETICS = range(3)
KIND_NAMES = ("lvu", "vidsitu", "kinetics")
_FOLDERS = ("lvu/videos", "vidsitu/videos", "kinetics/clips")
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
Styles = dict[str, int]


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
    """One movie: its kind and number (which name its random streams), styles, cast and events.

    A compilation has `looks`, the styles of each event; elsewhere the movie's styles hold throughout.
    """

    seed: int
    kind: int
    number: int
    id: str
    style: Styles
    cast: tuple[int, ...]
    events: tuple[StoryEvent, ...]
    looks: tuple[Styles, ...] = ()

    def look(self, index: int) -> Styles:
        """The styles that one event is filmed in: the movie's, or its own in a compilation."""
        return self.looks[index] if self.looks else self.style

    def stream(self, purpose: int, view: int = 0) -> np.random.Generator:
        """The generator of one purpose for this movie (and, by `view`, for one of its events)."""
        return stream(self.seed, purpose, self.kind, self.number, view)


@dataclass(frozen=True)
class PlannedMovie:
    """A planned video: its story and the split it belongs to."""

    story: Story
    split: str

    @property
    def path(self) -> str:
        """The video's path relative to the world's folder."""
        return f"{_FOLDERS[self.story.kind]}/{self.story.id}.mp4"

    @property
    def imdb_id(self) -> str:
        """The id of the film a video was cut from, drawn like the video id."""
        draw = stream(self.story.seed, COUNTS, 0, 0)
        # an affine permutation of all seven-digit numbers: no two films share one
        factor, offset = 10 * int(draw.integers(10**6)) + 7, int(draw.integers(10**7))
        place = 3 * self.story.number + self.story.kind
        return f"tt{(factor * place + offset) % 10**7:07d}"

    def record(self) -> dict:
        """The whole truth as plain JSON values."""
        return asdict(self.story) | {"kind": KIND_NAMES[self.story.kind], "split": self.split}


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


def write_story(seed: int, kind: int, number: int, style: Styles, events: int) -> Story:
    """Draw the story of one movie of the world `seed`, by its kind and its number within it."""
    draw = stream(seed, EVENTS, kind, number)
    cast = tuple(int(c) for c in draw.choice(len(CHARACTERS), size=3, replace=False))
    verbs = _chain(draw, grammar(style["writer"], style["genre"]), events)
    agents = _turns(draw, TURNS[style["relationship"]], events)
    staged = _stage(draw, verbs, agents, off_screen(seed, kind, number, events), style["scene"])
    return Story(seed, kind, number, video_id(seed, kind, number), dict(style), cast, staged)


def write_clip(seed: int, number: int, looks: list[Styles], verb: int) -> Story:
    """Draw a Kinetics-style clip: shots of one verb, each by other people, elsewhere, filmed otherwise.

    What stays from one end of the clip to the other is the verb, as in a compilation of one action (docs/world.md).
    """
    draw = stream(seed, EVENTS, KINETICS, number)
    cast = draw.permutation(len(CHARACTERS))[: 2 * len(looks)]
    scenes = draw.permutation(STYLES["scene"])[: len(looks)]
    events = tuple(
        StoryEvent(verb, 2 * k, 2 * k + 1, int(scene), False, bool(draw.random() < 0.5), *_staging(draw))
        for k, scene in enumerate(scenes)
    )
    people = tuple(int(member) for member in cast)
    return Story(seed, KINETICS, number, video_id(seed, KINETICS, number), looks[0], people, events, tuple(looks))


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
) -> tuple[StoryEvent, ...]:
    scenes = np.full(len(verbs), scene)
    if len(verbs) > 3 * SEGMENT_EVENTS and draw.random() < SCENE_CHANGE:
        first = int(draw.integers(1, len(verbs) - SEGMENT_EVENTS))
        scenes[first : first + SEGMENT_EVENTS] = draw.integers(STYLES["scene"])
    return tuple(
        StoryEvent(verb, agent, 1 - agent, int(place), bool(off), bool(draw.random() < 0.5), *_staging(draw))
        for verb, agent, off, place in zip(verbs, agents, hidden, scenes, strict=True)
    )


def plan_world(seed: int, sizes: Sizes) -> list[PlannedMovie]:
    """All movies of a world, LVU first, then VidSitu's sources, then the clips."""
    return _lvu(seed, sizes) + _vidsitu(seed, sizes) + _kinetics(seed, sizes)


def _lvu(seed: int, sizes: Sizes) -> list[PlannedMovie]:
    count = sizes.movies
    styles = {name: balanced(seed, name, LVU, count) for name in STYLES}
    held = max(1, round(0.2 * count)) if count >= 3 else 0
    names = np.array(["train"] * (count - 2 * held) + ["val"] * held + ["test"] * held)
    splits = stream(seed, STYLE, LVU, count).permutation(names)
    chosen = [{name: int(values[n]) for name, values in styles.items()} for n in range(count)]
    return [PlannedMovie(write_story(seed, LVU, n, chosen[n], sizes.events), str(splits[n])) for n in range(count)]


def _vidsitu(seed: int, sizes: Sizes) -> list[PlannedMovie]:
    splits = ["train"] * sizes.train_sources + ["valid"] * sizes.valid_sources
    splits += [name for name in TEST_SETS for _ in range(sizes.test_sources)]
    styles = [_any_styles(seed, VIDSITU, n, 1)[0] for n in range(len(splits))]
    return [PlannedMovie(write_story(seed, VIDSITU, n, styles[n], sizes.events), s) for n, s in enumerate(splits)]


def _kinetics(seed: int, sizes: Sizes) -> list[PlannedMovie]:
    rounds = -(-sizes.clips // len(VERBS))
    held = max(1, rounds // 5) if rounds > 1 else 0
    movies = []
    for number in range(sizes.clips):
        looks = _any_styles(seed, KINETICS, number, CLIP_EVENTS)
        split = "val" if number // len(VERBS) >= rounds - held else "train"
        movies.append(PlannedMovie(write_clip(seed, number, looks, number % len(VERBS)), split))
    return movies


def _any_styles(seed: int, kind: int, number: int, count: int) -> list[Styles]:
    draw = stream(seed, STYLE, kind, number)
    return [{name: int(draw.integers(classes)) for name, classes in STYLES.items()} for _ in range(count)]
