"""Imports go one way: a room may import the rooms before it, and brothers do not see each other."""

import ast
from pathlib import Path

import pytest

import kuleshov

ROOT = Path(kuleshov.__file__).parent
ROOMS = [
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
    "commands",
    "cli",
]
FILES = sorted(ROOT.rglob("*.py"))


def room_of(path: Path) -> str:
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
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return []
    found = []
    for target in imported(path):
        if target[0] in ("__version__", "__init__"):
            continue
        if target[0] not in ROOMS:
            found.append(f"{path.name} imports {'.'.join(target)}, which is in no room")
        elif ROOMS.index(target[0]) > ROOMS.index(room):
            found.append(f"{path.relative_to(ROOT)} ({room}) imports {'.'.join(target)}")
        elif room == target[0] == "tasks" and len(target) > 1:
            mine = path.relative_to(ROOT).parts[1].removesuffix(".py")
            if target[1] != mine and (ROOT / "tasks" / target[1]).is_dir():
                found.append(f"{path.relative_to(ROOT)} imports its brother {'.'.join(target)}")
    return found


def test_the_walk_finds_the_package():
    assert len(FILES) > 50
    assert {room_of(path) for path in FILES} - {"__init__", "__main__"} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path):
    assert violations(path) == []


def test_a_violation_is_found(monkeypatch: pytest.MonkeyPatch):
    bad = ROOT / "core" / "queue.py"
    source = "from kuleshov.tasks import verbs\nimport kuleshov.report.page\n"
    monkeypatch.setattr(Path, "read_text", lambda self, **_: source)
    assert len(violations(bad)) == 2


def test_there_is_no_grab_bag():
    assert [path for path in FILES if path.stem in ("utils", "helpers", "misc", "common")] == []
