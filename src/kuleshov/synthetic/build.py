"""Building a world on disk: resumable, the same for the same seed, on as many cores as there are."""

import json
import multiprocessing
import os
from dataclasses import asdict
from pathlib import Path

from kuleshov.core.errors import FormatError, KuleshovError
from kuleshov.core.files import read_json, write_atomic, write_json
from kuleshov.core.progress import progress_bar
from kuleshov.synthetic.annotate_kinetics import write_kinetics
from kuleshov.synthetic.annotate_lvu import write_boxes, write_lvu
from kuleshov.synthetic.annotate_vidsitu import segments, write_vidsitu
from kuleshov.synthetic.counts import EVENT_FRAMES, FPS, SIDE, Sizes, sizes
from kuleshov.synthetic.grammar import describe
from kuleshov.synthetic.mp4 import mp4
from kuleshov.synthetic.render import event_frames
from kuleshov.synthetic.story import VIDSITU
from kuleshov.synthetic.world_plan import KIND_NAMES, Movie, plan

# goes up whenever the same seed would give another world
VERSION = 4
MARK = "world.json"


def generate(
    root: Path,
    movies: int,
    seed: int,
    workers: int | None = None,
    progress: bool = True,
    world_sizes: Sizes | None = None,
) -> dict:
    """Write a world to a folder, or finish one that was interrupted.

    Args:
        root: the folder; new, empty, or holding the same world.
        movies: the number of long movies; everything else follows (see `counts.sizes`).
        seed: decides all stories, ids and frames.
        workers: processes that render; the machine's cores by default, 0 renders in this process.
        progress: show progress on standard error.
        world_sizes: other sizes than those that belong to `movies`.

    Returns:
        How many videos, frames, clips, segments, movies and boxes the world has.

    Raises:
        KuleshovError: the folder holds something else, or the sizes make no world.
    """
    root, chosen = Path(root), world_sizes or sizes(movies)
    settings = _settings(seed, chosen)
    done = check_root(root, settings)
    all_movies = plan(seed, chosen)
    missing = [movie for movie in all_movies if not (root / movie.path).is_file()]
    if done is not None and not missing:
        return done
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / MARK, {"settings": settings, "complete": False})
    _clean(root)
    counts = _annotate(root, all_movies)
    _film(root, missing, len(all_movies), workers, progress)
    counts |= {"videos": len(all_movies), "frames": chosen.frames}
    write_json(root / MARK, {"settings": settings, "complete": True, "counts": counts})
    return counts


def _settings(seed: int, chosen: Sizes) -> dict:
    chosen.check()
    if seed < 0:
        raise KuleshovError(f"the world's seed must be zero or more, got {seed}")
    frame = {"fps": FPS, "side": SIDE, "event_frames": EVENT_FRAMES}
    return {"version": VERSION, "seed": seed, "movies": chosen.movies, "sizes": asdict(chosen), **frame}


def check_root(root: Path, settings: dict) -> dict | None:
    """Refuse a folder that holds something else; the counts of a world that is complete, or None.

    Raises:
        KuleshovError: another world, or files without a world.
    """
    mark = root / MARK
    if root.exists() and not root.is_dir():
        raise KuleshovError(f"{root} is a file; give a folder for the world")
    if not mark.is_file():
        strangers = sorted(p.name for p in root.iterdir() if not _temporary(p)) if root.is_dir() else []
        if strangers:
            raise KuleshovError(
                f"{root} holds other files ({strangers[0]}, {len(strangers)} in all) and no {MARK}; "
                "give a new or empty folder"
            )
        return None
    found = read_json(mark)
    if not isinstance(found, dict) or not isinstance(found.get("settings"), dict):
        raise FormatError(mark, "no settings of a generated world; give another folder")
    different = [k for k in settings if found["settings"].get(k) != settings[k]]
    if different:
        key = different[0]
        raise KuleshovError(
            f"{root} holds a world of {key} {found['settings'].get(key)}, not {settings[key]}; "
            "give another folder or the same settings"
        )
    return found.get("counts") if found.get("complete") else None


def film(root: Path, movie: Movie) -> None:
    """Render one movie and write its video, whole or not at all."""
    path = root / movie.path
    data = mp4(event_frames(movie.story, index) for index in range(len(movie.story.events)))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{os.getpid()}.tmp"
    temporary.write_bytes(data)
    os.replace(temporary, path)


def _annotate(root: Path, movies: list[Movie]) -> dict:
    counts: dict = {
        "kinetics": write_kinetics(root, movies),
        "vidsitu": write_vidsitu(root, movies),
        "lvu": write_lvu(root, movies),
        "boxes": write_boxes(root, movies),
    }
    truth = root / "truth"
    lines = [json.dumps(_truth(movie), sort_keys=True) for movie in movies]
    write_atomic(truth / "stories.jsonl", "\n".join(lines) + "\n")
    sources = [movie for movie in movies if movie.story.kind == VIDSITU]
    hidden = {name: [e.off_screen for e in events] for m in sources for name, events in segments(m)}
    write_json(truth / "vidsitu_offscreen.json", hidden, indent=None)
    write_json(truth / "grammar.json", describe())
    return counts


def _truth(movie: Movie) -> dict:
    return movie.story.record() | {"kind": KIND_NAMES[movie.story.kind], "split": movie.split}


def _film(root: Path, missing: list[Movie], total: int, workers: int | None, progress: bool) -> None:
    jobs = [(root, movie) for movie in missing]
    count = _cores() if workers is None else workers
    with progress_bar("world", total, total - len(jobs), progress) as tick:
        if count == 0 or len(jobs) < 2:
            for job in jobs:
                film(*job)
                tick()
            return
        # spawned workers share no state with this process, whatever it has imported or opened
        context = multiprocessing.get_context("spawn")
        with context.Pool(min(count, len(jobs)), initializer=_start_worker) as pool:
            for _ in pool.imap_unordered(_film_job, jobs, chunksize=2):
                tick()


def _film_job(job: tuple[Path, Movie]) -> None:
    film(*job)


def _start_worker() -> None:
    import cv2

    cv2.setNumThreads(0)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _clean(root: Path) -> None:
    """Remove what a killed run left half-written."""
    for path in root.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def _temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".tmp")
