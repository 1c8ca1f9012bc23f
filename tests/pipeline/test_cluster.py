"""A plan submitted to a cluster: submitit's local one, and SLURM's `sbatch` as far as its scripts tell."""

import re
from pathlib import Path

import pytest
from toy_project import SECOND, command

from kuleshov.core.errors import KuleshovError
from kuleshov.core.processes import Launch
from kuleshov.core.results import read_results
from kuleshov.pipeline import cluster
from kuleshov.pipeline.plan import Planned, Request, make_plan

pytest.importorskip("submitit", reason="the extra `slurm` is not installed")


def how(**launch) -> dict:
    return {"launch": Launch(**launch), "jobs": 0, "force": False}


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that keeps what a pretended `sbatch` was given, by the numbers that it gave."""
    kept = tmp_path / "kept"
    kept.mkdir()
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    body = f'#!/bin/sh\nn=$(ls {kept} | wc -l)\nn=$((n + 40))\ncp "$1" {kept}/$n\necho Submitted batch job $n\n'
    for name, text in (("sbatch", body), ("srun", "#!/bin/sh\n"), ("sacct", "#!/bin/sh\n")):
        (bin_ / name).write_text(text)
        (bin_ / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")
    return kept


def plan_of(project: Path, **changes) -> Planned:
    return make_plan(Request("second", project, runs=project / "runs", **changes))


def flags(script: Path) -> dict[str, str]:
    return dict(re.findall(r"#SBATCH --([\w-]+)=(.*)", script.read_text()))


@pytest.mark.slow
def test_a_plan_runs_on_a_cluster_of_this_machine(project: Path):
    done = command(project, "second", "--runs", "runs", "--launcher", "local", "--submit", "timeout_min=5")
    assert done.returncode == 0, done.stderr[-2000:]
    numbers, folders = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    assert len(set(numbers)) == 2 and [Path(folder).name.split("-")[0] for folder in folders] == ["first", "second"]
    assert {line.row for line in read_results(project / folders[0] / "results.jsonl")} == {"slow", "fast", "trivial"}
    assert (project / folders[1] / "weights" / "toy.safetensors").is_file()
    again = command(project, "second", "--runs", "runs", "--launcher", "local")
    assert again.returncode == 0 and again.stdout.strip() == ""


@pytest.mark.slow
def test_a_stage_that_fails_there_is_said_in_a_line(project: Path):
    (project / "stages" / "second.yaml").write_text(SECOND.replace("{first.toy}", "nowhere.safetensors"))
    (project / "toy.py").write_text((project / "toy.py").read_text().replace("self.layer = ", "1 / 0; self.layer = "))
    done = command(project, "second", "--runs", "runs", "--launcher", "local")
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert re.match(r"error: a submitted stage failed: first (slow|fast)-seed0 failed: exit code 1 .*log\.err\)$", line)


def test_each_stage_waits_for_those_that_it_needs(project: Path, scripts: Path):
    told = cluster.submit(plan_of(project), project, project / "runs", "slurm", ["slurm_partition=long"], how())
    first, second = plan_of(project).order()
    assert told == f"40 {first.folder}\n41 {second.folder}"
    one, other = flags(scripts / "40"), flags(scripts / "41")
    assert one["job-name"] == "kuleshov-first" and other["job-name"] == "kuleshov-second"
    assert "dependency" not in one and other["dependency"] == "afterok:40" and other["kill-on-invalid-dep"] == "yes"
    assert one["partition"] == other["partition"] == "long"
    # eight devices are in the first one's configuration, which the runner itself trains on together
    assert one["gpus-per-node"] == "8" and one["ntasks-per-node"] == "1" and other["gpus-per-node"] == "1"


def test_ranks_on_several_nodes_are_the_clusters_tasks(project: Path, scripts: Path):
    cluster.submit(plan_of(project), project, project / "runs", "slurm", ["gpus_per_node=0"], how(devices=4, nodes=2))
    found = flags(scripts / "40")
    assert found["nodes"] == "2" and found["ntasks-per-node"] == "4" and found["gpus-per-node"] == "0"


def test_a_stage_goes_on_after_its_time_is_up(project: Path):
    task = cluster.StageTask(plan_of(project), project, Launch(), force=True)
    again = task.checkpoint().function
    assert again.planned.folder == task.planned.folder and not again.force


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["timeout_min"], "--submit takes NAME=VALUE, got 'timeout_min'"),
        (["slurm_partitoin=x"], "slurm took no job: Unknown argument 'partitoin'"),
        (["timeout_min=soon"], 'slurm took no job: Parameter "timeout_min" expected type'),
    ],
)
def test_wrong_parameters(project: Path, scripts: Path, given: list[str], text: str):
    with pytest.raises(KuleshovError, match=text):
        cluster.submit(plan_of(project), project, project / "runs", "slurm", given, how())


def test_without_a_cluster(project: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(KuleshovError, match="slurm took no job: Could not detect .srun"):
        cluster.submit(plan_of(project), project, project / "runs", "slurm", [], how())
    monkeypatch.setattr(cluster, "SUBMITIT", False)
    with pytest.raises(KuleshovError, match=r"--launcher needs `pip install 'kuleshov\[slurm\]'`"):
        cluster.submit(plan_of(project), project, project / "runs", "slurm", [], how())
