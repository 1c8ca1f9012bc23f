"""Under torchrun and SLURM: from an empty folder, on one node and on two; allocations without srun."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from toy_project import FIRST, command, words

from kuleshov.core import processes
from kuleshov.core.errors import UsageError
from kuleshov.core.processes import LAUNCHERS, Launch, detect, first_host, settle_slurm, task_count
from kuleshov.core.results import read_results

STEP = {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_NNODES": "1", "SLURM_NODELIST": "n1"}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher."""
    for name in [name for name in os.environ if name in LAUNCHERS or name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def torchrun(*options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options, "-m", "kuleshov"]


def all_at_once(project: Path, calls: list[list[str]], environments: list[dict[str, str]]) -> list[str]:
    """What calls print on stdout, that are started side by side."""
    started = [
        subprocess.Popen(
            call, cwd=project, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1", **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for call, environment in zip(calls, environments, strict=True)
    ]  # fmt: skip
    ended = [process.communicate(timeout=240) for process in started]
    assert [process.returncode for process in started] == [0] * len(calls), [text[-1500:] for _, text in ended]
    return [out for out, _ in ended]


def check_run(project: Path, printed: list[str]) -> None:
    """The pipeline has run once, with two ranks in each training."""
    (folder,) = {line for text in printed for line in text.split()}
    first = project / json.loads((project / folder / "stage.json").read_text())["needs"]["first"]
    assert {(line.row, line.seed) for line in read_results(first / "results.jsonl")} == {
        ("slow", 0), ("fast", 0), ("trivial", None),
    }  # fmt: skip
    for job in (first / "slow-seed0", first / "fast-seed0", project / folder):
        assert (job / "weights" / "toy.safetensors").is_file() and (job / "log-rank1.txt").is_file()
        assert "num_nodes" in (job / "config.yaml").read_text()
        assert "MEMBER: 2/2" in (job / "log.txt").read_text() + (job / "log-rank1.txt").read_text()


@pytest.mark.slow
def test_torchrun_on_one_node(project: Path):
    run = ("run", "second")
    printed = all_at_once(project, [[*torchrun("--standalone", "--nproc_per_node", "2"), *run]], [{}])
    check_run(project, printed)
    # again, from the beginning of the last stage: all ranks agree on what is done
    again = [*torchrun("--standalone", "--nproc_per_node", "2"), *run, "--force"]
    assert all_at_once(project, [again], [{}]) == printed


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"SLURM_NNODES": "2", "MASTER_ADDR": "localhost", "SLURM_NTASKS": "1(x2)"}])
def test_srun(project: Path, more: dict[str, str]):
    step = {**STEP, "MASTER_PORT": free_port(), **more}
    ranks = [{**step, "SLURM_PROCID": str(rank)} for rank in range(2)]
    check_run(project, all_at_once(project, [words("second")] * 2, ranks))


@pytest.mark.slow
@pytest.mark.parametrize(
    "allocation",
    [
        {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "2(x3)", "SLURM_JOB_NAME": "bash", "SLURM_PROCID": "0"},
        {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "ENVIRONMENT": "BATCH", "SLURM_LOCALID": "0"},
    ],
)
def test_an_allocation_without_srun_is_one_process(project: Path, allocation: dict[str, str]):
    done = command(project, "first", **allocation)
    assert done.returncode == 0, done.stderr
    fit = [sys.executable, "-m", "kuleshov", "fit", "-c", "configs/toy.yaml", "--trainer.devices", "1"]
    done = subprocess.run(fit, cwd=project, env={**os.environ, **allocation}, capture_output=True, text=True)
    assert done.returncode == 0 and "MEMBER: 1/" not in done.stderr, done.stderr


@pytest.mark.slow
def test_a_failure_of_rank_0_ends_every_rank_in_one_line(project: Path):
    (project / "stages" / "first.yaml").write_text(FIRST.replace("lr: 0.5", "lr: much"))
    step = {**os.environ, **STEP, "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    options = {"cwd": project, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    ranks = [subprocess.Popen(words("second"), env={**step, "SLURM_PROCID": str(rank)}, **options) for rank in range(2)]
    texts = [rank.communicate(timeout=120)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [1, 1]
    assert texts[0].splitlines()[-1].startswith("error: first fast-seed0 failed: ")
    assert texts[1].count("error: ") == 1 and "Traceback" not in texts[0] + texts[1]


def test_what_launchers_say(monkeypatch: pytest.MonkeyPatch):
    def seen(*given: int | None, **variables: str) -> Launch:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return detect(*given)

    assert seen(3, 1) == Launch(devices=3)
    two = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "5"}
    assert seen(**two) == Launch(3, True, 2, 2, "a", 5)
    assert seen(8, 1, RANK="0", WORLD_SIZE="1", TORCHELASTIC_RUN_ID="x").devices == 1
    assert seen(**STEP, SLURM_PROCID="1") == Launch(1, True, 2, 1, "127.0.0.1", 15077)
    spread = {**STEP, "SLURM_PROCID": "5", "SLURM_NTASKS": "2(x3)", "SLURM_NNODES": "3", "SLURM_NODELIST": "g[07-09]"}
    assert seen(**spread) == Launch(5, True, 2, 3, "g07", 15077)
    # an interactive step of one task in an allocation of two
    assert not seen(**STEP, SLURM_PROCID="0", SLURM_STEP_NUM_TASKS="1").outer
    assert seen(4, 2, MASTER_ADDR="a", NODE_RANK="1") == Launch(1, False, 4, 2, "a")
    for wrong in ({**STEP, "SLURM_PROCID": "0", "SLURM_NTASKS": "3", "SLURM_NNODES": "2"}, {**two, "WORLD_SIZE": "x"}):
        with pytest.raises(UsageError, match="same number|WORLD_SIZE has to be a whole number"):
            seen(**wrong)
    with pytest.raises(UsageError, match="--num_nodes 2 needs torchrun"):
        detect(1, 2)


@pytest.mark.parametrize(
    ("text", "count"), [("4", 4), ("2(x3)", 6), ("2(x3),1", 7), ("2, 3", 5), ("", 1), ("many", 1), ("(x3)", 1)]
)
def test_task_counts(text: str, count: int):
    assert task_count(text) == count


def test_first_hosts():
    names = ["a", "gpu[03-05,9],cpu1", "a1,a2", "n[7]", "n[2,4]-x b"]
    assert [first_host(name) for name in names] == ["a", "gpu03", "a1", "n7", "n2"]


def test_members_are_told_as_torchrun_tells_them(monkeypatch: pytest.MonkeyPatch):
    for name, value in {**STEP, "SLURM_PROCID": "1", "TORCHELASTIC_ERROR_FILE": "x", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    launch = detect()
    alone, member = launch.environment(), launch.environment(123)
    assert not LAUNCHERS & alone.keys() and "TORCHELASTIC_ERROR_FILE" not in alone
    assert (member["RANK"], member["LOCAL_RANK"], member["GROUP_RANK"], member["MASTER_PORT"]) == ("1", "1", "0", "123")
    assert "SLURM_NTASKS" not in member
    settle_slurm()
    assert os.environ["SLURM_NTASKS_PER_NODE"] == "2" and os.environ["SLURM_LOCALID"] == "1"
    monkeypatch.delenv("SLURM_PROCID")
    settle_slurm()
    assert "SLURM_NTASKS" not in os.environ and processes.slurm_tasks() is None
