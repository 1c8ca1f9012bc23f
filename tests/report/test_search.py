"""`kuleshov search`: events of a store, files, raw and contextualized features; the page; what is refused."""

import json
import re
from pathlib import Path

import pytest
import torch

from kuleshov.backbones import ClipFormat, build_backbone, save_backbone
from kuleshov.cli import main
from kuleshov.core.errors import StoreError, UsageError, VideoError
from kuleshov.features.extract import extract_command
from kuleshov.features.feature_store import EventStore
from kuleshov.features.store_writer import StoreWriter
from kuleshov.report.search import search
from kuleshov.txe import TxE, save
from kuleshov.txe.contextualize import contextualize


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Two movies with an event of two seconds each second; the feature of an event turns with its time."""
    with StoreWriter(tmp_path / "plain", 2, 2.0, 1.0, "fp32") as writer:
        for name, turned in (("a@home", 0.0), ("b", 0.02)):
            angle = torch.arange(10) * 0.1 + turned
            writer.add(name, torch.stack([angle.cos(), angle.sin()], 1) * 3, start=100.0)
        writer.finish()
    return tmp_path / "plain"


def found(*arguments, **options) -> list[tuple[str, float]]:
    return [(hit.movie, hit.start) for hit in search(*arguments, **options).hits]


def test_the_nearest_events_that_do_not_overlap(plain: Path):
    # event 5 of a spans 105 to 107; its neighbors overlap it, b's overlap each other
    hits = search(plain, "a@home@106.2", count=4).hits
    assert [(hit.movie, hit.start) for hit in hits[:2]] == [("b", 105.0), ("b", 103.0)] and hits[0].end == 107.0
    assert {(hit.movie, hit.start) for hit in hits[2:]} == {("a@home", 103.0), ("a@home", 107.0)}
    expected = torch.tensor([0.02, 0.18, 0.2, 0.2]).cos().tolist()
    assert [hit.cosine for hit in hits] == pytest.approx(expected, abs=1e-6)
    assert found(plain, "a@home@100", count=1) == [("b", 100.0)]
    assert found(plain, "b@111", count=1) == [("a@home", 109.0)]


def test_other_movies_only_and_a_whole_movie(plain: Path):
    assert {name for name, _ in found(plain, "a@home@106", other_movies=True)} == {"b"}
    # the mean of b is between its events 4 and 5; all of its events are left out
    assert found(plain, "b", count=2) in (
        [("a@home", 104.0), ("a@home", 106.0)],
        [("a@home", 105.0), ("a@home", 103.0)],
    )


@pytest.mark.parametrize(
    ("like", "error", "message"),
    [
        ("c@1", StoreError, r"'c' is no movie of .*plain \(2 movies\), and no file: check --like"),
        ("b@99", UsageError, "the events of b are from 100 to 111 s"),
        ("b@nan", UsageError, "the events of b are from 100 to 111 s"),
    ],
)
def test_what_is_not_there_is_named(like: str, error: type, message: str, plain: Path):
    with pytest.raises(error, match=message):
        search(plain, like)


def test_frames_need_a_page_and_a_file_a_store_that_says_what_made_it(plain: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="name it with --output PAGE.html"):
        search(plain, "b@101", videos=[tmp_path])
    (tmp_path / "x.mp4").write_bytes(b"x")
    with pytest.raises(StoreError, match="does not say what made its features"):
        search(plain, str(tmp_path / "x.mp4"))


def test_the_command_line_prints_a_table_or_json(plain: Path, capsys: pytest.CaptureFixture):
    assert main(["search", str(plain), "--like", "b@101", "--count", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["movie", "seconds", "cosine"] and lines[1].split()[:3] == ["a@home", "100.00", "102.00"]
    assert main(["search", str(plain), "--like", "b@101", "--count", "2", "--json"]) == 0
    assert [hit["movie"] for hit in json.loads(capsys.readouterr().out)["hits"]] == ["a@home", "a@home"]


@pytest.fixture(scope="module")
def made(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw and contextualized stores of a world's clips, the weights that made them, and others."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("made")
    clip = ClipFormat(num_frames=4, frame_stride=4, frame_rate=8.0, crop_size=32, short_side=32)
    for name in ("backbone", "other"):
        network = build_backbone({"class_path": "slow_d_r50", "init_args": {"width": 2}})
        save_backbone(folder / f"{name}.safetensors", network, clip)
    options = {"accelerator": "cpu", "progress": False}
    videos = tiny_world / "kinetics" / "clips"
    extract_command(folder / "raw", folder / "backbone.safetensors", videos=videos, dtype="fp32", **options)
    sha256 = EventStore(folder / "raw").backbone_sha256
    txe = TxE(64, hidden=16, layers=1, heads=2, feedforward=16)
    save(folder / "txe.safetensors", txe, {"data": {"token_stride": 2.0, "backbone_sha256": sha256}})
    contextualize(folder / "txe.safetensors", folder / "raw", folder / "context", **options)
    return folder


@pytest.mark.parametrize("kind", ["raw", "context"])
def test_a_file_finds_itself(kind: str, made: Path, tiny_world: Path):
    path = sorted((tiny_world / "kinetics" / "clips").glob("*.mp4"))[2]
    given = {"weights": made / "backbone.safetensors", "txe": made / "txe.safetensors", "accelerator": "cpu"}
    (hit,) = search(made / kind, f"{path}@3", count=1, **given).hits
    assert (hit.movie, hit.start) == (path.stem, 2.0) and hit.cosine == pytest.approx(1, abs=1e-5)
    assert len(search(made / kind, str(path), **given).hits) == 10


def test_other_weights_than_the_stores_are_refused(made: Path, tiny_world: Path, tmp_path: Path):
    path = sorted((tiny_world / "kinetics" / "clips").glob("*.mp4"))[0]
    with pytest.raises(UsageError, match="a file needs --weights: the weights [0-9a-f]{8}..., which made"):
        search(made / "raw", str(path))
    with pytest.raises(StoreError, match="other.safetensors .* did not make .*raw, which is of"):
        search(made / "raw", str(path), weights=made / "other.safetensors")
    with pytest.raises(UsageError, match="a file needs --txe"):
        search(made / "context", str(path), weights=made / "backbone.safetensors")
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    with pytest.raises(VideoError, match=r"cannot read video .*broken\.mp4"):
        search(made / "raw", str(tmp_path / "broken.mp4"), weights=made / "backbone.safetensors")


def test_the_page_is_whole_and_escaped(made: Path, tiny_world: Path, tmp_path: Path):
    clips = tiny_world / "kinetics" / "clips"
    movie = EventStore(made / "raw").movie_ids[0]
    page = tmp_path / "p.html"
    result = search(made / "raw", f"{movie}@1", count=4, videos=[clips], output=page)
    text = page.read_text(encoding="utf-8")
    assert result.page == str(page) and result.notes == []
    assert len(re.findall(r'<img src="data:image/jpeg;base64,[^"]{200,}" alt="[^"]+, frame \d of 3">', text)) == 15
    assert all(hit.movie in text for hit in result.hits)
    assert not re.search(r'(src|href)="(?!data:)|<script|url\(', text)
    one = [str(clips / f"{movie}.mp4")]
    notes = search(made / "raw", f"{movie}@1", count=4, videos=one, output=page).notes
    assert len(notes) == 1 and re.match(r"no frames of [34] of 4 events \(first .*\): name --videos", notes[0])
    with StoreWriter(tmp_path / "s", 2, 2.0, 2.0) as writer:
        writer.add("<script>x</script>", torch.ones(3, 2))
        writer.finish()
    search(tmp_path / "s", "<script>x</script>@1", output=page)
    assert "<script" not in page.read_text(encoding="utf-8")
