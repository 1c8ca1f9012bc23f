"""A world on disk: the same for the same seed, finished after a kill, and never mixed with another."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kuleshov.core.errors import KuleshovError
from kuleshov.synthetic.build import build_world, generate
from kuleshov.synthetic.story import Sizes

SMALL = Sizes.of(3, train_sources=1, valid_sources=1, test_sources=1, clips=16, events=5)


def make(root: Path, seed: int = 0, workers: int = 0, sizes: Sizes = SMALL) -> dict:
    return build_world(root, sizes, seed, workers)


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def small_world(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("small") / "world"
    make(root)
    return root


def test_counts_are_those_on_disk(small_world):
    counts = make(small_world)
    videos = list(small_world.rglob("*.mp4"))
    assert counts["videos"] == len(videos) == 3 + 5 + 16
    assert counts["frames"] == SMALL.frames == (8 * 5 + 16 * 5) * 16
    assert counts["vidsitu"] == {"train": 1, "valid": 1, "testvb": 1, "testsrl": 1, "testevrel": 1}


def test_same_seed_gives_the_same_bytes_whatever_the_workers(small_world, tmp_path):
    make(tmp_path / "again", workers=2)
    assert digest(tmp_path / "again") == digest(small_world)


def test_the_command_takes_the_sizes_that_belong_to_the_movies(tiny_world):
    counts = generate(tiny_world, 4)
    assert counts["videos"] == len(list(tiny_world.rglob("*.mp4"))) and json.loads(str(counts)) == counts


def test_another_seed_gives_another_world(small_world, tmp_path):
    make(tmp_path / "other", seed=1)
    assert not set(p.name for p in tmp_path.rglob("*.mp4")) & set(p.name for p in small_world.rglob("*.mp4"))


def test_killed_world_is_finished_to_the_same_bytes(small_world, tmp_path):
    root = tmp_path / "killed"
    code = (
        "from kuleshov.synthetic.build import build_world\nfrom kuleshov.synthetic.story import Sizes\n"
        f"build_world({str(root)!r}, {SMALL!r}, 0, 0)"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 30
    while len(list(root.rglob("*.mp4"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (root / "lvu").mkdir(parents=True, exist_ok=True)
    (root / "lvu" / ".half.mp4.1.tmp").write_bytes(b"half")
    make(root)
    assert digest(root) == digest(small_world)


def test_missing_video_is_made_again(small_world):
    before, victim = digest(small_world), next(small_world.rglob("*.mp4"))
    victim.unlink()
    make(small_world)
    assert digest(small_world) == before


def test_complete_world_is_left_alone(small_world):
    times = {path: path.stat().st_mtime_ns for path in small_world.rglob("*") if path.is_file()}
    make(small_world)
    assert times == {path: path.stat().st_mtime_ns for path in small_world.rglob("*") if path.is_file()}


def test_refuses_another_world(small_world, tmp_path):
    with pytest.raises(KuleshovError, match=r"holds a world of seed 0, not 1; give another folder"):
        make(small_world, seed=1)
    with pytest.raises(KuleshovError, match=r"holds a world of movies 3, not 4"):
        make(small_world, sizes=Sizes.of(4, clips=16, events=5))
    mark = json.loads((small_world / "world.json").read_text())
    mark["settings"]["version"] = 0
    (tmp_path / "world.json").write_text(json.dumps(mark))
    with pytest.raises(KuleshovError, match=r"holds a world of version 0, not \d+"):
        make(tmp_path)
    (tmp_path / "world.json").write_text("{}")
    with pytest.raises(KuleshovError, match="no settings of a generated world"):
        make(tmp_path)


def test_refuses_what_is_no_world(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(KuleshovError, match=r"holds other files \(thesis.tex, 1 in all\) and no world.json"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(KuleshovError, match="is a file; give a folder"):
        make(tmp_path / "thesis.tex")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"movies": 0}, "movies is 0"),
        ({"movies": 4, "events": 7}, "events must be a multiple of 5"),
        ({"movies": 4, "clips": 0}, "clips is 0"),
    ],
)
def test_refuses_sizes_that_make_no_world(changes, message):
    with pytest.raises(KuleshovError, match=message):
        Sizes.of(**changes)


def test_refuses_a_seed_below_zero(tmp_path):
    with pytest.raises(KuleshovError, match="seed must be zero or more, got -1"):
        make(tmp_path, seed=-1)


def test_default_sizes_suit_the_demo():
    demo = Sizes.of(400)
    assert (demo.train_sources * 6, demo.valid_sources * 6, demo.clips) == (300, 240, 1200)
    assert demo.frames < 340_000


def test_imports_no_torch():
    names = "build", "contact_sheet", "oracle"
    code = f"import sys, {', '.join(f'kuleshov.synthetic.{name}' for name in names)}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
