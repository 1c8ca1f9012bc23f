"""What TxE fills in: windows of held-out movies with their middle event hidden, and what is nearest to its answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.report.filmstrips import SHORT_SIDE, data_uri
from kuleshov.report.job_answers import job_config
from kuleshov.report.lineage import RunRecord, beside
from kuleshov.txe.encoder import load
from kuleshov.txe.visualization import frames_in, retrieve, shown_windows
from kuleshov.txe.window_data import EventWindows

NEAREST = 5
_PATHS = ("stores", "val_stores", "include", "exclude", "offscreen", "video_root")


@dataclass(frozen=True)
class ShownEvent:
    """An event: movie and second, a frame as a data URI (empty for none), and whether it is the hidden one."""

    movie: str
    second: str
    frame: str
    marked: bool


@dataclass(frozen=True)
class FillIn:
    """A window around a hidden event, the events nearest to what TxE fills in, and the hidden one's rank `of` all."""

    movie: str
    window: list[ShownEvent]
    nearest: list[ShownEvent]
    rank: int
    of: int


def fill_ins(runs: Iterable[RunRecord], count: int = 3) -> tuple[dict[str, list[FillIn]], list[str]]:
    """Windows of `count` held-out movies by the run that trained the TxE, and sentences on what cannot be shown."""
    found, notes = {}, []
    for run in runs:
        if run.stage == "pretrain-txe":
            try:
                found[run.folder.name] = _of_run(run, count)
            except KuleshovError as error:
                notes.append(f"{run.folder.name}: {error}")
    return found, notes


def _of_run(run: RunRecord, count: int) -> list[FillIn]:
    """Windows in the middle of movies that are evenly chosen among those held out, by the run's first job."""
    job = run.job_records()[0]
    txe, arguments = load(job.folder / "weights" / "txe.safetensors"), job_config(job)
    if not arguments.get("stores"):
        raise MissingDataError("stores of features", job.folder / "config.yaml", "its training named none")
    data = _data(arguments, job.folder)
    windows = shown_windows(data)
    movies = windows.movies
    chosen = np.unique(np.linspace(0, len(movies.ids) - 1, min(count, len(movies.ids))).round().astype(int))
    begin = movies.first[chosen] + (movies.count[chosen] - (windows.events - 1) * windows.step) // 2
    rows = windows.rows(begin)
    frames_of = frames_in(data.video_root, SHORT_SIDE) if data.video_root else lambda movie, second: None

    def shown(row: int, hidden: int) -> ShownEvent:
        movie, second = data.table.locate(row)
        frame = frames_of(movie, second + data.table.stores[0].window / 2)
        return ShownEvent(movie, f"{second:g}", "" if frame is None else data_uri(frame), row == hidden)

    found = []
    for window, (hidden, ranked) in zip(rows.tolist(), retrieve(txe, data, rows, nearest=len(data.table)), strict=True):
        events = [[shown(row, hidden) for row in some] for some in (window, ranked[:NEAREST])]
        found.append(FillIn(events[0][0].movie, *events, ranked.index(hidden) + 1, len(ranked)))
    return found


def _data(arguments: dict, folder: Path) -> EventWindows:
    """The windows that a training was configured with, its features left on disk."""
    located = {name: arguments[name] for name in _PATHS if arguments.get(name)}
    for name, value in located.items():
        paths = [str(beside(folder, Path(path))) for path in (value if isinstance(value, list) else [value])]
        located[name] = paths if isinstance(value, list) else paths[0]
    data = EventWindows(**{**arguments, **located, "placement": "mmap"})
    data.setup("fit")
    return data
