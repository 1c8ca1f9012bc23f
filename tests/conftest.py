"""What all tests share: the real files where they are, and one tiny generated world."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["KULESHOV_PARENT"] = str(os.getpid())  # commands that tests start end with them


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real annotation files and videos, from KULESHOV_REAL_DATA or beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("KULESHOV_REAL_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set KULESHOV_REAL_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated world of a few movies of each kind."""
    from kuleshov.synthetic.build import generate

    root = tmp_path_factory.mktemp("world") / "world"
    generate(root, movies=4, seed=0, workers=0)
    return root
