"""Sizes for a user's own films: networks, batches and epochs that a folder's number of events can train."""

import math
from dataclasses import dataclass
from pathlib import Path

from kuleshov.core.errors import MissingDataError, VideoError
from kuleshov.datasets.folder import find_videos

EVENT_SECONDS = 2
FEW_EVENTS = 100_000  # below, the paper's sizes have nothing to learn from: its LVU has some six times as many
TXE_STEPS, CLIP_STEPS = 3000, 2000


@dataclass(frozen=True)
class OwnFilms:
    """A folder's films.

    Attributes:
        videos: those that can be read.
        events: whole events of two seconds in them.
        unreadable: the others.
    """

    videos: int
    events: int
    unreadable: int = 0

    @property
    def scale(self) -> str:
        """The scale that suits them."""
        return "small" if self.events < FEW_EVENTS else "paper"

    def settings(self) -> dict[str, str]:
        """Values of the placeholders `{small.NAME}` of stage files."""
        hidden = 128 if self.events < 2_000 else 256 if self.events < 20_000 else 512
        windows = max(1, self.events // (5 * max(1, self.videos)))
        batch = _power_of_two(self.events / 8, 8, 256)
        steps = max(1, self.videos * windows // batch)
        clip_batch = max(2, min(32, self.videos))
        sizes = {"hidden": hidden, "feedforward": 2 * hidden, "windows": windows, "batch": batch}
        sizes |= {"queue": _power_of_two(self.events, 64, 65_536), "epochs": _within(TXE_STEPS // steps, 20, 1000)}
        sizes["clip_batch"] = clip_batch
        sizes["clip_epochs"] = _within(CLIP_STEPS // max(1, self.videos // clip_batch), 50, 400)
        return {name: str(value) for name, value in sizes.items()}

    def __str__(self) -> str:
        """What was found, and what follows from it."""
        left_out = f", {self.unreadable} unreadable" if self.unreadable else ""
        found = f"{self.videos} films{left_out}, {self.events} events"
        if self.scale == "paper":
            return f"{found}: the paper's sizes"
        chosen = self.settings()
        return (
            f"{found}: backbone in batches of {chosen['clip_batch']} for {chosen['clip_epochs']} epochs, "
            f"TxE of width {chosen['hidden']} in batches of {chosen['batch']} for {chosen['epochs']} epochs"
        )


def count_films(root: Path) -> OwnFilms:
    """Open the films of a folder and count their events.

    Raises:
        MissingDataError: there are none.
    """
    from kuleshov.video.metadata import probe

    events, unreadable, films = 0, 0, find_videos(root)
    for film in films:
        try:
            events += math.floor(probe(film.path).duration / EVENT_SECONDS)
        except VideoError:
            unreadable += 1
    if unreadable == len(films):
        how = f"`kuleshov check folder --root {root}` says why"
        raise MissingDataError("readable videos", Path(root).absolute(), how)
    return OwnFilms(len(films) - unreadable, events, unreadable)


def _power_of_two(value: float, least: int, most: int) -> int:
    return _within(2 ** max(0, math.floor(math.log2(max(1.0, value)))), least, most)


def _within(value: int, least: int, most: int) -> int:
    return max(least, min(most, value))
