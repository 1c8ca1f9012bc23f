"""The table's columns and rows: which are shown first, under what name, and in which direction they are good."""

from collections.abc import Collection
from dataclasses import dataclass

from kuleshov.datasets.lvu import LVU_TASKS

# task -> the metrics that it is judged by; `probe` is a training's own control
HEADLINE: dict[str, tuple[str, ...]] = {
    "verbs": ("Acc@1", "acc1_offscreen", "Recall@5"),
    "relations": ("Top1-Acc", "Mean-Acc"),
    "roles": ("CIDEr",),
    "probe": (),
}
# the same of LVU's tasks, and of other people's where they have them
_COMMON = ("top1", "mse")
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
    "mse_low95": "squared error, 95 % low",
    "mse_high95": "squared error, 95 % high",
}
_TASKS = {
    **{"verbs": "Verbs", "relations": "Relations", "roles": "Roles"},
    **{task.name: f"LVU {task.title.lower()}" for task in LVU_TASKS.values()},
}
_LOWER_IS_BETTER = ("mse", "mae", "loss")
REFERENCES = ("trivial", "ceiling", "human")
ROWS = {
    "trivial": "trivial: looks at nothing",
    "gpt2": "GPT-2, language only",
    "language": "language only",
    "i3d-backbone": "I3D tuned on verbs, no TxE",
    "i3d-scratch": "I3D tuned on verbs, TxE from scratch",
    "supervised-backbone": "supervised backbone only",
    "supervised-scratch": "supervised backbone, TxE from scratch",
    "backbone": "backbone only",
    "scratch": "TxE from scratch",
    "pretrained-k400": "TxE pretrained on K400",
    "vs-pretrained-vidsitu": "backbone and TxE pretrained on VidSitu",
    "pretrained-vidsitu": "TxE pretrained on VidSitu",
    "pretrained": "TxE pretrained",
    "i3d-tuned": "I3D, tuned",
    "slow": "Slow, supervised",
    "no-pretraining": "no pretraining",
    "supervised": "supervised",
    "cvrl": "CVRL",
    "modist": "MoDist",
    "cvrl-k400-vs": "CVRL, K400 and VidSitu",
    "modist-k400-vs": "MoDist, K400 and VidSitu",
    "no-pretraining-tuned": "no pretraining, tuned",
    "supervised-tuned": "supervised, tuned",
    "cvrl-tuned": "CVRL, tuned",
    "modist-tuned": "MoDist, tuned",
    "cvrl-scratch": "CVRL, tuned, TxE from scratch",
    "modist-scratch": "MoDist, tuned, TxE from scratch",
    "cvrl-pretrained": "CVRL, tuned, TxE pretrained",
    "modist-pretrained": "MoDist, tuned, TxE pretrained",
    "finetuned": "backbone tuned on verbs",
    "instances": "instances, OT's pretraining",
    "instances-cvrl": "instances, CVRL",
    "instances-modist": "instances, MoDist",
    "scene-backbone": "scene, backbone only",
    "scene-pretrained": "scene, TxE pretrained",
    "ot++-pretrained": "OT++",
    "ceiling": "ceiling: perfect observer",
    "human": "one annotator",
}


@dataclass(frozen=True)
class ResultColumn:
    """A column: one metric of one task on one split."""

    task: str
    metric: str
    split: str

    @property
    def key(self) -> str:
        """Its name in JSON."""
        return f"{self.task}/{self.metric}/{self.split}"

    @property
    def titles(self) -> tuple[str, str]:
        """The task's and the metric's name for people."""
        return _TASKS.get(self.task, self.task), _METRICS.get(self.metric, self.metric)

    @property
    def title(self) -> str:
        """Its name for people."""
        return " ".join(self.titles)

    @property
    def higher_is_better(self) -> bool:
        """Direction of its metric."""
        return not self.metric.lower().startswith(_LOWER_IS_BETTER)

    @property
    def order(self) -> tuple:
        """Sort key: tasks in the order above, headline metrics first."""
        place, rank = _place(self.task, _TASKS), _place(self.metric, HEADLINE.get(self.task, _COMMON))
        return place, self.task, rank, self.metric, self.split

    def number(self, value: float, error: float | None) -> str:
        """A value with its standard error: two decimals for per cent, three for squared errors."""
        places = 2 if self.higher_is_better else 3
        return f"{value:.{places}f}" + (f" ± {error:.{places}f}" if error is not None else "")


def _place(name: str, names: Collection[str]) -> int:
    return list(names).index(name) if name in names else len(names)


def headline(columns: Collection[ResultColumn]) -> list[ResultColumn]:
    """The columns that tasks are judged by; of a task without any known metric all, and all where none is left."""
    common = {column.task for column in columns if column.metric in _COMMON}
    known = {**dict.fromkeys(common, _COMMON), **HEADLINE}
    kept = [column for column in columns if column.task not in known or column.metric in known[column.task]]
    return kept or list(columns)


def row_title(row: str) -> str:
    """A row's name for people; a variant's name follows it."""
    first = row.split(" ", 1)[0]
    return ROWS.get(first, first) + row[len(first) :]


def row_order(row: str) -> tuple:
    """Sort key: rows in the order above; others come before the ceiling, in the order that they have."""
    first = row.split(" ", 1)[0]
    return (_place(first, ROWS), row) if first in ROWS else (_place("ceiling", ROWS) - 0.5, "")
