"""The documentation names what is there."""

from pathlib import Path

import yaml

from kuleshov.cli import COMMANDS

ROOT = Path(__file__).parents[1]


def test_every_command_is_in_the_reference():
    text = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    for name, command in COMMANDS.items():
        assert f"`{name}`" in text and f"::: kuleshov.{command.function}\n" in text, name


def test_every_page_is_in_the_navigation():
    def pages(entry):
        values = entry.values() if isinstance(entry, dict) else entry
        return [page for value in values for page in ([value] if isinstance(value, str) else pages(value))]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    found = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    assert set(listed) == found
