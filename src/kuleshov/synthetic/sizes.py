"""How many movies of each kind a world holds, and how long and large they are."""

from dataclasses import asdict, dataclass
from typing import Self

from kuleshov.core.errors import KuleshovError

EVENT_SECONDS = 2
FPS = 8
EVENT_FRAMES = EVENT_SECONDS * FPS
SIDE = 64
SEGMENT_EVENTS = 5
CLIP_EVENTS = 4
TEST_SETS = ("testvb", "testsrl", "testevrel")


@dataclass(frozen=True)
class Sizes:
    """The number of movies of each kind.

    `movies` are long and have LVU's labels, `*_sources` are VidSitu's source videos (`test_sources` for each of three
    test sets), `clips` are of one verb, in four shots; `events` are those of two seconds in a movie or source.

    Raises:
        KuleshovError: a count is below one, or the length is no whole number of segments.
    """

    movies: int
    train_sources: int
    valid_sources: int
    test_sources: int
    clips: int
    events: int = 30

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise KuleshovError(f"a world needs at least one of each: {name} is {value}")
        if self.events % SEGMENT_EVENTS:
            raise KuleshovError(
                f"events must be a multiple of {SEGMENT_EVENTS} (a segment's events), got {self.events}"
            )

    @classmethod
    def of(cls, movies: int, **changes: int) -> Self:
        """The sizes that belong to a number of long movies, some of them changed."""
        usual = {"train_sources": max(2, movies // 8), "valid_sources": max(1, movies // 10)}
        usual |= {"test_sources": max(1, movies // 80), "clips": max(32, 3 * movies)}
        return cls(movies, **(usual | changes))

    @property
    def frames(self) -> int:
        """The number of frames of the whole world."""
        long = self.movies + self.train_sources + self.valid_sources + len(TEST_SETS) * self.test_sources
        return (long * self.events + self.clips * CLIP_EVENTS) * EVENT_FRAMES
