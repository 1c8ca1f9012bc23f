"""Imports go one way: a package may import the packages before it, and tasks do not import each other."""

import ast
from pathlib import Path

import pytest

import kuleshov

ROOT = Path(kuleshov.__file__).parent
LAYERS = [
    "core",
    "video",
    "datasets",
    "synthetic",
    "backbones",
    "metrics",
    "training",
    "pretraining",
    "features",
    "txe",
    "tasks",
    "pipeline",
    "report",
    "cli",
]
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.parent.name != "commands"]


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[tuple[str, ...]]:
    """Names below `kuleshov` that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")[1:]) for alias in node.names if alias.name.startswith("kuleshov.")}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "kuleshov":
            parts = tuple(node.module.split(".")[1:])
            found |= {parts} if parts else {(alias.name,) for alias in node.names}
    return found


def violations(path: Path) -> list[str]:
    layer = layer_of(path)
    if layer in ("__init__", "__main__"):
        return []
    found = []
    for target in imported(path):
        if target[0] in ("__version__", "__init__", "commands"):
            continue
        if target[0] not in LAYERS:
            found.append(f"{path.name} imports {'.'.join(target)}, which is in no layer")
        elif LAYERS.index(target[0]) > LAYERS.index(layer):
            found.append(f"{path.relative_to(ROOT)} ({layer}) imports {'.'.join(target)}")
        elif layer == target[0] == "tasks" and len(target) > 1:
            own = path.relative_to(ROOT).parts[1].removesuffix(".py")
            if target[1] != own and (ROOT / "tasks" / target[1]).is_dir():
                found.append(f"{path.relative_to(ROOT)} imports another task, {'.'.join(target)}")
    return found


def test_the_walk_finds_the_package():
    assert len(FILES) > 50
    assert {layer_of(path) for path in FILES} - {"__init__", "__main__"} == set(LAYERS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path):
    assert violations(path) == []


def test_a_violation_is_found(monkeypatch: pytest.MonkeyPatch):
    source = "from kuleshov.tasks import verbs\nimport kuleshov.report.page\n"
    monkeypatch.setattr(Path, "read_text", lambda self, **_: source)
    assert len(violations(ROOT / "core" / "files.py")) == 2


def test_no_two_modules_have_one_name():
    stems = [path.stem for path in FILES if path.stem not in ("__init__", "__main__")]
    assert sorted({stem for stem in stems if stems.count(stem) > 1}) == []
    assert not {"utils", "helpers", "misc", "common"} & set(stems)


def test_no_two_public_classes_have_one_name():
    names = [
        node.name
        for path in FILES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert sorted({name for name in names if names.count(name) > 1}) == []
