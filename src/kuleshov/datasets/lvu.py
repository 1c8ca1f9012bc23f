"""LVU's nine long-form tasks, from the tree that their authors publish.

`ROOT/lvu_1.0/<task>/{train,val,test}.csv`: white-space separated with a header; the label first (a class id
and its name, or counts), YouTube id and IMDb id last. `\\N` is a real class name and class ids are sparse.
Videos are `ROOT/videos/<YouTube id>.<any container>`.

Wu and Krahenbuhl, Towards Long-Form Video Understanding, CVPR 2021; label transforms as their code's.
"""

import difflib
import functools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError
from kuleshov.core.files import read_text, write_atomic
from kuleshov.datasets.sample import link_videos, varied
from kuleshov.video.video_file import Video, videos_by_stem

LVU_SPLITS = ("train", "val", "test")
_IDS = ("youtube_id", "imdb_id")
_HOW = (
    "unpack https://chaoyuan.org/lvu/lvu_1.0.tar.gz there, or use the generated world's lvu folder (`kuleshov world`)"
)


@dataclass(frozen=True)
class LvuTaskInfo:
    """One of the nine tasks.

    Attributes:
        name: folder name in the official tree.
        title: column of the paper's Table 5.
        classes: size of the classifier; class ids are below it; 0 for a regression.
        center: what is subtracted from a regression's value (the official code's constant).
        columns: header of its files.
    """

    name: str
    title: str
    classes: int
    center: float = 0.0
    columns: tuple[str, ...] = ("class_id", "class_name", *_IDS)

    @property
    def kind(self) -> str:
        """`classification` or `regression`."""
        return "classification" if self.classes else "regression"

    @property
    def metric(self) -> str:
        """`top1` (per cent, upward) or `mse` (squared error of centered labels, downward)."""
        return "top1" if self.classes else "mse"

    @property
    def higher_is_better(self) -> bool:
        """Direction of the metric."""
        return bool(self.classes)

    @property
    def outputs(self) -> int:
        """Number of values that a model gives: the classes, or one."""
        return self.classes or 1


LVU_TASKS = {
    task.name: task
    for task in (
        LvuTaskInfo("relationship", "Relation", 4),
        LvuTaskInfo("way_speaking", "Speaking", 5),
        LvuTaskInfo("scene", "Scene", 6),
        LvuTaskInfo("director", "Director", 10),
        LvuTaskInfo("writer", "Writer", 10),
        LvuTaskInfo("year", "Year", 9),
        LvuTaskInfo("genre", "Genre", 4),
        LvuTaskInfo(
            "like_ratio", "Like", 0, 9.138220535629456, ("like_count", "dislike_count", "youtube_id", "imdb_id")
        ),
        LvuTaskInfo("view_count", "Views", 0, 11.76425435683139, ("view_count", "youtube_id", "imdb_id")),
    )
}


@dataclass(frozen=True)
class LvuRow:
    """One labeled movie.

    Attributes:
        video_id: YouTube id.
        imdb_id: the film it is cut from.
        label: class id, or the centered value of a regression.
        class_name: name of the class as in the file (`\\N` is one); None for a regression.
    """

    video_id: str
    imdb_id: str
    label: int | float
    class_name: str | None = None


def find_lvu_task(name: str) -> LvuTaskInfo:
    """Find a task by name.

    Raises:
        KuleshovError: no such task; the nearest name is offered.
    """
    if name in LVU_TASKS:
        return LVU_TASKS[name]
    titles = {task.title.lower(): task.name for task in LVU_TASKS.values()}
    near = difflib.get_close_matches(str(name).lower(), [*LVU_TASKS, *titles], n=1, cutoff=0.5)
    guess = f"did you mean {titles.get(near[0], near[0])}? " if near else ""
    raise KuleshovError(f"no LVU task is called {name!r}: {guess}The tasks are {', '.join(LVU_TASKS)}")


def read_rows(path: str | Path, task: LvuTaskInfo) -> list[LvuRow]:
    """Read one official CSV file.

    Raises:
        MissingDataError: the file is not there.
        FormatError: a line that does not hold what the header promises, by its number.
    """
    path = Path(path)
    lines = read_text(path, f"LVU's {task.name} {path.stem} split", _HOW).splitlines()
    if not lines or tuple(lines[0].split()) != task.columns:
        found = lines[0] if lines else "an empty file"
        raise FormatError(path, f"the header must be '{' '.join(task.columns)}', found '{found}'", record=1)
    rows = [_row(path, number, line, task) for number, line in enumerate(lines[1:], 2) if line.strip()]
    _check_unique(path, rows)
    return rows


def _row(path: Path, number: int, line: str, task: LvuTaskInfo) -> LvuRow:
    items, columns = line.split(), task.columns
    # class names may hold blanks
    if len(items) < len(columns) or (not task.classes and len(items) > len(columns)):
        reason = f"{len(columns)} columns expected ({', '.join(columns)}), found {len(items)}: {line!r}"
        raise FormatError(path, reason, number)
    counts = [_count(path, number, items[i], columns[i]) for i in range(1 if task.classes else len(columns) - 2)]
    if not task.classes:
        return LvuRow(*items[-2:], _regression_label(path, number, task, counts))
    if counts[0] >= task.classes:
        reason = f"class id {counts[0]}, but {task.name} has ids 0 to {task.classes - 1}"
        raise FormatError(path, reason, number, "class_id")
    return LvuRow(*items[-2:], counts[0], " ".join(items[1:-2]))


def _count(path: Path, number: int, text: str, column: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise FormatError(path, f"a whole number expected, found {text!r}", number, column)
    return int(text)


def _regression_label(path: Path, number: int, task: LvuTaskInfo, counts: list[int]) -> float:
    """Centered label: 10 * likes / (likes + dislikes), or the natural logarithm of the views."""
    if sum(counts) == 0:
        raise FormatError(path, f"{' + '.join(task.columns[:-2])} is 0: the label is undefined", number)
    raw = math.log(counts[0]) if len(counts) == 1 else counts[0] / (counts[0] + counts[1]) * 10.0
    return raw - task.center


def _check_unique(path: Path, rows: list[LvuRow]) -> None:
    seen: set[str] = set()
    names: dict[int | float, str | None] = {}
    for row in rows:
        if row.video_id in seen:
            raise FormatError(path, f"video {row.video_id} occurs twice", record=row.video_id, field="youtube_id")
        seen.add(row.video_id)
        if row.class_name is not None and names.setdefault(row.label, row.class_name) != row.class_name:
            both = f"{names[row.label]!r} and {row.class_name!r}"
            raise FormatError(path, f"class id {row.label} has two names, {both}", row.video_id, "class_name")


class Lvu:
    """The official tree: rows by task and split, class names, videos by id.

    Args:
        root: folder that holds `lvu_1.0/` (or the task folders themselves) and `videos/`.
        videos: folder of the videos, if it is elsewhere.

    Raises:
        MissingDataError: no task folder is there.
    """

    def __init__(self, root: str | Path, videos: str | Path | None = None) -> None:
        self.root = Path(root)
        inner = self.root / "lvu_1.0"
        self.annotations = inner if inner.is_dir() else self.root
        self.video_root = Path(videos) if videos is not None else self.root / "videos"
        self.tasks = [name for name in LVU_TASKS if (self.annotations / name).is_dir()]
        if not self.tasks:
            raise MissingDataError("LVU's annotations", inner.absolute(), _HOW)
        self._rows: dict[tuple[str, str], list[LvuRow]] = {}

    def rows(self, task: str, split: str) -> list[LvuRow]:
        """Rows of a task's split in file order.

        Raises:
            KuleshovError: an unknown task or split.
        """
        if split not in LVU_SPLITS:
            raise KuleshovError(f"LVU has the splits {', '.join(LVU_SPLITS)}, not {split!r}")
        key = (find_lvu_task(task).name, split)
        if key not in self._rows:
            self._rows[key] = read_rows(self.annotations / key[0] / f"{split}.csv", LVU_TASKS[key[0]])
        return self._rows[key]

    def class_names(self, task: str) -> dict[int, str]:
        """Class id -> name, over all splits; ids that never occur are left out."""
        rows = [row for split in LVU_SPLITS for row in self.rows(task, split)]
        return dict(sorted({int(row.label): row.class_name for row in rows if row.class_name is not None}.items()))

    def video_ids(self, tasks: Iterable[str] | None = None, splits: Iterable[str] = LVU_SPLITS) -> list[str]:
        """Sorted ids of all movies of some tasks (all that are there) and splits."""
        splits, names = tuple(splits), self.tasks if tasks is None else tasks
        return sorted({row.video_id for name in names for split in splits for row in self.rows(name, split)})

    @property
    def has_videos(self) -> bool:
        """Whether any video is there."""
        return bool(self._files)

    @functools.cached_property
    def _files(self) -> dict[str, Path]:
        return videos_by_stem(self.video_root)

    def path(self, video_id: str) -> Path | None:
        """The video's file in any container, None where it is missing."""
        return self._files.get(video_id)

    def videos(
        self, tasks: Iterable[str] | None = None, splits: Iterable[str] = LVU_SPLITS
    ) -> tuple[list[Video], list[str]]:
        """Videos that are on disk, and the ids of those that are not."""
        files = {video_id: self.path(video_id) for video_id in self.video_ids(tasks, splits)}
        present = [Video(video_id, file) for video_id, file in files.items() if file is not None]
        return present, [video_id for video_id, file in files.items() if file is None]


def find(root: str | Path, split: str = "train", video_root: Path | None = None) -> tuple[list[Video], list[str]]:
    """The movies of all tasks' split that are on disk, sorted by id, and the ids of the others."""
    return Lvu(root, video_root).videos(splits=(split,))


def sample(root: str | Path, output: Path, count: int) -> dict[str, int]:
    """Write a few rows of each task and split, of different classes, with links to their videos and their boxes.

    Movies that serve another task already come first, so that few are needed.
    """
    lvu = Lvu(root)
    movies: dict[str, Path] = {}
    for task in lvu.tasks:
        for split in LVU_SPLITS:
            there = [(row, lvu.path(row.video_id)) for row in lvu.rows(task, split)]
            present = [(row.label, row.video_id) for row, path in there if path is not None or not lvu.has_videos]
            chosen = varied(sorted(present, key=lambda item: item[1] not in movies), count)
            movies |= {row.video_id: path for row, path in there if row.video_id in chosen and path is not None}
            header, *lines = read_text(lvu.annotations / task / f"{split}.csv").splitlines()
            kept = [line for line in lines if line.strip() and line.split()[-2] in chosen]
            write_atomic(output / "lvu_1.0" / task / f"{split}.csv", "\n".join([header, *kept]) + "\n")
    link_videos(movies.values(), output / "videos")
    boxes = Path(root) / "boxes.csv"
    if boxes.is_file():
        header, *lines = read_text(boxes).splitlines()
        kept = [line for line in lines if line.partition(",")[0] in movies]
        write_atomic(output / "boxes.csv", "\n".join([header, *kept]) + "\n")
    return {"movies": len(movies)}


def trivial_prediction(task: LvuTaskInfo, train: list[LvuRow]) -> int | float:
    """The answer that looks at no movie: the most frequent training class (ties to the lowest id), or 0.

    0 in centered units is the constant that the official centering makes the natural guess.
    """
    if not task.classes:
        return 0.0
    counts = Counter(int(row.label) for row in train)
    return min(counts, key=lambda label: (-counts[label], label)) if counts else 0


def constant_score(task: LvuTaskInfo, rows: list[LvuRow], prediction: float) -> float:
    """Score of one answer for all rows: per cent right, or the mean squared error; nan without rows."""
    if not rows:
        return float("nan")
    labels = np.array([row.label for row in rows], dtype=np.float64)
    if task.classes:
        return 100.0 * float(np.mean(labels == prediction))
    return float(np.mean((labels - prediction) ** 2))


def best_constant(task: LvuTaskInfo, rows: list[LvuRow]) -> tuple[int | float, float]:
    """The constant that scores best on these very rows, and its score: what no constant can beat."""
    if not rows:
        return 0, float("nan")
    answer = trivial_prediction(task, rows) if task.classes else float(np.mean([row.label for row in rows]))
    return answer, constant_score(task, rows, answer)


def check(root: str | Path, videos: str | Path | None = None) -> dict[str, Any]:
    """Per task and split: rows, videos present, classes, and the trivial predictors' scores on test.

    Args:
        root: folder that holds `lvu_1.0/` and `videos/`.
        videos: folder of the videos, if it is elsewhere.

    Returns:
        `tasks` (task -> kind, metric, higher_is_better, outputs, splits, trivial, movie_disjoint,
        classes_without_training), `missing_tasks` without a folder, `movies`, `movies_present`; `table` and `notes`.

    Raises:
        MissingDataError: no task is there, or a split's file is missing.
        FormatError: a broken line.
    """
    lvu = Lvu(root, videos)
    tasks = {name: _check_task(lvu, LVU_TASKS[name]) for name in lvu.tasks}
    absent = [name for name in LVU_TASKS if name not in tasks]
    present, missing = lvu.videos()
    found = {"videos": str(lvu.video_root), "tasks": tasks, "missing_tasks": absent, "movies_present": len(present)}
    movies = len(present) + len(missing)
    notes = [f"movies: {len(present)} of {movies} in {lvu.video_root}"]
    notes += [f"tasks without a folder: {', '.join(absent)}"] if absent else []
    return {**found, "movies": movies, "table": [_line(name, task) for name, task in tasks.items()], "notes": notes}


def _check_task(lvu: Lvu, task: LvuTaskInfo) -> dict[str, Any]:
    names = lvu.class_names(task.name)
    rows = {split: lvu.rows(task.name, split) for split in LVU_SPLITS}
    trained = {row.label for row in rows["train"]}
    # a film (IMDb id) in two splits
    films = Counter(film for split in LVU_SPLITS for film in {row.imdb_id for row in rows[split]})
    return {
        "kind": task.kind,
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "outputs": task.outputs,
        "splits": {split: _check_split(lvu, names, rows[split]) for split in LVU_SPLITS},
        "trivial": _trivial(task, names, rows),
        "movie_disjoint": max(films.values(), default=0) < 2,
        "classes_without_training": [name for label, name in names.items() if label not in trained],
    }


def _check_split(lvu: Lvu, names: dict[int, str], rows: list[LvuRow]) -> dict[str, Any]:
    present = sum(lvu.path(row.video_id) is not None for row in rows)
    counts = Counter(row.label for row in rows)
    classes = {name: counts[label] for label, name in names.items()}
    return {"rows": len(rows), "present": present, "missing": len(rows) - present, "classes": classes}


def _trivial(task: LvuTaskInfo, names: dict[int, str], rows: dict[str, list[LvuRow]]) -> dict[str, Any]:
    answer = trivial_prediction(task, rows["train"])
    best, best_score = best_constant(task, rows["test"])
    found = {
        "prediction": names.get(int(answer), str(answer)) if task.classes else answer,
        "score": constant_score(task, rows["test"], answer),
        "best_constant": names.get(int(best), str(best)) if task.classes else best,
        "best_constant_score": best_score,
    }
    if not task.classes:
        mean = float(np.mean([row.label for row in rows["train"]])) if rows["train"] else 0.0
        found |= {"train_mean": mean, "train_mean_score": constant_score(task, rows["test"], mean)}
    return found


def _line(name: str, task: dict[str, Any]) -> dict[str, str]:
    """A task's line of the table."""
    classes, digits = ("-", 4) if task["kind"] == "regression" else (None, 2)
    return {
        "task": name,
        "metric": task["metric"],
        "classes": classes or f"{len(task['splits']['train']['classes'])} of {task['outputs']}",
        **{split: f"{counts['present']} of {counts['rows']}" for split, counts in task["splits"].items()},
        "trivial (test)": f"{task['trivial']['score']:.{digits}f}",
        "best constant": f"{task['trivial']['best_constant_score']:.{digits}f}",
        "films apart": "yes" if task["movie_disjoint"] else "no",
    }
