"""What the tests of pretraining share: runs of the command line on the tiny world."""

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "pretrain-backbone"

# small enough for a test, whatever the configuration says
TINY = {
    "model.init_args.backbone": "{class_path: slow_d_r50, init_args: {width: 2}}",
    "model.init_args.health_every": 1,
    "model.init_args.compile": "false",
    "data.init_args.batch_size": 4,
    "data.init_args.num_workers": 0,
    "data.init_args.num_frames": 4,
    "data.init_args.frame_stride": 2,
    "data.init_args.frame_rate": 8,
    "data.init_args.crop_size": 32,
    "data.init_args.short_side": 32,
    "data.init_args.cache_mb": 60,
    "data.init_args.probe_limit": 8,
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.strategy": "auto",
    "trainer.precision": "32-true",
}
OF_METHOD = {
    "cvrl": {"model.init_args.hidden_width": 16, "model.init_args.embedding_width": 8},
    "modist": {
        "model.init_args.hidden_width": 16,
        "model.init_args.embedding_width": 8,
        "model.init_args.motion_backbone": "{class_path: motion_2d, init_args: {width: 1}}",
        "model.init_args.queue_size": 10,
        "data.init_args.motion_frames": 4,
        "data.init_args.motion_stride": 2,
        "data.init_args.motion_rate": 8,
        "data.init_args.motion_size": 32,
    },
    "supervised": {"model.init_args.classes": 16},
}


@pytest.fixture
def fit(tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Run `kuleshov fit` on the tiny world: fit(method, overlays, **options) gives the finished CLI."""
    from kuleshov.training.lightning_cli import main

    # Lightning warns where both a list of arguments and a command line are there
    monkeypatch.setattr("sys.argv", ["kuleshov"])

    def run(method: str, *overlays: str, probe: bool = True, **options):
        lists = tiny_world / "kinetics"
        values = {
            **TINY,
            **OF_METHOD[method],
            "data.init_args.videos": lists / "train.csv",
            "trainer.default_root_dir": tmp_path / "run",
        }
        if probe:
            values["data.init_args.probe_bank"] = lists / "train.csv"
            values["data.init_args.probe_queries"] = lists / "val.csv"
        values |= {name.replace("__", "."): value for name, value in options.items()}
        arguments = ["fit"]
        for name in (method, *(f"{method}.{overlay}" for overlay in overlays)):
            arguments += ["-c", str(CONFIGS / f"{name}.yaml")]
        for name, value in values.items():
            arguments += [f"--{name}", str(value)]
        return main(arguments)

    return run
