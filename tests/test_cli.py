"""The command line: parsers from signatures, spellings, results as text and as JSON, mistakes in one line."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from kuleshov import cli
from kuleshov.core.plugins import TRUST, trusted


@dataclass
class Found:
    """A result."""

    store: Path
    seen: dict

    def __str__(self) -> str:
        return f"found in {self.store}"


def find(
    store: Path,
    files: list[str],
    task: str,
    batch_size: int = 2,
    against: list[str] | None = None,
    rates: list[float] = (0.5,),
    dry_run: bool = False,
    mode: Literal["max", "mean"] = "max",
) -> Found:
    """Find what is there.

    Nothing is written.

    Args:
        store: where to look.
        batch_size: clips in a batch.
    """
    return Found(store, {key: value for key, value in locals().items() if key != "store"})


@pytest.fixture(autouse=True)
def command(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    module = types.ModuleType("kuleshov.found")
    module.find = find
    monkeypatch.setitem(sys.modules, "kuleshov.found", module)
    chosen = cli.Command("found.find", "find", ("store", "files"), fixed={"task": "verbs"})
    monkeypatch.setitem(cli.COMMANDS, "find", chosen)
    monkeypatch.setenv(TRUST, "")


def seen(capsys: pytest.CaptureFixture, *words: str) -> dict:
    assert cli.main(["find", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["seen"]


def test_signature_and_docstring_make_the_parser(capsys: pytest.CaptureFixture):
    assert cli.main(["find", "--help"]) == 0
    text = capsys.readouterr().out
    for part in (
        "Find what is there",
        "Nothing is written",
        "clips in a batch",
        "--batch_size",
        "{max,mean}",
        "--trust",
    ):
        assert part in text
    assert "--task" not in text and "--store" not in text


def test_spellings(capsys: pytest.CaptureFixture):
    found = seen(capsys, "s", "a", "b", "--batch-size", "3", "--against", "x=1", "y=2", "--against", "z", "--dry-run")
    assert found == {
        "files": ["a", "b"],
        "task": "verbs",
        "batch_size": 3,
        "against": ["x=1", "y=2", "z"],
        "rates": [0.5],
        "dry_run": True,
        "mode": "max",
    }
    found = seen(capsys, "--batch_size=4", "--dry_run=false", "s", "--rates", "0.1", "1", "--mode=mean")
    assert found["files"] == [] and found["rates"] == [0.1, 1.0] and found["mode"] == "mean" and not found["dry_run"]
    assert seen(capsys, "s", "--files", "a", "b")["files"] == ["a", "b"]


def test_text_and_a_configuration_file(tmp_path: Path, capsys: pytest.CaptureFixture):
    (tmp_path / "c.yaml").write_text("batch_size: 7\nagainst: [q]\n")
    assert cli.main(["find", "s"]) == 0
    assert capsys.readouterr().out == "found in s\n"
    found = seen(capsys, "s", "--config", str(tmp_path / "c.yaml"), "--dry-run")
    assert found["batch_size"] == 7 and found["against"] == ["q"] and found["dry_run"]


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["find", "s", "--bach-size", "2"], ("--bach-size", "did you mean --batch-size?")),
        (["find", "s", "--batch-size", "two"], ("--batch_size", "two")),
        (["find", "s", "--mode", "min"], ("--mode", "min")),
        (["find"], ("store",)),
        (["fnid"], ("'fnid'", "did you mean find?")),
        (["evaluate"], ("evaluate lvu", "evaluate verbs")),
        (["evaluate", "verb"], ("did you mean evaluate verbs?",)),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], texts: tuple[str, ...], capsys: pytest.CaptureFixture):
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert all(text in captured.err for text in texts)


def test_packages_are_trusted_by_any_command(capsys: pytest.CaptureFixture):
    assert cli.main(["--trust", "one", "find", "s", "--trust=two"]) == 0
    assert trusted() == {"one", "two"}


def test_every_command_of_the_table_has_a_help(capsys: pytest.CaptureFixture):
    for name in set(cli.COMMANDS) - {"find"}:
        assert cli.main([*name.split(), "--help"]) == 0, name
        assert "usage: kuleshov" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = "import sys; from kuleshov.cli import main; main(['--help']); "
    code += "assert not {'torch', 'jsonargparse', 'numpy'} & set(sys.modules)"
    for name in ("run", "extract", "check", "contextualize", "search"):
        code += f"; main(['{name}', '--help']); assert 'torch' not in sys.modules, '{name}'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0 and "kuleshov COMMAND" in done.stdout, done.stderr
