"""How many movies of each kind a world holds."""

from dataclasses import asdict, dataclass

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
    """The number of movies of each kind, and how long they are (events of two seconds)."""

    movies: int
    train_sources: int
    valid_sources: int
    test_sources: int
    clips: int
    events: int = 30

    def check(self) -> None:
        """Refuse sizes that cannot make a world.

        Raises:
            KuleshovError: a count is below one, or the length is no whole number of segments.
        """
        for name, value in asdict(self).items():
            if value < 1:
                raise KuleshovError(f"a world needs at least one of each: {name} is {value}")
        if self.events % SEGMENT_EVENTS:
            raise KuleshovError(
                f"events must be a multiple of {SEGMENT_EVENTS} (a segment's events), got {self.events}"
            )

    @property
    def frames(self) -> int:
        """The number of frames of the whole world."""
        long = self.movies + self.train_sources + self.valid_sources + len(TEST_SETS) * self.test_sources
        return (long * self.events + self.clips * CLIP_EVENTS) * EVENT_FRAMES


def sizes(
    movies: int,
    train_sources: int | None = None,
    valid_sources: int | None = None,
    test_sources: int | None = None,
    clips: int | None = None,
    events: int = 30,
) -> Sizes:
    """The sizes that belong to a number of long movies.

    Args:
        movies: long movies with LVU's labels (60 s each).
        train_sources: VidSitu source videos for training, six segments each; an eighth of the movies.
        valid_sources: the same for validation; a tenth of the movies.
        test_sources: the same for each of the three test sets without labels; an eightieth.
        clips: Kinetics-style clips of one verb, four shots of 2 s each; three a movie, at least 32.
        events: events of two seconds in a long movie or source.

    Raises:
        KuleshovError: a count is below one.
    """
    result = Sizes(
        movies=movies,
        train_sources=max(2, movies // 8) if train_sources is None else train_sources,
        valid_sources=max(1, movies // 10) if valid_sources is None else valid_sources,
        test_sources=max(1, movies // 80) if test_sources is None else test_sources,
        clips=max(32, 3 * movies) if clips is None else clips,
        events=events,
    )
    result.check()
    return result
