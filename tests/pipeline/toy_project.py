"""The toy project that the tests of the runner work in, and its command line."""

import os
import subprocess
import sys
from pathlib import Path

TOY = Path(__file__).parent / "toy.py"
CONFIG = """
model: {class_path: toy.Toy, init_args: {width: 3, optimizer: sgd, schedule: constant}}
data: {class_path: toy.ToyData}
trainer:
  max_epochs: 3
  accelerator: cpu
  log_every_n_steps: 1
  enable_model_summary: false
"""
FIRST = """
summary: first
command: fit
configs: [configs/toy.yaml, "configs/toy.{scale}.yaml", "configs/toy.{scale}-{data}.yaml"]
data: {k400: {}, folder: {}}
rows: {slow: {model.init_args.lr: 0.1}, fast: {model.init_args.lr: 0.5}}
seeded: true
outputs: {toy: slow-seed0/weights/toy.safetensors}
"""
SECOND = """
summary: second
command: fit
configs: [configs/toy.yaml]
needs: {first: {stage: first, data: k400}}
arguments: {model.init_args.weights: "{first.toy}"}
"""


def write_project(folder: Path) -> Path:
    """A project with two stages in a folder."""
    for name in ("stages", "configs", "data/k400", "data/elsewhere"):
        (folder / name).mkdir(parents=True)
    (folder / "toy.py").write_text(TOY.read_text())
    (folder / "configs" / "toy.yaml").write_text(CONFIG)
    (folder / "configs" / "toy.paper.yaml").write_text("trainer: {devices: 8}\n")
    (folder / "stages" / "first.yaml").write_text(FIRST)
    (folder / "stages" / "second.yaml").write_text(SECOND)
    return folder


def words(*given: str) -> list[str]:
    """`kuleshov run` without the working directory among the modules' folders: the runner adds the project."""
    return [sys.executable, "-P", "-m", "kuleshov", "run", *given]


def command(project: Path, *given: str, wait: bool = True, **environment: str):
    """Run a stage of the project in a process of its own, on one device where nothing else is said."""
    call = [*words(*given), *(() if "--devices" in given else ("--devices", "1"))]
    options = {"cwd": project, "env": {**os.environ, "OMP_NUM_THREADS": "1", **environment}, "text": True}
    if wait:
        return subprocess.run(call, capture_output=True, timeout=120, **options)
    return subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
