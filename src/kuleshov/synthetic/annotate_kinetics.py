"""Kinetics-style lists for the world's clips: `path label`, separated by a blank."""

from pathlib import Path

from kuleshov.core.files import write_atomic
from kuleshov.synthetic.grammar import VERB_NAMES
from kuleshov.synthetic.story import KINETICS
from kuleshov.synthetic.world_plan import Movie


def write_kinetics(root: Path, movies: list[Movie]) -> dict[str, int]:
    """Write `root/kinetics/{train,val}.csv` and `classes.txt`; returns clips per split."""
    home, counts = root / "kinetics", {}
    # sorted by the random id, the order of the rows says nothing about their labels
    chosen = sorted((m for m in movies if m.story.kind == KINETICS), key=lambda movie: movie.story.id)
    for split in ("train", "val"):
        rows = [
            f"clips/{movie.story.id}.mp4 {movie.story.events[0].verb}\n" for movie in chosen if movie.split == split
        ]
        write_atomic(home / f"{split}.csv", "".join(rows))
        counts[split] = len(rows)
    write_atomic(home / "classes.txt", "".join(f"{name}\n" for name in VERB_NAMES))
    return counts
