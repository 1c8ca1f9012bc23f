"""The wheel, built from the source distribution, in a fresh environment and an empty folder: it is whole."""

import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
URL = "https://example.org/kuleshov"
SOURCES = ("src", "configs", "stages", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "constraints.txt")
BUILD = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in")


def call(*words: object, folder: Path, **variables: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = {**clean, "COLUMNS": "200", **variables}
    done = subprocess.run(list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a source distribution that was built of a copy of the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in (*SOURCES, *BUILD):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name, **({} if copy is shutil.copy else {"ignore": _built}))
    build = "from setuptools.build_meta import build_sdist; build_sdist('dist')"
    call(sys.executable, "-c", build, folder=folder, PROJECT_URL=URL)
    (archive,) = (folder / "dist").glob("*.tar.gz")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "-w", folder / "wheel")
    call(sys.executable, "-m", "pip", "wheel", "-q", *options, archive, folder=folder, PROJECT_URL=URL)
    return next((folder / "wheel").glob("*.whl"))


def _built(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__" or name.endswith(".egg-info")]


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`kuleshov` of the wheel, in an environment that borrows what it depends on."""
    folder = tmp_path_factory.mktemp("fresh")
    call(sys.executable, "-m", "venv", "--without-pip", "env", folder=folder)
    python = folder / "env" / "bin" / "python"
    options = ("--python", python, "install", "-q", "--no-deps", "--no-index")
    call(sys.executable, "-m", "pip", *options, wheel, folder=folder)
    (site,) = folder.glob("env/lib/python*/site-packages")
    (site / "borrowed.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    where = call(python, "-c", "import kuleshov; print(kuleshov.__file__)", folder=folder)
    assert where.startswith(str(site))
    return python.with_name("kuleshov")


def test_the_wheel_has_every_stage_and_configuration(wheel: Path):
    inside = set(zipfile.ZipFile(wheel).namelist())
    files = [path for name in ("stages", "configs") for path in (ROOT / name).rglob("*.yaml")]
    assert len(files) > 40 and {f"kuleshov/project/{path.relative_to(ROOT)}" for path in files} <= inside
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "kuleshov").rglob("*.py")}
    assert modules <= inside and {"kuleshov/py.typed", "kuleshov/report/templates/page.html"} <= inside


def test_the_readme_has_whole_links_and_the_extras_are_those_of_the_code(wheel: Path):
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_string(archive.read(name).decode("utf-8"))
    text = metadata.get_payload()
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 10 and all(link.startswith(("https://", "http://", "#")) for link in links)
    assert f"]({URL}/raw/main/docs/hierarchy.svg)" in text and f"]({URL}/blob/main/docs/running.md)" in text
    assert set(metadata.get_all("Provides-Extra")) == {
        "dev",
        "docs",
        "detector",
        "faiss",
        "gpt2",
        "hf",
        "pandas",
        "shots",
        "slurm",
    }
    assert f"Source, {URL}" in metadata.get_all("Project-URL")
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_stages_run_by_name_from_an_empty_folder(program: Path, tmp_path: Path):
    assert {"tables", "train-verbs", "world"} <= set(call(program, "run", "list", folder=tmp_path).split())
    shown = call(program, "run", "tables", "--scale", "paper", "--dry-run", folder=tmp_path)
    shipped = program.parents[1] / "lib"
    assert "pretrain-txe" in shown and f"stages and configurations: of {shipped}" in shown
    assert f"not there yet: data set vidsitu at {tmp_path}/data/vidsitu" in shown
    (tmp_path / "configs" / "train-verbs").mkdir(parents=True)
    (tmp_path / "configs" / "train-verbs" / "verbs.demo.yaml").write_text("trainer: {max_epochs: 3}\n")
    shown = call(program, "run", "train-verbs", "--scale", "demo", "--dry-run", folder=tmp_path)
    assert f"configurations: configs/train-verbs/verbs.demo.yaml of {tmp_path}; the other" in shown
    assert not (tmp_path / "runs").exists()


def test_a_fit_takes_a_configuration_by_name(program: Path, tmp_path: Path):
    words = ("fit", "-c", "configs/train-verbs/verbs.yaml", "-c", "train-verbs/verbs.demo", "--print_config")
    text = call(program, *words, folder=tmp_path)
    assert "class_path: kuleshov.tasks.verbs.VerbTask" in text and "max_epochs:" in text
