"""Every YAML of configs/ goes through the real command line, and every stage can be planned."""

from pathlib import Path

import pytest
import yaml

from kuleshov.cli import main
from kuleshov.pipeline.plan import Request, make_plan
from kuleshov.pipeline.stages import load_stage, stage_names

ROOT = Path(__file__).resolve().parents[1]
BASES = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.stem.count(".") == 0)
OVERLAYS = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.stem.count(".") == 1)
WORLD_STAGES = [name for name in stage_names(ROOT)]


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


@pytest.mark.parametrize("name", WORLD_STAGES)
@pytest.mark.parametrize("scale", ["demo", "gpu"])
def test_a_stage_can_be_planned_on_the_world(name: str, scale: str, tmp_path: Path):
    stage = load_stage(name, ROOT)
    for data in stage.data or [""]:
        for method in stage.methods or [""]:
            request = Request(name, ROOT, data=data, method=method, scale=scale, runs=tmp_path)
            plan = make_plan(request)
            assert plan.jobs and all(job.words[0] == stage.command for job in plan.jobs)
            assert not any("{" in word.split("=", 1)[-1][:1] for job in plan.jobs for word in job.words[1:])
    assert not list(tmp_path.iterdir())
