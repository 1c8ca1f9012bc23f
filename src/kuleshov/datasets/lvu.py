"""LVU's nine long-form tasks, from the tree that their authors publish.

`ROOT/lvu_1.0/<task>/{train,val,test}.csv`: white-space separated with a header; the label first (a class id
and its name, or counts), YouTube id and IMDb id last. `\\N` is a real class name and class ids are sparse.
Videos lie in `ROOT/videos/<YouTube id>.<any container>`.

Wu and Krahenbuhl, Towards Long-Form Video Understanding, CVPR 2021; label transforms as their code's.
"""

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError
from kuleshov.video.video_file import Video

SPLITS = ("train", "val", "test")
CONTAINERS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".mpg", ".mpeg", ".ts", ".wmv")


@dataclass(frozen=True)
class Task:
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
    columns: tuple[str, ...] = ("class_id", "class_name", "youtube_id", "imdb_id")

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


TASKS = {
    task.name: task
    for task in (
        Task("relationship", "Relation", 4),
        Task("way_speaking", "Speaking", 5),
        Task("scene", "Scene", 6),
        Task("director", "Director", 10),
        Task("writer", "Writer", 10),
        Task("year", "Year", 9),
        Task("genre", "Genre", 4),
        Task("like_ratio", "Like", 0, 9.138220535629456, ("like_count", "dislike_count", "youtube_id", "imdb_id")),
        Task("view_count", "Views", 0, 11.76425435683139, ("view_count", "youtube_id", "imdb_id")),
    )
}


@dataclass(frozen=True)
class Row:
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


def task_named(name: str) -> Task:
    """Find a task by name.

    Raises:
        KuleshovError: no such task; the nearest name is offered.
    """
    if name in TASKS:
        return TASKS[name]
    titles = {task.title.lower(): task.name for task in TASKS.values()}
    near = difflib.get_close_matches(str(name).lower(), [*TASKS, *titles], n=1, cutoff=0.5)
    guess = f"did you mean {titles.get(near[0], near[0])}? " if near else ""
    raise KuleshovError(f"no LVU task is called {name!r}: {guess}The tasks are {', '.join(TASKS)}")


def read_rows(path: str | Path, task: Task) -> list[Row]:
    """Read one official CSV file.

    Raises:
        MissingDataError: the file is not there.
        FormatError: a line that does not hold what the header promises, by its number.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(
            f"LVU's {task.name} {path.stem} split",
            path.absolute(),
            "unpack https://chaoyuan.org/lvu/lvu_1.0.tar.gz, or use the generated world (`kuleshov world`)",
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(path, f"not UTF-8 text (byte {error.start})") from error
    if not lines or tuple(lines[0].split()) != task.columns:
        found = lines[0] if lines else "an empty file"
        raise FormatError(path, f"the header must be '{' '.join(task.columns)}', found '{found}'", record=1)
    rows = [_row(path, number, line, task) for number, line in enumerate(lines[1:], 2) if line.strip()]
    _check_unique(path, rows)
    return rows


def _row(path: Path, number: int, line: str, task: Task) -> Row:
    items = line.split()
    if len(items) < len(task.columns) or (not task.classes and len(items) > len(task.columns)):
        raise FormatError(
            path,
            f"{len(task.columns)} columns expected ({', '.join(task.columns)}), found {len(items)}: {line!r}",
            number,
        )
    video_id, imdb_id = items[-2], items[-1]
    if task.classes:
        label = _count(path, number, items[0], "class_id")
        if label >= task.classes:
            raise FormatError(
                path, f"class id {label}, but {task.name} has ids 0 to {task.classes - 1}", number, "class_id"
            )
        return Row(video_id, imdb_id, label, " ".join(items[1:-2]))
    counts = [_count(path, number, item, column) for item, column in zip(items, task.columns[:-2], strict=False)]
    return Row(video_id, imdb_id, _regression_label(path, number, task, counts))


def _count(path: Path, number: int, text: str, column: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise FormatError(path, f"a whole number expected, found {text!r}", number, column)
    return int(text)


def _regression_label(path: Path, number: int, task: Task, counts: list[int]) -> float:
    """Centered label: 10 * likes / (likes + dislikes), or the natural logarithm of the views."""
    if sum(counts) == 0:
        raise FormatError(path, f"{' + '.join(task.columns[:-2])} is 0: the label is undefined", number)
    raw = math.log(counts[0]) if len(counts) == 1 else counts[0] / (counts[0] + counts[1]) * 10.0
    return raw - task.center


def _check_unique(path: Path, rows: list[Row]) -> None:
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
        videos: folder of the videos, if they lie elsewhere.

    Raises:
        MissingDataError: no task folder is there.
    """

    def __init__(self, root: str | Path, videos: str | Path | None = None) -> None:
        self.root = Path(root)
        inner = self.root / "lvu_1.0"
        self.annotations = inner if inner.is_dir() else self.root
        self.video_root = Path(videos) if videos is not None else self.root / "videos"
        if not any((self.annotations / task).is_dir() for task in TASKS):
            raise MissingDataError(
                "LVU's annotations",
                inner.absolute(),
                "unpack https://chaoyuan.org/lvu/lvu_1.0.tar.gz there, or write the generated world with "
                "`kuleshov world` and use its lvu folder",
            )
        self._rows: dict[tuple[str, str], list[Row]] = {}
        self._files: dict[str, Path] | None = None

    def rows(self, task: str, split: str) -> list[Row]:
        """Rows of a task's split in file order.

        Raises:
            KuleshovError: an unknown task or split.
        """
        if split not in SPLITS:
            raise KuleshovError(f"LVU has the splits {', '.join(SPLITS)}, not {split!r}")
        key = (task_named(task).name, split)
        if key not in self._rows:
            self._rows[key] = read_rows(self.annotations / key[0] / f"{split}.csv", TASKS[key[0]])
        return self._rows[key]

    def class_names(self, task: str) -> dict[int, str]:
        """Class id -> name, over all splits; ids that never occur are left out."""
        names: dict[int, str] = {}
        for split in SPLITS:
            for row in self.rows(task, split):
                if row.class_name is not None:
                    names[int(row.label)] = row.class_name
        return dict(sorted(names.items()))

    def video_ids(self, tasks: Iterable[str] | None = None, splits: Iterable[str] = SPLITS) -> list[str]:
        """Sorted ids of all movies of some tasks (all that are there) and splits."""
        names = list(tasks) if tasks is not None else [t for t in TASKS if (self.annotations / t).is_dir()]
        splits = tuple(splits)
        return sorted({row.video_id for name in names for split in splits for row in self.rows(name, split)})

    def path(self, video_id: str) -> Path | None:
        """The video's file in any container, None where it is missing."""
        if self._files is None:
            found = sorted(self.video_root.iterdir()) if self.video_root.is_dir() else []
            self._files = {file.stem: file for file in reversed(found) if file.suffix.lower() in CONTAINERS}
        return self._files.get(video_id)

    def videos(
        self, tasks: Iterable[str] | None = None, splits: Iterable[str] = SPLITS
    ) -> tuple[list[Video], list[str]]:
        """Videos that are on disk, and the ids of those that are not."""
        ids = self.video_ids(tasks, splits)
        files = {video_id: self.path(video_id) for video_id in ids}
        present = [Video(video_id, file) for video_id, file in files.items() if file is not None]
        return present, [video_id for video_id, file in files.items() if file is None]
