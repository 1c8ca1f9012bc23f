"""Tiny LVU trees with stores that hold a signal, written in a moment."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kuleshov.datasets.lvu import LVU_TASKS
from kuleshov.features.feature_store import instances
from kuleshov.features.store_writer import StoreWriter
from kuleshov.training.lightning_cli import main

WIDTH, REGION_WIDTH = 12, 6


def make_annotations(root: Path, task: str, sizes: dict[str, int], seed: int = 0) -> dict[str, int]:
    """Write one task's CSV files; {movie id: a hidden class that the features show}."""
    rng = np.random.default_rng(seed)
    hidden = {}
    for split, size in sizes.items():
        lines = [" ".join(LVU_TASKS[task].columns)]
        for number in range(size):
            movie = f"{split}{number:07d}"
            hidden[movie] = int(rng.integers(2))
            label = f"{hidden[movie]} name{hidden[movie]}"
            if task == "view_count":
                label = str(10 ** (4 + 2 * hidden[movie]))
            elif task == "like_ratio":
                label = f"{900 + 90 * hidden[movie]} 50"
            lines.append(f"{label} {movie} tt{number}")
        path = root / "lvu_1.0" / task / f"{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    return hidden


def make_events(folder: Path, hidden: dict[str, int], length=lambda n: 30, stride: float = 2.0) -> Path:
    """An event store whose first feature shows the hidden class under noise."""
    rng = np.random.default_rng(1)
    writer = StoreWriter(folder, WIDTH, 2.0, stride, "fp32", {})
    for number, (movie, kind) in enumerate(sorted(hidden.items())):
        rows = rng.normal(size=(length(number), WIDTH)).astype(np.float32)
        rows[:, 0] += 2.0 * kind - 1.0
        writer.add(movie, torch.from_numpy(rows))
    writer.finish({})
    return folder


def make_instances(folder: Path, hidden: dict[str, int], seconds: int = 60, per_second: int = 2) -> Path:
    """An instance store whose features show the hidden class under noise."""
    rng = np.random.default_rng(2)
    writer = StoreWriter(folder, REGION_WIDTH, dtype="fp32", kind="instances")
    for movie, kind in hidden.items():
        count = seconds * per_second
        features = rng.normal(size=(count, REGION_WIDTH)).astype(np.float32)
        features += 2.0 * kind - 1.0
        corner = rng.uniform(0, 0.5, size=(count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, size=(count, 2))], axis=1)
        second = np.repeat(np.arange(seconds), per_second)
        track = np.tile(np.arange(per_second), seconds) + per_second * (second // 20)
        writer.add(movie, **vars(instances(features, boxes, second, track, shots=second // 10)))
    writer.finish({"source": "made up"})
    return folder


@pytest.fixture
def kit() -> SimpleNamespace:
    """The functions above, for tests that are imported by path."""
    return SimpleNamespace(
        annotations=make_annotations,
        events=make_events,
        instances=make_instances,
        width=WIDTH,
        region_width=REGION_WIDTH,
    )


@pytest.fixture
def configs() -> Path:
    """The folder of this stage's configurations."""
    return Path(__file__).parents[3] / "configs" / "train-lvu"


@pytest.fixture
def fit(configs):
    """Trains by a configuration, at a scale or with the paper's values (None), with further words."""

    def made(name: str, run: Path, *more: str, scale: str | None = "demo", data=(), model=()):
        files = [f"{configs}/{name}.yaml", *([f"{configs}/{name}.{scale}.yaml"] if scale else [])]
        words = ["fit", *(f"--config={file}" for file in files)]
        for part, options in (("data", dict(data)), ("model", dict(model))):
            words += [f"--{part}.init_args.{key}={value}" for key, value in options.items()]
        return main([*words, f"--trainer.default_root_dir={run}", *more])

    return made
