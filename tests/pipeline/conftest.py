"""The toy project of these tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from toy_project import write_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy project, as working directory."""
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path)
