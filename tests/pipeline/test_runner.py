"""The stage runner on a toy stage: plans, hands on, goes on, locks, and stops at a failure."""

import json
import os
import re
import signal
import sys
import time
import zipfile
from pathlib import Path
from typing import ClassVar

import pytest
from toy_project import CONFIG, FIRST, SECOND, command

from kuleshov.core.errors import FormatError, KuleshovError
from kuleshov.core.processes import Launch
from kuleshov.core.project import SHIPPED
from kuleshov.core.results import read_results
from kuleshov.pipeline.jobs import Running, gpus
from kuleshov.pipeline.plan import Planned, Request, make_plan, why_stale
from kuleshov.pipeline.run_command import run_command
from kuleshov.pipeline.runner import Runner, console, duration, locked, modules_of, share_done
from kuleshov.pipeline.stages import find_project, load_stage

PRETRAIN = """
summary: backbone
command: fit
configs: [configs/toy.yaml]
data: {k400: {}, folder: {}}
starts_from: model.init_args.weights
outputs: {weights: weights/b.safetensors}
"""
EXTRACT = """
summary: features
command: fit
configs: [configs/toy.yaml]
data: {folder: {}}
needs: {backbone: {stage: pretrain-backbone, data: k400}}
arguments: {model.init_args.weights: "{backbone.weights}", data.init_args.videos: "{root}"}
"""


def request(project: Path, stage: str = "second", **changes) -> Request:
    return Request(stage=stage, project=project, **changes)


def test_a_plan_names_folders_and_hands_on(project: Path):
    plan = make_plan(request(project, seeds=2))
    first, second = plan.order()
    assert [job.name for job in first.jobs] == ["slow-seed0", "slow-seed1", "fast-seed0", "fast-seed1"]
    assert first.folder.name.startswith("first-k400-paper-") and len(first.folder.name.split("-")[-1]) == 8
    assert f"--model.init_args.weights={first.folder}/slow-seed0/weights/toy.safetensors" in second.jobs[0].words
    assert not (project / "runs").exists()


def test_a_plan_can_be_seen_without_the_data(project: Path):
    words = ("first", "--root", "nowhere", "--runs", "r")
    assert "data set k400 not found" in command(project, *words).stderr
    shown = command(project, *words, "--dry-run", COLUMNS="200").stderr
    assert f"not there yet: data set k400 at {project}/nowhere/k400" in shown
    absent = make_plan(request(project, stage="first", root=project / "nowhere", needs_data=False))
    (project / "nowhere" / "k400").mkdir(parents=True)
    assert "not there yet" not in command(project, *words, "--dry-run", COLUMNS="200").stderr
    assert make_plan(request(project, stage="first", root=project / "nowhere")).fingerprint == absent.fingerprint


def test_the_fingerprint_follows_what_it_covers(project: Path):
    before = make_plan(request(project))
    assert make_plan(request(project, seeds=3)).fingerprint == before.fingerprint
    (project / "configs" / "toy.yaml").write_text("# a comment\n" + CONFIG)
    assert make_plan(request(project)).fingerprint == before.fingerprint
    (project / "stages" / "first.yaml").write_text(FIRST.replace("lr: 0.5", "lr: 0.6"))
    after = make_plan(request(project))
    assert after.fingerprint != before.fingerprint
    assert after.needs["first"].fingerprint != before.needs["first"].fingerprint


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"stage": "frist"}, r"no stage 'frist'; did you mean first\? \(known: .*first.*second"),
        ({"stage": "first", "data": "k40"}, "stage first has no data set 'k40'; did you mean k400?"),
        ({"stage": "second", "method": "cvrl"}, r"has no method 'cvrl' \(it takes none\)"),
        ({"scale": "dem"}, "no scale 'dem'; did you mean demo?"),
        ({"seeds": 0}, "--seeds must be from 1 to 1000, got 0"),
        ({"seeds": 10**30}, "--seeds must be from 1 to 1000, got 1"),
        ({"world_seed": -1}, "--world_seed must be from 0 to 4294967295, got -1"),
        ({"tasks": ("genre",)}, r"stage second has no task 'genre' \(it takes none\)"),
        ({"stage": "first", "scale": "gpu"}, "stage first cannot run at scale gpu: .*toy.gpu.yaml is not there"),
        ({"root": Path("data/elsewhere")}, r"data set k400 not found at .*elsewhere/k400.*SCALE=demo"),
    ],
)
def test_wrong_requests(project: Path, changes: dict, text: str):
    with pytest.raises(KuleshovError, match=text):
        make_plan(request(project, **changes))


def test_the_data_set_asked_for_is_missed_first(project: Path):
    (project / "stages" / "third.yaml").write_text(SECOND + "data: {lvu: {}}\n")
    with pytest.raises(KuleshovError, match=r"^data set lvu not found at .*data/lvu: put LVU's .*SCALE=demo"):
        make_plan(request(project, stage="third"))


def test_a_file_that_a_job_reads_is_missed_before_anything_runs(project: Path):
    stage = project / "stages" / "first.yaml"
    stage.write_text(
        stage.read_text().replace(
            "slow: {model.init_args.lr: 0.1}", 'slow: {model.init_args.lr: 0.1, model.init_args.weights: "{root}/w.pt"}'
        )
        + 'reads: {"{root}/w.pt": write it with x}\n'
    )
    place = project / "data" / "k400" / "w.pt"
    with pytest.raises(KuleshovError, match=f"what first reads not found at {place}: write it with x"):
        make_plan(request(project, root=project / "data"))
    # the other row does not read it, and a plan can be seen without it
    assert not make_plan(request(project, stage="first", root=project / "data", rows=("fast",))).missing
    shown = command(project, "first", "--root", "data", "--dry-run", COLUMNS="200").stderr
    assert "not there yet: data/k400/w.pt (write it with x)" in shown
    place.touch()
    assert not make_plan(request(project, root=project / "data")).order()[0].missing


def test_wrong_stage_files(project: Path):
    (project / "stages" / "first.yaml").write_text(FIRST + "outputz: {}\n")
    with pytest.raises(FormatError, match="field outputz: unknown field; did you mean outputs"):
        load_stage("first", project)
    (project / "stages" / "first.yaml").write_text("summary: {\n")
    with pytest.raises(FormatError, match="first.yaml: not readable as YAML"):
        load_stage("first", project)
    (project / "stages" / "first.yaml").write_text("summary: x\n")
    with pytest.raises(FormatError, match="field command: is missing"):
        load_stage("first", project)
    (project / "stages" / "first.yaml").write_text(FIRST + "needs: {second: {stage: second}}\n")
    with pytest.raises(KuleshovError, match="in a circle: second -> first -> second"):
        make_plan(request(project))
    (project / "stages" / "first.yaml").write_text("like: first\n")
    with pytest.raises(KuleshovError, match="like each other in a circle: first -> first"):
        load_stage("first", project)
    for value in ("{world}/world", "[{world.world}]"):
        (project / "stages" / "first.yaml").write_text(f"summary: x\ncommand: fit\narguments: {{a: '{value}'}}\n")
        with pytest.raises(KuleshovError, match="stage first: .*world.* names something that the stage does not have"):
            make_plan(request(project, stage="first"))
    (project / "stages" / "first.yaml").write_text(FIRST + "scales: {demo: {}}\n")
    with pytest.raises(KuleshovError, match=r"stage first has no scale paper \(known: demo\)"):
        make_plan(request(project, stage="first"))


def test_an_earlier_run_of_another_configuration_is_named(project: Path):
    def closed(**changes) -> Path:
        plan = make_plan(request(project, stage="first", **changes))
        plan.folder.mkdir(parents=True)
        (plan.folder / "stage.json").write_text(json.dumps({"resolved": plan.resolved}))
        return plan.folder

    before = closed()
    changed = FIRST.replace("lr: 0.5", "lr: 0.6")
    (project / "stages" / "first.yaml").write_text(changed)
    assert make_plan(request(project, stage="first")).stale == (
        f"{before.name} is of another configuration (rows.fast.model.init_args.lr: 0.5 -> 0.6)"
    )
    assert make_plan(request(project, stage="first", world_seed=1)).stale == ""


def test_a_stale_line_says_which_need_is_another(tmp_path: Path):
    runs, resolved = tmp_path, {"values": {}, "needs": {"backbone": "a" * 64}, "arguments": {"x": "1"}}
    (runs / "first-12345678").mkdir()
    (runs / "first-12345678" / "stage.json").write_text(json.dumps({"resolved": resolved}))
    now = {"values": {}, "needs": {"backbone": "b" * 64}, "arguments": {"x": "2"}}
    found = why_stale(runs, "first", runs / "first-new", now)
    assert found == "first-12345678 is of another configuration (arguments.x: 1 -> 2, another backbone)"


@pytest.mark.parametrize(
    ("line", "share"), [("epoch 3/20  45 s", 0.15), ("extract 12/60", 0.2), ("nothing yet", 0.0), ("x 7/5", 1.0)]
)
def test_how_much_is_done_is_read_off_the_last_line(line: str, share: float):
    assert share_done(line) == pytest.approx(share)


@pytest.mark.parametrize(("seconds", "said"), [(45, "45 s"), (89.6, "90 s"), (720, "12 min"), (12000, "3 h 20 min")])
def test_durations_in_words(seconds: float, said: str):
    assert duration(seconds) == said


def test_a_line_a_minute_where_there_is_no_terminal(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr("kuleshov.pipeline.runner.SILENCE", 0.0)
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    run_command("first", project=project, jobs=1)
    assert re.search(r"first: [01] of 2 jobs done, \d+ s", capsys.readouterr().err)


def test_a_second_runner_is_refused(project: Path):
    folder = project / "runs" / "x"
    folder.mkdir(parents=True)
    with locked(folder), pytest.raises(KuleshovError, match=r"another runner works in .*x"):
        with locked(folder):
            raise AssertionError("the lock was taken twice")


@pytest.mark.slow
def test_runs_skips_and_collects(project: Path):
    done = command(project, "second", "--seeds", "2")
    assert done.returncode == 0, done.stderr
    folder = project / done.stdout.strip()
    stage = json.loads((folder / "stage.json").read_text())
    first = project / stage["needs"]["first"]
    lines = read_results(first / "results.jsonl")
    learned = {("slow", 0), ("slow", 1), ("fast", 0), ("fast", 1)}
    assert {(line.row, line.seed) for line in lines} == {*learned, ("trivial", None)}
    assert len({line.config_sha256 for line in lines}) == 1
    record = json.loads((first / "slow-seed1" / "job.json").read_text())
    assert (record["row"], record["task"], record["seed"]) == ("slow", "", 1) and record["seconds"] > 0
    (given,) = json.loads((folder / "job.json").read_text())["inputs"]
    assert given.endswith("slow-seed0/weights/toy.safetensors")
    before = (first / "slow-seed0" / "job.json").stat().st_mtime_ns
    again = command(project, "second", "--seeds", "2")
    assert again.returncode == 0 and again.stderr.count("done") == 2 and "run " not in again.stderr
    third = command(project, "second", "--seeds", "3")
    assert "2 of 6 jobs" in third.stderr
    assert (first / "slow-seed0" / "job.json").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("runs", ["runs[red]", "runs{seed}", "{x}: #1, 'y'"])
def test_a_folder_of_runs_whose_name_means_something_elsewhere(project: Path, runs: str):
    done = command(project, "second", "--runs", runs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(runs) and f"run   {runs}" in done.stderr and f"done  {runs}" in done.stderr
    assert f"{runs}/first" in command(project, "second", "--runs", runs, "--dry-run", COLUMNS="200").stderr


def test_paths_in_a_list_are_quoted_where_they_have_to_be(project: Path):
    (project / "stages" / "second.yaml").write_text(SECOND.replace('"{first.toy}"', '"[{first.toy}, {seed}]"'))
    for runs, quoted in (("plain", False), ("a, b]", True), ("{seed}", True)):
        plan = make_plan(request(project, runs=Path(runs)))
        word = next(word for word in plan.jobs[0].words if "init_args.weights" in word)
        path = f"{plan.needs['first'].folder}/slow-seed0/weights/toy.safetensors"
        assert word == f"--model.init_args.weights=[{json.dumps(path) if quoted else path}, 0]"


def test_a_damaged_checkpoint_gives_way_to_the_one_before(project: Path, capfd: pytest.CaptureFixture):
    folder = project / "checkpoints"
    folder.mkdir()
    find = Runner(Launch(), 0, console())._checkpoint
    assert find(folder) is None and capfd.readouterr().err == ""
    (folder / "last.ckpt").write_bytes(b"torn")
    assert find(folder) is None
    assert "damaged" in (said := capfd.readouterr().err) and "last.ckpt: the training begins anew" in said
    with zipfile.ZipFile(folder / "best.ckpt", "w") as archive:
        archive.writestr("a", "b")
    assert find(folder) == folder / "best.ckpt"
    assert "last.ckpt: the training goes on from best.ckpt" in capfd.readouterr().err


@pytest.mark.slow
def test_a_failure_stops_with_its_log(project: Path):
    (project / "stages" / "first.yaml").write_text(FIRST.replace("lr: 0.5", "lr: much"))
    failed = command(project, "second")
    assert failed.returncode == 1
    last = failed.stderr.strip().splitlines()[-1]
    assert last.startswith("error: first fast-seed0 failed: toy.Toy:") and "much" in last and "log.txt)" in last
    assert not list((project / "runs").glob("second-*"))


@pytest.mark.slow
def test_killed_and_continued_is_the_same_to_the_bit(project: Path):
    paused = "arguments: {model.init_args.pause: 0.3}"
    text = FIRST.replace("seeded: true", paused).replace("slow-seed0", "slow")
    (project / "stages" / "first.yaml").write_text(text)
    whole = command(project, "first", "--runs", "whole")
    assert whole.returncode == 0, whole.stderr
    runner = command(project, "first", "--runs", "killed", wait=False)
    last = None
    while last is None:
        last = next((project / "killed").glob("*/slow/checkpoints/last.ckpt"), None)
        time.sleep(0.02)
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    assert not list((project / "killed").glob("*/stage.json"))
    time.sleep(5)  # the orphans notice
    again = command(project, "first", "--runs", "killed")
    assert again.returncode == 0, again.stderr
    for row in ("slow", "fast"):
        files = [next(project.glob(f"{runs}/*/{row}/weights/toy.safetensors")) for runs in ("whole", "killed")]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.fixture
def extracting(project: Path) -> Path:
    (project / "stages" / "pretrain-backbone.yaml").write_text(PRETRAIN)
    (project / "stages" / "extract.yaml").write_text(EXTRACT)
    return project


def test_a_folder_of_videos_is_no_root_of_other_data_sets(extracting: Path):
    plan = make_plan(request(extracting, stage="extract", root=Path("data/elsewhere")))
    assert plan.needs["backbone"].resolved["data"] == str(extracting / "data" / "k400")
    assert "--data.init_args.videos=data/elsewhere" in plan.jobs[0].words


def test_given_weights_stand_for_the_backbone(extracting: Path):
    given, other = Path("given.safetensors"), Path("other.safetensors")
    given.write_bytes(b"one"), other.write_bytes(b"two")
    plan = make_plan(request(extracting, stage="extract", root=Path("data/elsewhere"), weights=given))
    assert plan.needs == {} and f"--model.init_args.weights={given}" in plan.jobs[0].words
    changed = make_plan(request(extracting, stage="extract", root=Path("data/elsewhere"), weights=other))
    assert changed.fingerprint != plan.fingerprint


def test_a_backbone_starts_from_given_weights(extracting: Path):
    given, moved = Path("given.safetensors"), Path("moved.safetensors")
    given.write_bytes(b"one"), moved.write_bytes(b"one")
    stage = {"stage": "pretrain-backbone", "data": "k400"}
    plain = make_plan(request(extracting, **stage))
    second = make_plan(request(extracting, **stage, weights=given))
    assert f"--model.init_args.weights={given}" in second.jobs[0].words
    assert not any("init_args.weights" in word for word in plain.jobs[0].words)
    assert second.fingerprint != plain.fingerprint
    # the file's content counts, not where it lies
    assert make_plan(request(extracting, **stage, weights=moved)).fingerprint == second.fingerprint
    with pytest.raises(KuleshovError, match=r"--weights given.safetensors .*: nothing .* takes it \(needs: none\)"):
        make_plan(request(extracting, stage="first", weights=given))


def test_given_weights_that_are_not_there(extracting: Path):
    with pytest.raises(KuleshovError, match=r"^weights not found at .*nix: `kuleshov import-weights`"):
        make_plan(request(extracting, stage="extract", root=Path("data/elsewhere"), weights=Path("nix")))


def test_a_stage_like_another(project: Path):
    (project / "stages" / "other.yaml").write_text(
        "like: second\nsummary: other\narguments: {trainer.max_epochs: 1}\n"
        "needs: {more: {stage: first, data: folder}}\n"
    )
    other, second = load_stage("other", project), load_stage("second", project)
    assert other.configs == second.configs and other.summary == "other" and set(other.needs) == {"first", "more"}
    assert other.arguments == {**second.arguments, "trainer.max_epochs": "1"}
    (project / "stages" / "other.yaml").write_text("like: second\nneeds: {first: null}\nrows: {a: {}}\n")
    assert load_stage("other", project).needs == {} and list(load_stage("other", project).rows) == ["a"]


def test_a_grid_is_a_product_of_rows(project: Path):
    grid = "grid: {rate: {low: {lr: 0.1}, high: {lr: 0.5}}, warmup: {'': {}, sudden: {warmup_epochs: 0}}}\n"
    (project / "stages" / "second.yaml").write_text(SECOND + grid)
    assert load_stage("second", project).rows == {
        "low": {"lr": "0.1"},
        "low-sudden": {"lr": "0.1", "warmup_epochs": "0"},
        "high": {"lr": "0.5"},
        "high-sudden": {"lr": "0.5", "warmup_epochs": "0"},
    }


def test_an_own_stage_takes_the_rest_from_the_package(project: Path, tmp_path: Path):
    (project / "stages" / "own.yaml").write_text(
        "summary: x\ncommand: fit\ndata: {vidsitu: {}}\nconfigs: [configs/toy.yaml]\n"
        "needs: {features: {stage: extract-features, data: vidsitu}}\narguments: {events: '{features.features}'}\n"
    )
    assert find_project(str(project / "stages" / "own.yaml")) == ("own", project.resolve())
    plan = make_plan(request(project, stage="own", scale="demo"))
    assert [one.stage.name for one in plan.order()] == ["world", "pretrain-backbone", "extract-features", "own"]
    assert str(SHIPPED / "configs" / "pretrain-backbone" / "cvrl.yaml") in plan.order()[1].jobs[0].words
    shown = command(project, "own", "--scale", "demo", "--dry-run", COLUMNS="200").stderr
    own = f"configs/toy.yaml, stages/own.yaml of {project.resolve()}; the other"
    assert own in shown and shown.rstrip().endswith(f"of {SHIPPED}")
    with pytest.raises(KuleshovError, match="no stage at .*stages/none.yaml"):
        find_project("stages/none.yaml")
    with pytest.raises(KuleshovError, match="stages/ not found at .*nowhere"):
        run_command("own", project=Path("nowhere"))


@pytest.mark.parametrize(
    ("stage", "usual", "world"),
    [
        ("compare-backbones-one-scene", "compare-backbones", "world-one-scene"),
        ("table-5-couples", "table-5", "world-couples"),
    ],
)
def test_the_world_that_a_stage_names_is_that_of_all_below_it(project: Path, stage: str, usual: str, world: str):
    found, plain = (make_plan(request(project, stage=name, scale="demo")).order() for name in (stage, usual))
    assert [planned.stage.name for planned in found] == [
        {"world": world, usual: stage}.get(planned.stage.name, planned.stage.name) for planned in plain
    ]


@pytest.mark.parametrize(
    ("devices", "expected", "ranks"),
    [
        (None, [], 8),
        (1, ["--trainer.devices=1", "--trainer.strategy=auto"], 1),
        (2, ["--trainer.devices=2", "--trainer.strategy=ddp"], 2),
    ],
)
def test_what_the_user_says_about_devices_wins(project: Path, devices: int | None, expected: list[str], ranks: int):
    plan = make_plan(request(project, stage="first"))
    launch = Launch(0, False, devices, 1)
    assert launch.ranks(plan.devices) == ranks
    words = Runner(launch, 0, console())._words(plan, plan.jobs[0])
    assert words[len(plan.jobs[0].words) :] == expected
    assert modules_of(plan) == ("kuleshov.training.lightning_cli",)
    # the stages that run a backbone over videos share them between the devices
    for kind in ("extract", "instances"):
        (project / "stages" / "videos.yaml").write_text(f"summary: x\ncommand: {kind}\n")
        plan = make_plan(request(project, stage="videos"))
        words = Runner(launch, 0, console())._words(plan, plan.jobs[0])
        assert words[1:] == ([] if devices is None else ["--devices", str(devices)])


class Pretended(Running):
    """A job that does nothing, and ends at the third look at it."""

    looks: ClassVar[dict[Path, int]] = {}

    @property
    def code(self) -> int | None:
        self.looks[self.log] -= 1
        return None if self.looks[self.log] > 0 else 0

    def kill(self) -> None:
        pass


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, str, int]]:
    """Jobs in the order in which they begin: name, threads, GPU, and how many run then."""
    seen: list[tuple[str, int, str, int]] = []

    def begin(words, log, threads, environment, preload):
        Pretended.looks[log] = 3
        beside = sum(looks > 0 for looks in Pretended.looks.values())
        name = log.parent.name if "seed" in log.parent.name else log.parent.name.split("-")[0]
        seen.append((name, threads, environment.get("CUDA_VISIBLE_DEVICES", ""), beside))
        return Pretended(None, log, time.monotonic())

    Pretended.looks.clear()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("kuleshov.pipeline.runner.start", begin)
    monkeypatch.setattr("kuleshov.pipeline.runner.POLL_SECONDS", 0.01)
    for module in ("jobs", "runner"):
        monkeypatch.setattr(f"kuleshov.pipeline.{module}.cores", lambda: 8)
    return seen


def two_sides(project: Path) -> Planned:
    """A stage that needs two others, which do not need each other, and each of which needs a first one."""
    alone = "summary: x\ncommand: fit\nconfigs: [configs/toy.yaml]\n"
    (project / "stages" / "first.yaml").write_text(alone + "data: {k400: {}}\n")
    for name in ("left", "right"):
        (project / "stages" / f"{name}.yaml").write_text(alone + "needs: {first: {stage: first, data: k400}}\n")
    both = "needs: {left: {stage: left}, right: {stage: right}}\n"
    (project / "stages" / "both.yaml").write_text(alone + both)
    return make_plan(request(project, stage="both"))


def test_stages_that_do_not_need_each_other_run_side_by_side(project: Path, pretended, monkeypatch):
    plan = two_sides(project)
    monkeypatch.setattr("kuleshov.pipeline.runner.gpus", lambda: ())
    Runner(Launch(devices=1), 2, console()).run(plan)
    assert pretended == [("first", 4, "", 1), ("left", 4, "", 1), ("right", 4, "", 2), ("both", 4, "", 1)]
    assert all(planned.done for planned in plan.order())
    pretended.clear()
    Runner(Launch(devices=1), 0, console()).run(plan, force=True)
    assert pretended == [("both", 8, "", 1)]


def test_doing_some_rows_again_keeps_the_others(project: Path, pretended, monkeypatch):
    monkeypatch.setattr("kuleshov.pipeline.runner.gpus", lambda: ())
    whole = make_plan(request(project, stage="first", seeds=2))
    Runner(Launch(devices=1), 0, console()).run(whole)
    pretended.clear()
    (whole.folder / "slow-seed0" / "old").touch()
    (whole.folder / "fast-seed0" / "old").touch()
    again = make_plan(request(project, stage="first", rows=("slow",)))
    Runner(Launch(devices=1), 0, console()).run(again, force=True)
    assert len(pretended) == 1 and make_plan(request(project, stage="first", seeds=2)).done
    assert (whole.folder / "fast-seed0" / "old").exists() and not (whole.folder / "slow-seed0" / "old").exists()


def test_a_stage_of_one_job_has_the_machine_for_itself_where_nobody_asked(project: Path, pretended, monkeypatch):
    monkeypatch.setattr("kuleshov.pipeline.runner.gpus", lambda: ())
    Runner(Launch(devices=1), 0, console()).run(two_sides(project))
    assert pretended == [(name, 8, "", 1) for name in ("first", "left", "right", "both")]


def test_jobs_of_one_device_share_the_gpus(project: Path, pretended, monkeypatch):
    monkeypatch.setattr("kuleshov.pipeline.runner.gpus", lambda: ("0", "3"))
    Runner(Launch(devices=1), 0, console()).run(make_plan(request(project, stage="first", seeds=2)))
    assert [gpu for _, _, gpu, _ in pretended[:2]] == ["0", "3"] and {at for *_, at in pretended} == {1, 2}
    assert sorted(gpu for _, _, gpu, _ in pretended) == ["0", "0", "3", "3"]
    pretended.clear()
    # ranks that train together see all of them
    Runner(Launch(devices=2), 0, console()).run(make_plan(request(project, stage="first", seeds=2)), force=True)
    assert [gpu for _, _, gpu, _ in pretended] == [""] * 4 and {at for *_, at in pretended} == {1}


def test_the_gpus_are_those_that_this_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for given, found in ((None, ("0", "1")), ("", ()), ("1", ("1",)), ("GPU-a, GPU-b", ("GPU-a", "GPU-b"))):
        gpus.cache_clear()
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if given is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert gpus() == found
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpus.cache_clear()
    assert gpus() == ()
    gpus.cache_clear()
