"""A folder of one's own films: sizes by the number of their events, and a plan that stays with them."""

import json
import math
from pathlib import Path

import pytest

from kuleshov.cli import main
from kuleshov.core.errors import KuleshovError
from kuleshov.core.project import SHIPPED
from kuleshov.pipeline.own_films import OwnFilms, count_films
from kuleshov.pipeline.plan import Request, make_plan


@pytest.mark.parametrize("videos", [1, 3, 21, 400, 5000])
@pytest.mark.parametrize("length", [1, 30, 3600])
def test_sizes_can_be_trained_by_what_is_there(videos: int, length: int):
    films = OwnFilms(videos, videos * length)
    sizes = {name: int(value) for name, value in films.settings().items()}
    assert sizes["clip_batch"] <= max(2, videos) and sizes["hidden"] % 8 == 0
    assert sizes["queue"] <= max(64, films.events) and math.log2(sizes["batch"]).is_integer()
    more = OwnFilms(2 * videos, 2 * films.events).settings()
    assert all(int(more[name]) >= sizes[name] for name in ("hidden", "batch", "queue", "clip_batch"))
    assert all(int(more[name]) <= sizes[name] for name in ("epochs", "clip_epochs"))
    assert films.scale == ("paper" if films.events >= 100_000 else "small")


def test_hand_worked_sizes():
    found = OwnFilms(17, 2040).settings()
    # 24 windows a film, 408 an epoch in batches of 128: 3 steps; 3000 / 3 epochs; two batches of clips do not fill 17
    assert found == {
        "hidden": "256", "feedforward": "512", "windows": "24", "batch": "128", "queue": "1024", "epochs": "1000",
        "clip_batch": "17", "clip_epochs": "400",
    }  # fmt: skip


def test_films_are_counted_and_the_unreadable_named(tiny_world: Path, tmp_path: Path):
    for film in sorted((tiny_world / "kinetics" / "clips").glob("*.mp4"))[:3]:
        (tmp_path / film.name).symlink_to(film)
    (tmp_path / "torn.mp4").write_bytes(b"no video")
    assert count_films(tmp_path) == OwnFilms(3, 15, 1) and "3 films, 1 unreadable, 15 events" in str(
        count_films(tmp_path)
    )
    only = tmp_path / "only"
    only.mkdir()
    (only / "torn.mp4").write_bytes(b"no video")
    with pytest.raises(KuleshovError, match="readable videos not found at .*check folder"):
        count_films(only)


def test_a_plan_stays_with_the_films(tmp_path: Path):
    (tmp_path / "films").mkdir()
    asked = {"data": "folder", "scale": "small", "root": tmp_path / "films", "runs": tmp_path / "runs"}
    plan = make_plan(Request("pretrain-txe", SHIPPED, films=OwnFilms(17, 2040), **asked))
    assert [(one.stage.name, one.data) for one in plan.order()] == [
        ("pretrain-backbone", "folder"), ("extract-features", "folder"), ("pretrain-txe", "folder")
    ]  # fmt: skip
    words = [word for one in plan.order() for job in one.jobs for word in job.words]
    assert f"--data.init_args.videos={tmp_path / 'films'}" in words and "--model.init_args.hidden=256" in words
    # at the demo's sizes too, and never the generated world's backbone
    plan = make_plan(Request("pretrain-txe", SHIPPED, **{**asked, "scale": "demo"}))
    assert {one.data for one in plan.order()} == {"folder"}
    with pytest.raises(KuleshovError, match="--data folder --root"):
        make_plan(Request("pretrain-txe", SHIPPED, scale="small"))


@pytest.mark.slow
def test_films_are_learned_from_as_they_are(tiny_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    for film in sorted((tiny_world / "kinetics" / "clips").glob("*.mp4"))[:5]:
        (tmp_path / "films" / film.name).parent.mkdir(exist_ok=True)
        (tmp_path / "films" / film.name).symlink_to(film)
    words = ["pretrain-txe", "--data", "folder", "--root", str(tmp_path / "films"), "--runs", str(tmp_path / "runs")]
    assert main(["run", *words, "--smoke"]) == 0, capsys.readouterr().err
    assert "5 films, 25 events" in capsys.readouterr().err
    manifest = json.loads(next(tmp_path.glob("runs/pretrain-txe-folder-small-smoke-*/weights/txe.json")).read_text())
    assert manifest["data"]["sets"] == ["folder"] and manifest["data"]["trained"] == ["cvrl-folder"]
