"""Every YAML of configs/ goes through the real command line, and every stage can be planned."""

import re
from inspect import signature
from pathlib import Path

import pytest
import yaml

from kuleshov.cli import main
from kuleshov.pipeline.plan import Request, make_plan
from kuleshov.pipeline.stages import SCALES, load_stage, stage_names
from kuleshov.txe import TxE

ROOT = Path(__file__).resolve().parents[1]
BASES = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.stem.count(".") == 0)
OVERLAYS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.stem.count(".") == 1)


def base_of(overlay: Path) -> Path:
    return overlay.with_name(overlay.name.split(".")[0] + ".yaml")


def parse(capsys: pytest.CaptureFixture, *paths: Path) -> dict:
    words = [word for path in paths for word in ("-c", str(path))]
    code = main(["fit", *words, "--print_config"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return yaml.safe_load(captured.out)


def test_the_sweep_finds_the_configurations():
    assert len(BASES) >= 8 and len(OVERLAYS) >= 12


@pytest.mark.parametrize("path", BASES, ids=lambda path: str(path.relative_to(ROOT / "configs")))
def test_a_base_parses(path: Path, capsys: pytest.CaptureFixture):
    config = parse(capsys, path)
    assert config["model"]["class_path"].startswith("kuleshov.")
    assert config["data"]["class_path"].startswith("kuleshov.")


@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: str(path.relative_to(ROOT / "configs")))
def test_an_overlay_keeps_the_classes(path: Path, capsys: pytest.CaptureFixture):
    alone, together = parse(capsys, base_of(path)), parse(capsys, base_of(path), path)
    for part in ("model", "data"):
        assert together[part]["class_path"] == alone[part]["class_path"]
    assert "class_path" not in (yaml.safe_load(path.read_text()) or {}).get("model", {})


@pytest.mark.parametrize("path", [*BASES, *OVERLAYS], ids=lambda path: str(path.relative_to(ROOT / "configs")))
def test_a_configuration_says_what_it_is_for(path: Path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and len(first) > 30


def data_sets(root: Path) -> Path:
    """The folders that a plan at paper scale looks for, and the file that it reads beside them."""
    for folder in ("k400", "vidsitu", "lvu", "shards", "gpt2-medium"):
        (root / folder).mkdir(exist_ok=True)
    (root / "lvu" / "boxes.csv").touch()
    return root


@pytest.mark.parametrize("name", stage_names(ROOT))
@pytest.mark.parametrize("scale", [scale for scale in SCALES if scale != "small"])
def test_a_stage_can_be_planned_at_every_scale(name: str, scale: str, tmp_path: Path):
    stage, runs = load_stage(name, ROOT), tmp_path / "runs"
    for data in stage.data or [""]:
        for method in stage.methods or [""]:
            root = None
            if scale == "paper":
                root = data_sets(tmp_path)
            if data == "folder" and root is not None:
                continue  # a folder of videos says nothing of where the others lie
            plan = make_plan(Request(name, ROOT, data=data, method=method, scale=scale, runs=runs, root=root))
            assert plan.jobs and all(job.words[0] == stage.command.split()[0] for job in plan.jobs)
            assert not any(re.search(r"\{[\w.-]+\}", word) for job in plan.jobs for word in job.words[1:])
    assert not runs.exists()


def settings(words: tuple[str, ...]) -> dict[str, str]:
    """What a planned fit sets, by dotted name: its YAML files in order, then its arguments."""
    flat: dict[str, str] = {}

    def collect(name: str, value) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                collect(f"{name}.{key}" if name else key, child)
        else:
            flat[name] = value

    for flag, value in zip(words, words[1:], strict=False):
        if flag == "--config":
            collect("", yaml.safe_load(Path(value).read_text(encoding="utf-8")))
    for word in words:
        if word.startswith("--") and "=" in word:
            name, _, value = word[2:].partition("=")
            flat[name] = yaml.safe_load(value)
    return flat


@pytest.mark.parametrize(("data", "epochs"), [("lvu", 1000), ("vidsitu", 100), ("k400", 100)])
def test_masked_events_last_as_long_as_the_clips(data: str, epochs: int, tmp_path: Path):
    plan = make_plan(Request("pretrain-txe", ROOT, data=data, scale="paper", root=data_sets(tmp_path)))
    assert settings(plan.jobs[0].words)["trainer.max_epochs"] == epochs


# what makes a row another row: its network's context, what that was made from, and what is read
MEANING = re.compile(
    r"context|txe_weights|txe_frozen|instance_weights|data\.init_args\.(events|instances|gpt2|num_frames|frame_stride)|gpt2|backbone"
)
TXE = ("hidden", "layers", "heads", "feedforward")


@pytest.mark.parametrize("scale", ["demo", "gpu", "paper"])
@pytest.mark.parametrize(
    "name", ["train-verbs", "train-relations", "train-roles", "train-lvu", *(f"table-{n}" for n in range(1, 6))]
)
def test_rows_of_a_table_differ_in_their_meaning_alone(name: str, scale: str, tmp_path: Path):
    root = data_sets(tmp_path) if scale == "paper" else None
    plan = make_plan(Request(name, ROOT, scale=scale, runs=tmp_path / "runs", root=root, seeds=1))
    made = {str(job.folder): job for one in plan.order() for job in one.jobs}
    by_task: dict[str, dict[str, dict]] = {}
    for job in plan.jobs:
        by_task.setdefault(job.task, {})[job.row] = settings(job.words)
    for rows in by_task.values():
        for key in {key for one in rows.values() for key in one}:
            values = {str(one.get(key)) for one in rows.values()}
            assert len(values) == 1 or key == "trainer.default_root_dir" or MEANING.search(key), (key, values)
        for row, own in rows.items():
            weights = own.get("model.init_args.txe_weights")
            if weights is None:
                continue
            pretraining = settings(made[weights.removesuffix("/weights/txe.safetensors")].words)
            for part in TXE:
                default = signature(TxE).parameters[part].default
                assert own.get(f"model.init_args.txe_{part}", default) == pretraining[f"model.init_args.{part}"], row
            assert own["model.init_args.feature_normalization"] == pretraining["model.init_args.feature_normalization"]


@pytest.mark.parametrize("name", ["tune-verbs", "tune-relations", "tune-roles", "tune-lvu"])
def test_rows_of_the_search_read_what_their_txe_does(name: str, tmp_path: Path):
    plan = make_plan(Request(name, ROOT, scale="demo", runs=tmp_path))
    key, weights = "model.init_args.feature_normalization", "model.init_args.txe_weights"
    pretrained = {f"{job.folder}/weights/txe.safetensors": settings(job.words)[key] for job in plan.needs["txe"].jobs}
    rows = [settings(job.words) for job in plan.jobs]
    assert {row[key] for row in rows} == {"none", "center", "soft-whiten", "whiten"}
    assert all(row[key] == pretrained[row[weights]] for row in rows if weights in row)


def test_rates_are_a_product():
    contexts = {"scratch": {}, "pretrained": {"model.init_args.txe_weights": "{txe.txe}"}}
    expected = {}
    for context, weights in contexts.items():
        for rate in ("1e-5", "3e-5", "1e-4", "3e-4", "1e-3", "3e-3"):
            value = str(float(rate))
            rates = {"model.init_args.lr": value, "model.init_args.txe_lr": value}
            arguments = {"model.init_args.context": context, **weights, **rates}
            expected[f"{context}-{rate}"] = arguments
            expected[f"{context}-{rate}-sudden"] = {**arguments, "model.init_args.warmup_epochs": "0"}
    assert load_stage("ablate-rates", ROOT).rows == expected
    jobs = make_plan(Request("ablate-rates", ROOT, scale="demo", seeds=3)).jobs
    assert {job.name for job in jobs} == {f"{row}-seed{seed}" for row in expected for seed in range(3)}
