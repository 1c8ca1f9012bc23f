"""The table's columns and rows: which are shown first, under what name, and in which direction they are good."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ColumnKey:
    """A column: one metric of one task on one split."""

    task: str
    metric: str
    split: str


# task -> the metrics that it is judged by; the empty name stands for LVU's tasks
HEADLINE: dict[str, tuple[str, ...]] = {
    "verbs": ("Acc@1", "acc1_offscreen", "Recall@5"),
    "relations": ("Top1-Acc", "Mean-Acc"),
    "roles": ("CIDEr",),
    "": ("top1", "mse"),
}
_METRICS = {
    "acc1_offscreen": "Acc@1 off screen",
    "acc1_onscreen": "Acc@1 on screen",
    "Top1-Acc": "top-1",
    "Mean-Acc": "macro",
    "top1": "accuracy",
    "balanced_top1": "balanced accuracy",
    "mse": "squared error",
    "top1_low95": "accuracy, 95 % low",
    "top1_high95": "accuracy, 95 % high",
}
_TASKS = {
    "verbs": "Verbs",
    "relations": "Relations",
    "roles": "Roles",
    "relationship": "LVU relation",
    "way_speaking": "LVU speaking",
    "scene": "LVU scene",
    "director": "LVU director",
    "writer": "LVU writer",
    "year": "LVU year",
    "genre": "LVU genre",
    "like_ratio": "LVU like",
    "view_count": "LVU views",
}
_LOWER_IS_BETTER = ("mse", "mae", "loss")

ROWS = {
    "trivial": "trivial: looks at nothing",
    "language": "language only",
    "supervised-backbone": "supervised backbone only",
    "supervised-scratch": "TxE from scratch, supervised backbone",
    "backbone": "backbone only",
    "scratch": "TxE from scratch",
    "pretrained-frozen": "TxE pretrained and frozen",
    "pretrained-vidsitu": "TxE pretrained on VidSitu",
    "pretrained": "TxE pretrained",
    "backbone-tuned": "tuned backbone only",
    "scratch-tuned": "TxE from scratch, tuned backbone",
    "carried-tuned": "TxE pretrained before the tuning, tuned backbone",
    "pretrained-tuned": "TxE pretrained, tuned backbone",
    "finetuned": "backbone tuned on verbs",
    "ceiling": "ceiling: perfect observer",
    "human": "one annotator",
}


def task_title(task: str) -> str:
    """A task's name for people."""
    return _TASKS.get(task, task)


def metric_title(metric: str) -> str:
    """A metric's name for people."""
    return _METRICS.get(metric, metric)


def column_title(column: ColumnKey) -> str:
    """A column's name for people."""
    return f"{task_title(column.task)} {metric_title(column.metric)}"


def row_title(row: str) -> str:
    """A row's name for people; a variant's name follows it."""
    first = row.split(" ", 1)[0]
    return ROWS.get(first, first) + row[len(first) :]


def higher_is_better(column: ColumnKey) -> bool:
    """Direction of a column's metric."""
    return not column.metric.lower().startswith(_LOWER_IS_BETTER)


def decimals(column: ColumnKey) -> int:
    """Digits after the point: two for per cent, three for squared errors."""
    return 2 if higher_is_better(column) else 3


def column_order(column: ColumnKey) -> tuple:
    """Sort key: tasks in the order above, headline metrics first."""
    tasks = list(_TASKS)
    metrics = HEADLINE.get(column.task, HEADLINE[""])
    place = tasks.index(column.task) if column.task in tasks else len(tasks)
    rank = metrics.index(column.metric) if column.metric in metrics else len(metrics)
    return place, column.task, rank, column.metric, column.split


def row_order(row: str) -> tuple:
    """Sort key: rows in the order above; others come before the ceiling, in the order that they have."""
    first = row.split(" ", 1)[0]
    names = list(ROWS)
    return (names.index(first), row) if first in ROWS else (names.index("ceiling") - 0.5, "")
