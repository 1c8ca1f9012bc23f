"""Building a world on disk: resumable, the same for the same seed, on as many cores as there are."""

import json
import multiprocessing
import os
from dataclasses import asdict
from pathlib import Path

from kuleshov.core.errors import FormatError, KuleshovError
from kuleshov.core.files import read_json, write_atomic, write_json
from kuleshov.core.processes import end_with_parent
from kuleshov.core.progress import progress_bar
from kuleshov.synthetic.annotations import segments, write_boxes, write_kinetics, write_lvu, write_vidsitu
from kuleshov.synthetic.grammar import describe
from kuleshov.synthetic.render import encode_mp4, event_frames
from kuleshov.synthetic.sizes import EVENT_FRAMES, FPS, SIDE, Sizes
from kuleshov.synthetic.story import VIDSITU, PlannedMovie, plan_world

# goes up whenever the same seed would give another world
VERSION = 4
MARK = "world.json"


class WorldCounts(dict):
    """How many videos, frames, clips, segments, movies and boxes a world has."""

    def __str__(self) -> str:
        return json.dumps(self)


def generate(root: Path, movies: int, seed: int = 0, workers: int | None = None) -> WorldCounts:
    """Write the generated movies and their annotations.

    The same seed gives the same world. Killed and run again, it goes on where it stopped.

    Args:
        root: folder to write; must be new, empty, or this world's
        movies: number of long movies; the rest follows from it
        seed: decides the stories and everything else
        workers: processes that render; null: one a core, 0: this process

    Raises:
        KuleshovError: the folder holds something else, or the sizes make no world.
    """
    return build_world(root, Sizes.of(movies), seed, workers)


def build_world(root: Path, sizes: Sizes, seed: int = 0, workers: int | None = None) -> WorldCounts:
    """Write a world of any sizes to a folder, or finish one that was interrupted; see `generate`."""
    root = Path(root)
    if seed < 0:
        raise KuleshovError(f"the world's seed must be zero or more, got {seed}")
    settings = {"version": VERSION, "seed": seed, "movies": sizes.movies, "sizes": asdict(sizes)}
    settings |= {"fps": FPS, "side": SIDE, "event_frames": EVENT_FRAMES}
    done = check_root(root, settings)
    movies = plan_world(seed, sizes)
    missing = [movie for movie in movies if not (root / movie.path).is_file()]
    if done is not None and not missing:
        return WorldCounts(done)
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / MARK, {"settings": settings, "complete": False})
    # what a killed run left half-written
    for path in root.rglob(".*.tmp"):
        path.unlink(missing_ok=True)
    counts = _annotate(root, movies)
    _film_all(root, missing, len(movies), workers)
    counts |= {"videos": len(movies), "frames": sizes.frames}
    write_json(root / MARK, {"settings": settings, "complete": True, "counts": counts})
    return WorldCounts(counts)


def check_root(root: Path, settings: dict) -> dict | None:
    """Refuse a folder that holds something else; the counts of a world that is complete, or None.

    Raises:
        KuleshovError: another world, or files without a world.
    """
    mark = root / MARK
    if root.exists() and not root.is_dir():
        raise KuleshovError(f"{root} is a file; give a folder for the world")
    if not mark.is_file():
        files = sorted(path.name for path in root.iterdir()) if root.is_dir() else []
        others = [name for name in files if not (name.startswith(".") and name.endswith(".tmp"))]
        if others:
            how = f"holds other files ({others[0]}, {len(others)} in all) and no {MARK}; give a new or empty folder"
            raise KuleshovError(f"{root} {how}")
        return None
    found = read_json(mark)
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        raise FormatError(mark, "no settings of a generated world; give another folder")
    for key, value in settings.items():
        if found["settings"].get(key) != value:
            raise KuleshovError(
                f"{root} holds a world of {key} {found['settings'].get(key)}, not {value}; "
                "give another folder or the same settings"
            )
    return found.get("counts") if found.get("complete") else None


def _annotate(root: Path, movies: list[PlannedMovie]) -> dict:
    counts: dict = {
        "kinetics": write_kinetics(root, movies),
        "vidsitu": write_vidsitu(root, movies),
        "lvu": write_lvu(root, movies),
        "boxes": write_boxes(root, movies),
    }
    truth = root / "truth"
    write_atomic(
        truth / "stories.jsonl", "".join(json.dumps(movie.record(), sort_keys=True) + "\n" for movie in movies)
    )
    sources = [movie.story for movie in movies if movie.story.kind == VIDSITU]
    hidden = {name: [e.off_screen for e in events] for story in sources for name, events in segments(story)}
    write_json(truth / "vidsitu_offscreen.json", hidden, indent=None)
    write_json(truth / "grammar.json", describe())
    return counts


def _film_all(root: Path, missing: list[PlannedMovie], total: int, workers: int | None) -> None:
    jobs = [(root, movie) for movie in missing]
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with progress_bar("world", total, total - len(jobs)) as advance:
        if workers == 0 or len(jobs) < 2:
            for job in jobs:
                film(job)
                advance()
            return
        # spawned workers share no state with this process, whatever it has imported or opened
        context = multiprocessing.get_context("spawn")
        with context.Pool(min(workers, len(jobs)), initializer=_start_worker) as pool:
            for _ in pool.imap_unordered(film, jobs, chunksize=2):
                advance()


def film(job: tuple[Path, PlannedMovie]) -> None:
    """Render one movie of a world's folder and write its video, whole or not at all."""
    path, story = job[0] / job[1].path, job[1].story
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(encode_mp4(event_frames(story, index) for index in range(len(story.events))))
    os.replace(temporary, path)


def _start_worker() -> None:
    import cv2

    end_with_parent()
    cv2.setNumThreads(0)
