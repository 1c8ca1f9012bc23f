"""The README's commands: every subcommand, option, stage and target that it names is there."""

import re
import subprocess
from pathlib import Path

import pytest

from kuleshov.cli import COMMANDS, LIGHTNING, main
from kuleshov.pipeline.stages import stage_names

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
PAGES += [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("examples/*/README.md"))]


def commands() -> list[str]:
    """Command lines in the pages' bash blocks, continued lines joined."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            found += [line for line in block.replace("\\\n", " ").splitlines() if line.strip()]
    return found


def kuleshov_words() -> list[list[str]]:
    words = [line.split() for line in commands()]
    found = [line[line.index("kuleshov") + 1 :] for line in words if "kuleshov" in line]
    return found


def test_the_pages_have_commands():
    assert len(commands()) >= 12 and len(kuleshov_words()) >= 8


@pytest.mark.parametrize("words", kuleshov_words(), ids=" ".join)
def test_subcommands_and_options_are_there(words: list[str], capsys: pytest.CaptureFixture):
    name = " ".join(words[: 2 if words[0] == "evaluate" else 1])
    assert name in COMMANDS or name in LIGHTNING
    if name == "run":
        known = {name for project in (ROOT, *ROOT.glob("examples/*")) for name in stage_names(project)}
        assert words[1] in known or (ROOT / words[1]).is_file()
    assert main([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out.replace("-", "_")
    # a class's arguments are in its own help, `kuleshov fit --data.help CLASS`
    for option in (word.split("=")[0] for word in words if word.startswith("--") and ".init_args." not in word):
        assert option.replace("-", "_") in text, f"{option} is no option of kuleshov {name}"


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("make ")])
def test_make_targets_are_there(line: str):
    target, *variables = line.split()[1:]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:.*## ", makefile, re.M), f"no target {target} in the Makefile"
    for variable in variables:
        assert re.search(rf"^{variable.split('=')[0]} \?=", makefile, re.M)


def test_make_help_lists_every_target():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "lint", "bench", "tensorboard", "pretrain-backbone", "pretrain-txe", "tables"):
        assert re.search(rf"^{target}\s", shown, re.M)


def test_linked_files_are_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name} links to {target}"
