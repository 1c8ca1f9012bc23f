import csv
import io
import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from kuleshov.core.errors import KuleshovError, StoreError, UsageError, VideoError
from kuleshov.datasets.vidsitu_format import RELATIONS
from kuleshov.features.feature_store import EventStore
from kuleshov.features.store_writer import StoreWriter
from kuleshov.report.describe import OUTSIDE, EventDescription, FilmDescription, describe_command
from kuleshov.report.familiarity import Familiarity
from kuleshov.report.film_events import film_events
from kuleshov.report.film_page import look, scene_changes, surprise_curves
from kuleshov.report.hierarchy import load_hierarchy, most_alike, relate_neighbors, surprise
from kuleshov.synthetic.story import CLIP_EVENTS
from kuleshov.txe.encoder import TxE
from kuleshov.video.video_file import Video

from .conftest import damage, write_film


def first_video(world: Path, *parts: str) -> Path:
    return sorted(world.joinpath(*parts).glob("*.mp4"))[0]


def turn_store_away(hierarchy: Path) -> None:
    """Put the opposite of the training's features into its store."""
    store = EventStore(hierarchy.parent / "extract-features-vidsitu-demo-66666666" / "features")
    features = {name: -store.events(name) for name in store}
    shutil.rmtree(store.folder)
    with StoreWriter(store.folder, store.width, 2.0, 2.0) as writer:
        for name, rows in features.items():
            writer.add(name, rows)
        writer.finish({})


def moving(seconds: int, seed: int = 0) -> list[np.ndarray]:
    """Frames of a bright square that wanders over noise."""
    draw = np.random.default_rng(seed)
    frames = [draw.integers(0, 60, (64, 64, 3), dtype=np.uint8) for _ in range(8 * seconds)]
    for number, frame in enumerate(frames):
        place = 3 * number % 48
        frame[20:36, place : place + 16] = (200, 100, number % 255)
    return frames


def described(*videos, **options):
    (film,) = describe_command([str(video) for video in videos], **options).films
    return film


def test_a_long_video_event_by_event(hierarchy, tiny_world):
    (film,) = describe_command([str(first_video(tiny_world, "vidsitu", "videos"))], hierarchy).to_dict()["films"]
    events = film["events"]
    assert [event["start"] for event in events] == [2.0 * i for i in range(len(events))] and len(events) == 30
    for event in events:
        chances = [chance for _, chance in event["verbs"]]
        assert len(chances) == 3 and chances == sorted(chances, reverse=True)
        assert set(event["roles"]) <= {"Arg0", "AScn"}
    assert events[-1]["next"] is None
    assert all(event["next"][0] in RELATIONS for event in events[:-1])


def test_the_newest_tables_run_is_found_and_text_is_made(hierarchy, tiny_world):
    text = str(describe_command([str(first_video(tiny_world, "kinetics", "clips"))], hierarchy.parent))
    lines = text.splitlines()
    assert (
        lines[0] == "Trained on the generated world: backbone by cvrl on k400; verbs, relations and roles on vidsitu."
    )
    assert lines[1].startswith("00:00-00:02  ") and any(line.startswith("00:02-00:04  ") for line in lines)
    assert sum("-> next: " in line for line in lines) == CLIP_EVENTS - 1


@torch.inference_mode()
def test_neighbors_in_the_middle_of_a_segment_are_related_as_in_training(hierarchy, tiny_world):
    networks = load_hierarchy(hierarchy)
    found = film_events(Video("a", first_video(tiny_world, "vidsitu", "videos")), networks).features
    events = torch.stack(list(found.values())[:5])
    scores = networks.relations(events[None])[0].softmax(-1)  # Ev1, Ev2, Ev4, Ev5 against Ev3
    found = relate_neighbors(networks.relations, events)
    for place, pair in ((1, 1), (2, 2)):
        chance, kind = scores[place].max(-1)
        assert found[pair][0] == RELATIONS[int(kind)] and found[pair][1] == pytest.approx(float(chance), abs=1e-5)


def test_what_a_run_cannot_tell_is_named(hierarchy, tiny_world, capsys):
    verbs = hierarchy.parent / "train-verbs-vidsitu-demo-22222222"
    film = described(first_video(tiny_world, "kinetics", "clips"), run=verbs)
    said = capsys.readouterr().err
    assert all(name in said for name in ("train-roles", "train-relations", "pretrain-txe", "no store"))
    event = film.events[0]
    assert (event.roles, event.next, event.surprise, event.distance, event.alike) == (None, None, None, None, [])


def test_videos_that_cannot_be_described_are_named(hierarchy, tmp_path):
    for name, content in (("broken.mp4", b"not a video"), ("empty.mp4", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=f"cannot read video {tmp_path / name}: "):
            described(tmp_path / name, run=hierarchy)
    with pytest.raises(KuleshovError, match=r"none of 2 videos can be read \(first .*broken.mp4"):
        described(tmp_path, run=hierarchy)
    with pytest.raises(VideoError, match=r"1.00 s, an event takes 2 s"):
        described(write_film(tmp_path / "short.mp4", moving(1)), run=hierarchy)
    film = write_film(tmp_path / "all.mp4", moving(4))
    damage(film, 0.1, 9)
    with pytest.raises(VideoError, match="its frames cannot be decoded after"):
        described(film, run=hierarchy)


def test_what_is_missing_is_named(hierarchy, tmp_path):
    with pytest.raises(KuleshovError, match="run folder not found at"):
        described("x.mp4", run=tmp_path / "nothing")
    with pytest.raises(KuleshovError, match="run of train-verbs not found"):
        described("x.mp4", run=hierarchy.parent / "pretrain-backbone-k400-demo-11111111")
    shutil.rmtree(hierarchy.parent / "train-roles-vidsitu-demo-44444444" / "pretrained-seed0")
    with pytest.raises(KuleshovError, match=r"roles.safetensors"):
        described("x.mp4", run=hierarchy)


def test_a_folder_of_films_is_written_film_by_film(hierarchy, tmp_path):
    films = tmp_path / "films"
    write_film(films / "a.mp4", moving(4))
    write_film(films / "deep" / "b.mp4", moving(4, seed=1))
    (films / "c.mp4").write_bytes(b"no film")
    found = describe_command([str(films)], hierarchy, "srt", tmp_path / "out")
    assert found.written == [tmp_path / "out" / "a.srt", tmp_path / "out" / "deep" / "b.srt"]
    assert (
        [path for path, _ in found.left_out]
        == [str(films / "c.mp4")]
        == [one["video"] for one in found.to_dict()["left_out"]]
    )
    assert str(found) == "\n".join(map(str, found.written)) and all(path.is_file() for path in found.written)
    text = str(describe_command([str(films)], hierarchy))
    assert text.count("# ") == 2 and text.count("Trained on") == 1
    with pytest.raises(UsageError, match="which films"):
        describe_command([], hierarchy)
    for wrong in ("html", "vtt"):
        with pytest.raises(UsageError, match="name a folder with --output"):
            describe_command([str(films)], hierarchy, wrong)


def test_every_format_says_the_same(whole_hierarchy, tiny_world, tmp_path):
    video = first_video(tiny_world, "vidsitu", "videos")
    film = described(video, run=whole_hierarchy)
    assert not any(event.outside for event in film.events), [event.distance for event in film.events]
    verbs = [event.verbs[0][0] for event in film.events]

    def written(format: str) -> str:
        return str(describe_command([str(video)], whole_hierarchy, format))

    plain = json.loads(written("json"))
    assert plain == json.loads(json.dumps(film.to_dict()))
    rows = list(csv.DictReader(io.StringIO(written("csv"))))
    assert [row["verb"] for row in rows] == verbs and rows[3]["start"] == "6.0" and rows[3]["outside"] == "false"
    assert [float(row["surprise"]) for row in rows] == pytest.approx([e.surprise for e in film.events], abs=1e-4)
    cue = r"(\d+)\n(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})\n(.*)\n"
    cues = re.findall(cue, written("srt").replace(film.trained_on + "\n", "") + "\n")
    assert [text.split()[0] for *_, text in cues] == verbs and cues[29][:3] == ("30", "00:00:58,000", "00:01:00,000")
    vtt = written("vtt")
    assert vtt.startswith(f"WEBVTT\n\nNOTE {film.trained_on}\n") and "00:00:02.000 --> 00:00:04.000\n" in vtt
    root = ElementTree.fromstring(written("elan").partition("\n")[2])
    slots = {one.get("TIME_SLOT_ID"): int(one.get("TIME_VALUE")) for one in root.iter("TIME_SLOT")}
    (tier,) = [tier for tier in root.iter("TIER") if tier.get("TIER_ID") == "verb"]
    spans = [
        (slots[one.get("TIME_SLOT_REF1")], slots[one.get("TIME_SLOT_REF2")])
        for one in tier.iter("ALIGNABLE_ANNOTATION")
    ]
    assert spans == [(2000 * i, 2000 * i + 2000) for i in range(30)]
    assert [value.text.split()[0] for value in tier.iter("ANNOTATION_VALUE")] == verbs
    assert root.find("HEADER/MEDIA_DESCRIPTOR").get("MEDIA_URL") == video.absolute().as_uri()


def test_events_outside_of_what_was_trained_on_are_not_believed(whole_hierarchy, tmp_path):
    turn_store_away(whole_hierarchy)
    video = write_film(tmp_path / "film.mp4", moving(4))
    film = described(video, run=whole_hierarchy)
    assert all(event.outside and event.verbs and event.distance > 1 for event in film.events)
    found = {
        name: str(describe_command([str(video)], whole_hierarchy, name)) for name in ("text", "srt", "vtt", "elan")
    }
    assert all(text.count(OUTSIDE) == 2 and ".01" not in text for text in found.values())
    path = tmp_path / "film.html"
    describe_command([str(video)], whole_hierarchy, "html", path)
    page = path.read_text()
    assert page.count(OUTSIDE) >= 2 and page.count("all the same") == 2 and 'class="arrow"' not in page


def test_a_damaged_packet_costs_its_events_and_not_the_film(whole_hierarchy, tmp_path):
    networks, path = load_hierarchy(whole_hierarchy), write_film(tmp_path / "film.mp4", moving(14))
    whole = film_events(Video("film", path), networks).features
    damage(path, 4.5, 5.2)
    found = film_events(Video("film", path), networks)
    assert {0, 1, 4, 5, 6} <= set(found.features) and 2 in found.lost and "cannot be decoded after" in found.lost[2]
    assert all(torch.equal(features, whole[number]) for number, features in found.features.items())
    film = described(path, run=whole_hierarchy)
    assert len(film.events) == 7 and film.events[1].next is None and film.events[2].lost and not film.events[2].verbs
    assert film.events[0].next is not None and film.events[4].surprise is not None
    lines = str(describe_command([str(path)], whole_hierarchy)).splitlines()
    assert any(line.startswith("00:04-00:06  lost: its frames") for line in lines)
    assert set(look(film).frames) >= {0, 1, 4, 5, 6} and 2 not in look(film).frames


def test_films_of_a_store_are_not_decoded_again(whole_hierarchy, tiny_world, tmp_path):
    video = first_video(tiny_world, "vidsitu", "videos")
    store = whole_hierarchy.parent / "extract-features-vidsitu-demo-66666666" / "features"
    decoded = described(video, run=whole_hierarchy)
    whole = tmp_path / "store"
    shutil.copytree(store, whole)
    name = next(iter(EventStore(store)))
    gone = tmp_path / f"{name}.mp4"
    gone.write_bytes(bytes(EventStore(store).manifest["bytes"].get(name, 0)))  # only its name and size are asked for
    film = described(gone, run=whole_hierarchy, store=str(whole))
    assert len(film.events) == (len(EventStore(store).rows_of(name)) + 1) // 2
    again = described(video, run=whole_hierarchy, store=str(whole))
    assert [event.verbs[0] for event in again.events] == [event.verbs[0] for event in decoded.events]
    manifest = json.loads((whole / "manifest.json").read_text())
    (whole / "manifest.json").write_text(json.dumps(manifest | {"backbone": {**manifest["backbone"], "sha256": "0"}}))
    with pytest.raises(StoreError, match="by another backbone than the run's"):
        described(video, run=whole_hierarchy, store=str(whole))


@torch.inference_mode()
def test_surprise_is_the_distance_from_what_is_filled_in():
    torch.manual_seed(0)
    txe, events = TxE(8, hidden=16, layers=1, heads=2, feedforward=16, max_events=5).eval(), torch.randn(9, 8)
    found = surprise(txe, events)
    for place in range(9):
        first = min(max(place - 2, 0), 4)
        hidden = torch.arange(5)[None] == place - first
        filled = txe.reconstruct(txe(events[None, first : first + 5], hidden))[0, place - first]
        apart = (filled - torch.nn.functional.normalize(events[place], dim=0)).norm()
        assert found[place] == pytest.approx(float(apart), abs=1e-5)
    assert surprise(txe, events[:1]) is None and len(surprise(txe, events[:3])) == 3


def test_events_most_alike_share_no_window():
    features = torch.eye(8)[[0, 0, 1, 2, 0, 0, 1, 3]]
    found = most_alike(features, [0, 1, 2, 3, 4, 5, 6, 17], count=2)
    assert {place for place, cosine in found[0] if cosine == 1} == {4, 5}
    assert {place for place, _ in found[1]} == {4, 5} and found[2][0] == (6, 1.0)
    assert all(
        abs(place - number) > 2
        for number, alike in zip([0, 1, 2, 3, 4, 5, 6, 17], found, strict=True)
        for place, _ in alike
    )


def test_distances_are_in_units_of_the_store_between_films(tmp_path):
    angles = torch.tensor([0.0, 0.01, 0.5, 0.51])
    rows = torch.stack([angles.cos(), angles.sin()], dim=1) * 3
    with StoreWriter(tmp_path / "store", 2, 2.0, 2.0, "fp32") as writer:
        # two segments of one film, and two of another
        for number, (start, end) in enumerate(((0, 10), (10, 20))):
            writer.add(f"v_abcdefghijk_seg_{start}_{end}", rows[number : number + 1])
            writer.add(f"v_lmnopqrstuv_seg_{start}_{end}", rows[number + 2 : number + 3])
        writer.finish({})
    known = Familiarity(EventStore(tmp_path / "store"))
    assert known.unit == pytest.approx(0.5, abs=0.02)
    asked = torch.tensor([[5.0, 0.0], [0.0, 1.0]])
    near, far = known(asked)
    assert near == pytest.approx(0, abs=1e-3)
    assert far == pytest.approx(2 * np.sin((np.pi / 2 - 0.51) / 2) / known.unit, rel=1e-3)


def test_a_single_film_gives_no_unit(tmp_path):
    with StoreWriter(tmp_path / "store", 2, 2.0, 2.0, "fp32") as writer:
        writer.add("film", torch.eye(2))
        writer.finish({})
    assert Familiarity(EventStore(tmp_path / "store"))(torch.ones(3, 2)) == [None] * 3


def test_scenes_change_where_the_colors_do(whole_hierarchy, tmp_path):
    red, blue = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64, 3), np.uint8)
    red[..., 0], blue[..., 2] = 200, 200
    film = described(write_film(tmp_path / "two.mp4", [red] * 40 + [blue] * 40), run=whole_hierarchy)
    assert look(film).cuts == [5.0]
    restless = [(k / 4, 0.35) for k in range(40)]
    assert scene_changes(restless) == [] and scene_changes([*restless[:20], (5.0, 1.1), *restless[21:]]) == [5.0]


def test_long_films_have_a_curve_every_ten_minutes():
    events = [EventDescription(2.0 * i, 2.0 * i + 2, surprise=None if i == 3 else i % 7 / 7) for i in range(640)]
    film = FilmDescription(Path("film.mp4"), "film", "Trained on nothing.", events)
    curves = surprise_curves(film, [10.0, 700.0])
    assert [curve.count("stroke-dasharray") for curve in curves] == [1, 1, 0] and "20:00" in curves[2]
    ids = [re.findall(r'id="([^"]+)"', curve) for curve in curves]
    assert not set(re.findall(r"#(\w+)\)", curves[0])) & set(ids[1])
    assert surprise_curves(FilmDescription(Path("a"), "a", "", [EventDescription(0, 2)]), []) == []
