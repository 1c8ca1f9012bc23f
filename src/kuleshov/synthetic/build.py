"""Building a world on disk: resumable, the same for the same seed, on as many cores as there are."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import cv2

from kuleshov.core.errors import FormatError, KuleshovError, require_workers
from kuleshov.core.files import flatten, read_json, write_atomic, write_json
from kuleshov.core.processes import map_in_processes
from kuleshov.core.progress import progress_bar
from kuleshov.synthetic.annotations import write_boxes, write_kinetics, write_lvu, write_vidsitu
from kuleshov.synthetic.motions import EVENT_FRAMES, FPS, SIDE
from kuleshov.synthetic.render import encode_mp4, event_frames
from kuleshov.synthetic.story import Sizes, Story, plan_world
from kuleshov.synthetic.truth import write_truth

# goes up whenever the same seed would give another world
VERSION = 4
MARK = "world.json"


class WorldCounts(dict):
    """How many videos, frames, clips, segments, movies and boxes a world has."""

    def __str__(self) -> str:
        return json.dumps(self)


def generate(
    root: Path, movies: int, seed: int = 0, workers: int | None = None, one_scene: float = 0.0, couples: bool = False
) -> WorldCounts:
    """Write the generated movies and their annotations.

    The same seed gives the same world. Killed and run again, it goes on where it stopped.

    Args:
        root: folder to write; must be new, empty, or this world's
        movies: number of long movies; the rest follows from it
        seed: decides the stories and everything else
        workers: processes that render; null: one a core, 0: this process
        one_scene: share of Kinetics' clips that keep people, place and camera throughout, as most real ones do
        couples: LVU's movies have several shots a minute, and two small people behind whose distance and looks show the
            relationship

    Raises:
        KuleshovError: the folder holds something else, or the sizes make no world.
    """
    return build_world(root, Sizes.of(movies, one_scene=one_scene, couples=couples), seed, workers)


def build_world(root: Path, sizes: Sizes, seed: int = 0, workers: int | None = None) -> WorldCounts:
    """Write a world of any sizes to a folder, or finish one that was interrupted; see `generate`."""
    root = Path(root)
    require_workers(workers or 0)
    if seed < 0:
        raise KuleshovError(f"the world's seed must be zero or more, got {seed}")
    settings = {"version": VERSION, "seed": seed, "movies": sizes.movies, "sizes": asdict(sizes)}
    settings |= {"fps": FPS, "side": SIDE, "event_frames": EVENT_FRAMES}
    done = _check_root(root, settings)
    movies = plan_world(seed, sizes)
    missing = [movie for movie in movies if not (root / movie.path).is_file()]
    if done is not None and not missing:
        return WorldCounts(done)
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / MARK, {"settings": settings, "complete": False})
    # what a killed run left half-written
    for path in root.rglob(".*.tmp"):
        path.unlink(missing_ok=True)
    write_truth(root, movies)
    counts = WorldCounts(
        kinetics=write_kinetics(root, movies),
        vidsitu=write_vidsitu(root, movies),
        lvu=write_lvu(root, movies),
        boxes=write_boxes(root, movies),
        videos=len(movies),
        frames=sizes.frames,
    )
    _film_all(root, missing, len(movies), workers)
    write_json(root / MARK, {"settings": settings, "complete": True, "counts": counts})
    return counts


def _check_root(root: Path, settings: dict) -> dict | None:
    """Refuse a folder that holds something else; the counts of a world that is complete, or None."""
    mark = root / MARK
    if root.exists() and not root.is_dir():
        raise KuleshovError(f"{root} is a file; give a folder for the world")
    if not mark.is_file():
        files = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
        others = [name for name in files if not (name.startswith(".") and name.endswith(".tmp"))]
        if others:
            raise KuleshovError(
                f"{root} holds other files ({others[0]}, {len(others)} in all) and no {MARK}; "
                "give a new or empty folder"
            )
        return None
    found = read_json(mark)
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        raise FormatError(mark, "no settings of a generated world; give another folder")
    before, now = flatten(found["settings"]), flatten(settings)
    for key, value in now.items():
        if before.get(key) != value:
            raise KuleshovError(
                f"{root} holds a world of {key} {before.get(key)}, not {value}; "
                "give another folder or the same settings"
            )
    return found.get("counts") if found.get("complete") else None


def _film_all(root: Path, missing: list[Story], total: int, workers: int | None) -> None:
    jobs = [(root, movie) for movie in missing]
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    unfinished = f"the world in {root} is not complete, a process died: run the same command again"
    with progress_bar("world", total, total - len(jobs)) as advance:
        for _ in map_in_processes(_film, jobs, workers if len(jobs) > 1 else 0, unfinished):
            advance()


def _film(root: Path, movie: Story) -> None:
    cv2.setNumThreads(0)  # the processes share the cores already
    write_atomic(root / movie.path, encode_mp4(event_frames(movie, index) for index in range(len(movie.events))))
