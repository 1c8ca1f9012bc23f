"""What is killed leaves no process: a job alone, its runner, a worker's parent; what goes on is the same to the bit."""

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from toy_project import FIRST, command

from kuleshov.core.processes import Launch, is_alive
from kuleshov.core.results import read_results
from kuleshov.pipeline.jobs import threads_of
from kuleshov.pipeline.plan import Request, make_plan
from kuleshov.pipeline.runner import Runner, console

PAUSED = FIRST.replace("seeded: true", "arguments: {model.init_args.pause: 0.3, data.init_args.workers: 2}")
linux = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")


def marked(mark: str) -> list[int]:
    """Processes that were started with a mark in their environment, and what they forked."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if mark.encode() in (folder / "environ").read_bytes() and state != "Z":
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def none_left(mark: str, seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not marked(mark)


def weights(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("toy.safetensors")}


@linux
@pytest.mark.slow
def test_random_kills_leave_nothing_and_change_nothing(project: Path):
    (project / "stages" / "first.yaml").write_text(PAUSED.replace("slow-seed0", "slow"))
    whole, draw, mark = command(project, "first", "--runs", "whole"), random.Random(3), uuid.uuid4().hex
    assert whole.returncode == 0, whole.stderr
    for what in ("job", "runner", "group"):
        runner = command(project, "first", "--runs", "killed", wait=False, MARK=mark)
        while not list((project / "killed").glob("*/*/checkpoints/last.ckpt")) and runner.poll() is None:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 0.5))
        jobs = [one for one in marked(mark) if one != runner.pid and os.getsid(one) == one]
        if what == "runner":
            os.kill(runner.pid, signal.SIGKILL)
        for job in jobs if what != "runner" else []:
            os.kill(job, signal.SIGKILL) if what == "job" else os.killpg(job, signal.SIGKILL)
        runner.wait(timeout=120)
        assert none_left(mark), what
    again = command(project, "first", "--runs", "killed")
    assert again.returncode == 0, again.stderr
    assert weights(project / "whole") == weights(project / "killed") != {}
    lines = [read_results(next(project.glob(f"{runs}/first-*/results.jsonl"))) for runs in ("whole", "killed")]
    assert lines[0] == lines[1]


@linux
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_end_with_their_parent(tmp_path: Path, method: str):
    mark, code = uuid.uuid4().hex, tmp_path / "parent.py"
    code.write_text(
        "import multiprocessing, os, time\n"
        "from kuleshov.core.processes import end_with_parent\n"
        "def work():\n"
        f"    {'end_with_parent()' if method == 'spawn' else 'pass'}\n"
        "    os.write(1, b'up\\n')\n    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    end_with_parent()\n"
        f"    context = multiprocessing.get_context({method!r})\n"
        "    [context.Process(target=work).start() for _ in range(2)]\n    time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, code], env={**os.environ, "MARK": mark}, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert [parent.stdout.readline() for _ in range(2)] == ["up\n"] * 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert none_left(mark, 10)


@linux
def test_a_command_ends_with_a_parent_that_has_gone_before_it_began(tmp_path: Path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not is_alive(gone.pid) and is_alive(os.getpid())
    code = "from kuleshov.core.processes import end_with_parent; end_with_parent(); print('lives')"
    environment = {**os.environ, "KULESHOV_PARENT": str(gone.pid)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL and done.stdout == ""


def test_threads_follow_from_the_request_not_from_what_is_left(project: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("kuleshov.pipeline.jobs.cores", lambda: 8)
    monkeypatch.setattr("kuleshov.pipeline.runner.cores", lambda: 8)
    (project / "configs" / "toy.paper.yaml").write_text("trainer: {devices: 1}\n")
    plan = make_plan(Request("first", project, seeds=2))
    runner = Runner(Launch(), 0, console())
    before = runner.shares(plan)
    for job in plan.jobs[:3]:
        job.folder.mkdir(parents=True)
        (job.folder / "job.json").write_text("{}")
    assert runner.shares(plan) == before == (4, 2)
    assert Runner(Launch(devices=4), 0, console()).shares(plan) == (1, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert runner.shares(plan) == (4, 3) and threads_of(1) == 3
