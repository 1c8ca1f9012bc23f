"""LVU's files for the world's long movies: nine tasks, durations, and the characters' boxes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kuleshov.core.files import write_atomic
from kuleshov.synthetic.counts import EVENT_SECONDS, FPS
from kuleshov.synthetic.grammar import VERBS
from kuleshov.synthetic.labels import LVU_CLASSES
from kuleshov.synthetic.render import event_boxes
from kuleshov.synthetic.story import COUNTS, LVU, Story, stream
from kuleshov.synthetic.world_plan import Movie

SPLITS = ("train", "val", "test")
BOXES_HEADER = "video,second,x1,y1,x2,y2,track"
_LIKED = frozenset(map(VERBS.index, ("wave", "hug", "dance", "give", "jump", "spin", "enter")))
_SEEN = frozenset(map(VERBS.index, ("chase", "push", "hit", "knock", "throw", "jump", "fall")))
# official centring of the two regressions (means over LVU's training movies)
_LIKE_MEAN, _VIEW_MEAN = 9.138220535629456, 11.76425435683139


def write_lvu(root: Path, movies: list[Movie]) -> dict[str, int]:
    """Write `root/lvu/lvu_1.0/<task>/<split>.csv` and durations; returns movies per split."""
    home = root / "lvu" / "lvu_1.0"
    chosen = sorted((m for m in movies if m.story.kind == LVU), key=lambda movie: movie.story.id)
    for split in SPLITS:
        part = [movie for movie in chosen if movie.split == split]
        for task in LVU_CLASSES:
            write_atomic(home / task / f"{split}.csv", _class_rows(part, task))
        liked = "".join("{} {} ".format(*likes(m.story)) + f"{m.story.id} {m.imdb_id}\n" for m in part)
        seen = "".join(f"{views(m.story)} {m.story.id} {m.imdb_id}\n" for m in part)
        header = "youtube_id imdb_id\n"
        write_atomic(home / "like_ratio" / f"{split}.csv", f"like_count dislike_count {header}{liked}")
        write_atomic(home / "view_count" / f"{split}.csv", f"view_count {header}{seen}")
    seconds = [f"{movie.story.id},{len(movie.story.events) * EVENT_SECONDS}\n" for movie in chosen]
    write_atomic(home / "lvu_durations.csv", "videoid,duration\n" + "".join(seconds))
    return {split: sum(movie.split == split for movie in chosen) for split in SPLITS}


def write_boxes(root: Path, movies: list[Movie], tick: Callable[[], None] = lambda: None) -> int:
    """Write `root/lvu/boxes.csv`, one row a visible character a second; returns the rows.

    Args:
        root: the world's folder.
        movies: the plan; movies that are not LVU's are passed over.
        tick: called after every movie.
    """
    rows = []
    for movie in movies:
        if movie.story.kind == LVU:
            rows.extend(_box_rows(movie.story))
            tick()
    write_atomic(root / "lvu" / "boxes.csv", "\n".join([BOXES_HEADER, *rows]) + "\n")
    return len(rows)


def likes(story: Story) -> tuple[int, int]:
    """Likes and dislikes: friendlier movies are liked better, with noise."""
    draw = stream(story.seed, COUNTS, LVU, story.number, 2)
    score = _share(story, _LIKED) - 0.45 + 0.12 * draw.standard_normal()
    ratio = np.clip((_LIKE_MEAN + 2.4 * score) / 10, 0.02, 0.995)
    total = int(np.exp(draw.uniform(6, 10)))
    liked = int(round(total * ratio))
    return liked, max(1, total - liked)


def views(story: Story) -> int:
    """View count: livelier movies are seen more, with noise."""
    draw = stream(story.seed, COUNTS, LVU, story.number, 3)
    score = _share(story, _SEEN) - 0.45 + 0.12 * draw.standard_normal()
    return max(1, int(round(np.exp(_VIEW_MEAN + 8 * score))))


def _share(story: Story, verbs: frozenset[int]) -> float:
    return float(np.mean([event.verb in verbs for event in story.events]))


def _class_rows(movies: list[Movie], task: str) -> str:
    rows = []
    for movie in movies:
        number, name = LVU_CLASSES[task][movie.story.style[task]]
        rows.append((number, f"{number} {name} {movie.story.id} {movie.imdb_id}\n"))
    ordered = sorted(rows, key=lambda row: row[0])
    return "class_id class_name youtube_id imdb_id\n" + "".join(text for _, text in ordered)


def _box_rows(story: Story) -> list[str]:
    rows = []
    for index in range(len(story.events)):
        for track, boxes in sorted(event_boxes(story, index).items()):
            for second in range(EVENT_SECONDS):
                x1, y1, x2, y2 = boxes[second * FPS + FPS // 2]
                if x2 - x1 >= 2 and y2 - y1 >= 2:
                    time = index * EVENT_SECONDS + second
                    rows.append(f"{story.id},{time},{x1:.1f},{y1:.1f},{x2:.1f},{y2:.1f},{track}")
    return rows
