"""Configurations by name: the working directory's own, then the package's; anything else is left as it was."""

from pathlib import Path

import pytest

from kuleshov.core.project import SHIPPED, find_config, find_configs, find_file

VERBS = "configs/train-verbs/verbs.yaml"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [VERBS, "configs/train-verbs/verbs", "train-verbs/verbs.yaml", "train-verbs/verbs"])
def test_a_name_finds_the_packages_file_and_the_folders_own_wins(name: str, folder: Path):
    assert find_config(name, folder) == SHIPPED / VERBS
    (folder / VERBS).parent.mkdir(parents=True)
    (folder / VERBS).write_text("")
    assert find_config(name, folder) == folder / VERBS


def test_nothing_else_is_found(folder: Path):
    assert find_file("configs/none.yaml", folder) is None and find_config("verbs", folder) is None
    assert find_config("x" * 5000, folder) is None


def test_words_of_a_command_line(folder: Path, capsys: pytest.CaptureFixture):
    (folder / "own.yaml").write_text("")
    path = str(SHIPPED / VERBS)
    words = ["fit", "-c", "own.yaml", "-c", "train-verbs/verbs", f"--config={VERBS}", "--config", VERBS, "--x", VERBS]
    expected = ["fit", "-c", "own.yaml", "-c", path, f"--config={path}", "--config", path, "--x", VERBS]
    assert find_configs(words) == expected
    assert capsys.readouterr().err.splitlines()[0] == f"configuration train-verbs/verbs: {path}"
    for left in (["fit", "-c"], ["fit", "-c", "none.yaml"], ["fit", "-c", "{a: 1}"], []):
        assert find_configs(left) == left
