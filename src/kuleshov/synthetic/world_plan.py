"""The plan of a world: every movie's story, split and path, from the seed and the sizes alone."""

from dataclasses import dataclass

import numpy as np

from kuleshov.synthetic.counts import CLIP_EVENTS, TEST_SETS, Sizes
from kuleshov.synthetic.grammar import VERBS
from kuleshov.synthetic.story import (
    COUNTS,
    KINETICS,
    LVU,
    STYLE,
    STYLES,
    VIDSITU,
    Story,
    balanced,
    stream,
    tell,
    tell_clip,
)

KIND_NAMES = {LVU: "lvu", VIDSITU: "vidsitu", KINETICS: "kinetics"}
_FOLDERS = {LVU: "lvu/videos", VIDSITU: "vidsitu/videos", KINETICS: "kinetics/clips"}


@dataclass(frozen=True)
class Movie:
    """A planned video: its story, the split it belongs to, and its path relative to the root."""

    story: Story
    split: str

    @property
    def path(self) -> str:
        return f"{_FOLDERS[self.story.kind]}/{self.story.id}.mp4"

    @property
    def imdb_id(self) -> str:
        """The id of the film a video was cut from, drawn like the video id."""
        draw = stream(self.story.seed, COUNTS, 0, 0)
        # an affine permutation of all seven-digit numbers: no two films share one
        factor, offset = 10 * int(draw.integers(10**6)) + 7, int(draw.integers(10**7))
        place = 3 * self.story.number + self.story.kind
        return f"tt{(factor * place + offset) % 10**7:07d}"


def plan(seed: int, sizes: Sizes) -> list[Movie]:
    """All movies of a world, LVU first, then VidSitu's sources, then the clips."""
    return _lvu(seed, sizes) + _vidsitu(seed, sizes) + _kinetics(seed, sizes)


def _lvu(seed: int, sizes: Sizes) -> list[Movie]:
    count = sizes.movies
    styles = {name: balanced(seed, name, LVU, count) for name in STYLES}
    held = max(1, round(0.2 * count)) if count >= 3 else 0
    names = np.array(["train"] * (count - 2 * held) + ["val"] * held + ["test"] * held)
    splits = stream(seed, STYLE, LVU, count).permutation(names)
    return [
        Movie(tell(seed, LVU, n, {k: int(v[n]) for k, v in styles.items()}, sizes.events), str(splits[n]))
        for n in range(count)
    ]


def _vidsitu(seed: int, sizes: Sizes) -> list[Movie]:
    splits = ["train"] * sizes.train_sources + ["valid"] * sizes.valid_sources
    splits += [name for name in TEST_SETS for _ in range(sizes.test_sources)]
    styles = [_any_style(seed, VIDSITU, n) for n in range(len(splits))]
    return [Movie(tell(seed, VIDSITU, n, styles[n], sizes.events), split) for n, split in enumerate(splits)]


def _kinetics(seed: int, sizes: Sizes) -> list[Movie]:
    rounds = -(-sizes.clips // len(VERBS))
    held = max(1, rounds // 5) if rounds > 1 else 0
    movies = []
    for number in range(sizes.clips):
        verb = number % len(VERBS)
        split = "val" if number // len(VERBS) >= rounds - held else "train"
        movies.append(Movie(tell_clip(seed, number, _looks(seed, number), verb), split))
    return movies


def _looks(seed: int, number: int) -> list[dict[str, int]]:
    draw = stream(seed, STYLE, KINETICS, number)
    return [{name: int(draw.integers(classes)) for name, classes in STYLES.items()} for _ in range(CLIP_EVENTS)]


def _any_style(seed: int, kind: int, number: int) -> dict[str, int]:
    draw = stream(seed, STYLE, kind, number)
    return {name: int(draw.integers(classes)) for name, classes in STYLES.items()}
