"""Many processes that fill one store without talking: each movie once, whoever comes, goes and is killed."""

import multiprocessing
import random
import time
from pathlib import Path

import pytest
import torch

from kuleshov import backbones
from kuleshov.core.errors import StoreError
from kuleshov.features import extract
from kuleshov.features.extract import extract_command
from kuleshov.features.store_writer import StoreWriter
from kuleshov.features.team import Team
from kuleshov.video.video_file import Video

from .test_extract import CLIP, contents, write_movie

NAMES = [f"movie-{number}" for number in range(12)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = backbones.build_backbone({"class_path": "slow_d_r50", "init_args": {"width": 1}}).eval()
    path = tmp_path_factory.mktemp("weights") / "backbone.safetensors"
    backbones.save_backbone(path, network, CLIP, method="none")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve movies, one that is no video, and one that is too short."""
    folder = tmp_path_factory.mktemp("movies")
    for number, name in enumerate(NAMES):
        write_movie(folder / f"{name}.mp4", 3 + number % 4, number)
    write_movie(folder / "tiny.mp4", 1.0, 99)
    (folder / "broken.mp4").write_bytes(b"this is no video at all" * 9)
    return folder


@pytest.fixture(scope="module")
def whole(weights: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The store that one process writes."""
    output = tmp_path_factory.mktemp("whole") / "s"
    extraction(weights, folder, output, join=False)
    return contents(output)


def extraction(weights: Path, folder: Path, output: Path, names: list[str] | None = None, **options):
    chosen = [Video(name, folder / f"{name}.mp4") for name in names or [*NAMES, "tiny", "broken"]]
    settings = {"dtype": "fp32", "batch_size": 3, "progress": False, "accelerator": "cpu", "join": True, **options}
    return extract_command(output, weights, videos=chosen, **settings)


def test_a_member_alone_writes_what_one_process_writes(weights: Path, folder: Path, tmp_path: Path, whole):
    summary = extraction(weights, folder, tmp_path / "s")
    assert contents(tmp_path / "s") == whole
    assert (summary.movies, summary.of) == (12, 14) and {one["id"] for one in summary.missing} == {"tiny", "broken"}


def test_who_comes_late_does_nothing(weights: Path, folder: Path, tmp_path: Path, whole, monkeypatch):
    summary = extraction(weights, folder, tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "record", lambda *given: pytest.fail("it is done"))
        assert extraction(weights, folder, tmp_path / "s") == summary
    assert contents(tmp_path / "s") == whole
    with pytest.raises(StoreError, match="was written with stride="):
        extraction(weights, folder, tmp_path / "s", stride=2.0)


def test_more_movies_are_added_together(weights: Path, folder: Path, tmp_path: Path):
    extraction(weights, folder, tmp_path / "s", NAMES[:5])
    assert extraction(weights, folder, tmp_path / "s", NAMES).movies == 12
    extraction(weights, folder, tmp_path / "alone", NAMES[:5], join=False)
    extraction(weights, folder, tmp_path / "alone", NAMES, join=False)
    assert contents(tmp_path / "s") == contents(tmp_path / "alone")


def test_members_and_owners_refuse_each_other(weights: Path, folder: Path, tmp_path: Path):
    member = Team(tmp_path / "s")
    with member.owning():
        assert member.enter("another request") is True
    with pytest.raises(StoreError, match="is being written for other videos: give the same ones, or wait"):
        extraction(weights, folder, tmp_path / "s")
    with pytest.raises(StoreError, match="by processes with --join: wait, or join them"):
        extraction(weights, folder, tmp_path / "s", join=False)
    member.leave()
    with StoreWriter(tmp_path / "t", 32, 2.0, 1.0), pytest.raises(StoreError, match="by a process without --join"):
        extraction(weights, folder, tmp_path / "t")


def test_a_movie_is_claimed_by_one_and_free_when_that_one_leaves(tmp_path: Path):
    first, second = Team(tmp_path), Team(tmp_path)
    with first.owning():
        assert first.enter("r") and not second.enter("r")
    videos, done = [Video(name, Path(name)) for name in "abc"], set()
    mine = first.claim(videos, done.__contains__)
    taken = [next(mine).id, next(mine).id]
    assert [video.id for video in second.claim(videos, done.__contains__)] == list({*"abc"} - {*taken})
    done.add(taken[0])
    first.leave()
    assert second.others() is False
    assert [video.id for video in second.claim(videos, done.__contains__)] == [taken[1]]


def join_slowly(weights: Path, folder: Path, output: Path, log: Path) -> None:
    """A member that writes down what it did."""
    record = StoreWriter.record

    def watched(self, name, *given, **columns):
        time.sleep(0.1)
        record(self, name, *given, **columns)
        with log.open("a") as file:
            file.write(f"{name}\n")

    StoreWriter.record, extract.on_devices = watched, lambda share, devices, waiting: share(0, 1, waiting)
    extraction(weights, folder, output)


@pytest.mark.slow
@pytest.mark.parametrize("members, kills", [(2, 0), (3, 3)])
def test_killed_at_random_every_movie_is_done_once(weights: Path, folder: Path, tmp_path: Path, whole, members, kills):
    context, rng = multiprocessing.get_context("spawn"), random.Random(members)
    given = (weights, folder, tmp_path / "s", tmp_path / "log")

    def start():
        process = context.Process(target=join_slowly, args=given)
        process.start()
        return process

    running, begun = [start() for _ in range(members)], time.monotonic()
    for kill in range(kills):
        # not before someone works
        while kill == 0 and not (tmp_path / "log").exists():
            assert time.monotonic() - begun < 120
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.4))
        victim = running.pop(rng.randrange(len(running)))
        victim.kill()
        running.append(start())
    for process in running:
        process.join(120)
        assert process.exitcode == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir() if path.is_file()}
    assert files == whole and not (tmp_path / "s" / "pending").exists()
    done = (tmp_path / "log").read_text().split()
    # one that was killed may have had no time to write it down
    assert len(done) == len(set(done)) and 14 - kills <= len(done) <= 14
