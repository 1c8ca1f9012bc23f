"""The whole pipeline from an empty folder on two agents of torchrun; and kills, which leave and change nothing."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from kuleshov.core.files import sha256_file
from kuleshov.core.results import read_results

from .test_extending import CLIPS, CONFIGS, METHODS, NETS, TINY, configuration, project  # noqa: F401  a fixture

pytestmark = pytest.mark.slow
STAGE = ("train-verbs", "--scale", "demo", "--world-seed", "117", "--trust", "tiny_nets")
LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM", "MASTER", "TORCHELASTIC", "PL_", "OMP_")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def start(folder: Path, words: tuple[str, ...], **variables: str) -> subprocess.Popen:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS)}
    environment = {**clean, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(processes: list[subprocess.Popen], seconds: float = 400) -> str:
    """Wait for all; what they said. All are killed when one fails or hangs."""
    try:
        texts = [process.communicate(timeout=seconds)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(texts)[-3000:]
    return "\n".join(texts)


def left_of(folder: Path) -> list[str]:
    """Command lines of the processes that work in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if str(place.joinpath("cwd").readlink()).startswith(str(folder)):
                found.append(place.joinpath("cmdline").read_text().replace("\0", " "))
        except OSError:
            # gone meanwhile, or somebody else's
            continue
    return found


def outcome(folder: Path) -> dict[str, str | list]:
    """Digests of all weights and the stage's numbers, by place."""
    (run,) = folder.glob("runs/train-verbs-*")
    weights = {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*.safetensors"))}
    return {**weights, "results": [(line.row, line.metric, line.value) for line in read_results(run / "results.jsonl")]}


@pytest.fixture(scope="module")
def alone(project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:  # noqa: F811
    """What one process makes."""
    folder = tmp_path_factory.mktemp("alone")
    finish([start(folder, ("-m", "kuleshov", "run", *STAGE, "--project", str(project)))])
    return outcome(folder)


def check(folder: Path, alone: dict, exact: bool) -> None:
    """The run is whole; one process's numbers where `exact`."""
    found = outcome(folder)
    assert found.keys() == alone.keys() and len(found["results"]) == len(alone["results"])
    stages = [json.loads(path.read_text())["stage"] for path in folder.glob("runs/*/stage.json")]
    assert sorted(stages) == [
        "extract-features",
        "extract-features",
        "pretrain-backbone",
        "pretrain-txe",
        "train-verbs",
        "world",
    ]
    if exact:
        assert found == alone
    assert left_of(folder) == []


def test_under_torchrun(project, alone, tmp_path):  # noqa: F811
    run = ("-m", "kuleshov", "run", *STAGE, "--project", str(project))
    where = ("--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{free_port()}", "--rdzv_id=one")
    agent = ("-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", *where)
    finish([start(tmp_path, (*agent, *run)) for _ in range(2)])
    check(tmp_path, alone, exact=False)


def descendants(pid: int) -> list[int]:
    """A process's children, their children, and so on."""
    tree: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        tree.setdefault(int(fields[1]), []).append(int(place.parent.name))
    found, todo = [], [pid]
    while todo:
        children = tree.get(todo.pop(), [])
        found, todo = found + children, todo + children
    return found


def wait_for_children(pid: int, count: int = 3, seconds: float = 60) -> None:
    """Wait until a process has started so many."""
    began = time.monotonic()
    while len(descendants(pid)) < count and time.monotonic() - began < seconds:
        time.sleep(0.1)


def nothing_is_left(folder: Path, seconds: float = 30) -> None:
    """Wait for what works in a folder to end; a process that still imports sees its parent's death after that."""
    began = time.monotonic()
    while left_of(folder) and time.monotonic() - began < seconds:
        time.sleep(0.2)
    assert left_of(folder) == []


def is_job(pid: int) -> bool:
    """Whether a process leads a group: the runner's jobs do."""
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def test_kills_leave_nothing_and_change_nothing(project, alone, tmp_path):  # noqa: F811
    moments, run = random.Random(0), ("-m", "kuleshov", "run", *STAGE, "--project", str(project))
    for victim in ("runner", "job", "group"):
        process = start(tmp_path, run)
        time.sleep(moments.uniform(4, 12))
        jobs = [pid for pid in descendants(process.pid) if is_job(pid)]
        if victim == "group":
            os.killpg(process.pid, signal.SIGKILL)
        for pid in {"runner": [process.pid], "job": jobs, "group": []}[victim]:
            os.kill(pid, signal.SIGKILL)
        text = process.communicate(timeout=120)[0]
        # a job that had just said its last word is not missed
        assert victim != "job" or not jobs or "failed: " in text or process.returncode == 0
        nothing_is_left(tmp_path)
    finish([start(tmp_path, run)])
    check(tmp_path, alone, exact=True)


def test_a_fit_that_is_killed_takes_its_loader_workers_along(tiny_world, tmp_path):
    (tmp_path / "tiny_nets.py").write_text(NETS)
    data = {"videos": str(tiny_world / "kinetics" / "train.csv"), **CLIPS, "num_workers": 3}
    model = {"backbone": TINY, **METHODS["supervised"]}
    tiny = configuration(model, data, default_root_dir="run", max_epochs=1000)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    published = CONFIGS / "pretrain-backbone" / "supervised.yaml"
    process = start(tmp_path, ("-m", "kuleshov", "fit", "-c", str(published), "-c", "tiny.yaml"))
    wait_for_children(process.pid)
    time.sleep(1)
    assert len(descendants(process.pid)) >= 3
    process.kill()
    nothing_is_left(tmp_path)


def test_an_extraction_on_two_devices_that_is_killed_leaves_no_worker(tiny_world, tmp_path):
    (tmp_path / "tiny_nets.py").write_text(NETS)
    words = ("--backbone", json.dumps(TINY), "--videos", str(tiny_world / "lvu" / "videos"), "--output", "store")
    process = start(tmp_path, ("-m", "kuleshov", "extract", *words, "--devices", "2", "--stride", "0.01"))
    wait_for_children(process.pid)
    time.sleep(3)
    assert len(descendants(process.pid)) >= 2
    process.kill()
    nothing_is_left(tmp_path)
