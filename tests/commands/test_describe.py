import json
import shutil
from pathlib import Path

import pytest
import torch

from kuleshov.cli import main
from kuleshov.datasets.vidsitu_format import RELATIONS
from kuleshov.report.describe import event_features, relate_neighbors
from kuleshov.report.hierarchy import load_hierarchy
from kuleshov.synthetic.counts import CLIP_EVENTS


def first_video(world: Path, *parts: str) -> Path:
    return sorted(world.joinpath(*parts).glob("*.mp4"))[0]


def test_a_long_video_event_by_event(hierarchy, tiny_world, capsys):
    video = first_video(tiny_world, "vidsitu", "videos")
    assert main(["describe", str(video), "--run", str(hierarchy), "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    events = out["events"]
    assert [event["start"] for event in events] == [2.0 * i for i in range(len(events))] and len(events) == 30
    for event in events:
        chances = [chance for _, chance in event["verbs"]]
        assert len(chances) == 3 and chances == sorted(chances, reverse=True)
        assert set(event["roles"]) <= {"Arg0", "AScn"}
    assert events[-1]["next"] is None
    assert all(event["next"][0] in RELATIONS for event in events[:-1])


def test_the_newest_tables_run_is_found_and_text_is_printed(hierarchy, tiny_world, capsys):
    video = first_video(tiny_world, "kinetics", "clips")
    assert main(["describe", str(video), "--run", str(hierarchy.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("00:00-00:02  ") and any(line.startswith("00:02-00:04  ") for line in lines)
    assert sum("-> next: " in line for line in lines) == CLIP_EVENTS - 1


@torch.inference_mode()
def test_neighbors_in_the_middle_of_a_segment_are_related_as_in_training(hierarchy, tiny_world):
    networks = load_hierarchy(hierarchy)
    events = event_features(first_video(tiny_world, "vidsitu", "videos"), networks)[:5]
    scores = networks.relations(events[None])[0].softmax(-1)  # Ev1, Ev2, Ev4, Ev5 against Ev3
    found = relate_neighbors(networks.relations, events)
    for place, pair in ((1, 1), (2, 2)):
        chance, kind = scores[place].max(-1)
        assert found[pair][0] == RELATIONS[int(kind)] and found[pair][1] == pytest.approx(float(chance), abs=1e-5)


def test_a_run_without_roles_says_so(hierarchy, tiny_world, capsys):
    verbs = hierarchy.parent / "train-verbs-vidsitu-demo-22222222"
    video = first_video(tiny_world, "kinetics", "clips")
    assert main(["describe", str(video), "--run", str(verbs), "--json"]) == 0
    captured = capsys.readouterr()
    assert "no train-roles: roles are left out" in captured.err
    assert json.loads(captured.out)["events"][0]["roles"] is None


@pytest.mark.parametrize(("name", "content"), [("broken.mp4", b"not a video"), ("empty.mp4", b"")])
def test_a_broken_video_is_one_line(hierarchy, tmp_path, capsys, name, content):
    (tmp_path / name).write_bytes(content)
    assert main(["describe", str(tmp_path / name), "--run", str(hierarchy)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith(f"error: cannot read video {tmp_path / name}: ")


def test_a_video_that_is_too_short(hierarchy, tmp_path, capsys):
    import av
    import numpy as np

    path = tmp_path / "short.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=8)
        stream.width = stream.height = 32
        for _ in range(8):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    assert main(["describe", str(path), "--run", str(hierarchy)]) == 1
    assert "too short: 1.00 s, an event takes 2 s" in capsys.readouterr().err


def test_what_is_missing_is_named(hierarchy, tmp_path, capsys):
    assert main(["describe", "x.mp4", "--run", str(tmp_path / "nothing")]) == 1
    assert "run folder not found at" in capsys.readouterr().err
    assert main(["describe", "x.mp4", "--run", str(hierarchy.parent / "pretrain-backbone-k400-demo-11111111")]) == 1
    assert "run of train-verbs not found" in capsys.readouterr().err
    shutil.rmtree(hierarchy.parent / "train-roles-vidsitu-demo-44444444" / "pretrained-seed0")
    assert main(["describe", "x.mp4", "--run", str(hierarchy)]) == 1
    assert "roles.safetensors" in capsys.readouterr().err
