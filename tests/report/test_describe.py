import shutil
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from kuleshov.core.errors import KuleshovError, VideoError
from kuleshov.datasets.vidsitu_format import RELATIONS
from kuleshov.report.describe import describe_command
from kuleshov.synthetic.story import CLIP_EVENTS


def first_video(world: Path, *parts: str) -> Path:
    return sorted(world.joinpath(*parts).glob("*.mp4"))[0]


def test_a_long_video_event_by_event(hierarchy, tiny_world):
    events = describe_command(first_video(tiny_world, "vidsitu", "videos"), hierarchy).to_dict()["events"]
    assert [event["start"] for event in events] == [2.0 * i for i in range(len(events))] and len(events) == 30
    for event in events:
        chances = [chance for _, chance in event["verbs"]]
        assert len(chances) == 3 and chances == sorted(chances, reverse=True)
        assert set(event["roles"]) <= {"Arg0", "AScn"}
    assert events[-1]["next"] is None
    assert all(event["next"][0] in RELATIONS for event in events[:-1])


def test_the_newest_tables_run_is_found_and_text_is_made(hierarchy, tiny_world):
    lines = str(describe_command(first_video(tiny_world, "kinetics", "clips"), hierarchy.parent)).splitlines()
    assert lines[0].startswith("00:00-00:02  ") and any(line.startswith("00:02-00:04  ") for line in lines)
    assert sum("-> next: " in line for line in lines) == CLIP_EVENTS - 1


@torch.inference_mode()
def test_neighbors_in_the_middle_of_a_segment_are_related_as_in_training(hierarchy, tiny_world):
    from kuleshov.report.hierarchy import event_features, load_hierarchy, relate_neighbors

    networks = load_hierarchy(hierarchy)
    events = event_features(first_video(tiny_world, "vidsitu", "videos"), networks)[:5]
    scores = networks.relations(events[None])[0].softmax(-1)  # Ev1, Ev2, Ev4, Ev5 against Ev3
    found = relate_neighbors(networks.relations, events)
    for place, pair in ((1, 1), (2, 2)):
        chance, kind = scores[place].max(-1)
        assert found[pair][0] == RELATIONS[int(kind)] and found[pair][1] == pytest.approx(float(chance), abs=1e-5)


def test_a_run_without_roles_tells_it(hierarchy, tiny_world, capsys):
    verbs = hierarchy.parent / "train-verbs-vidsitu-demo-22222222"
    described = describe_command(first_video(tiny_world, "kinetics", "clips"), verbs)
    assert "no train-roles" in capsys.readouterr().err
    assert described.events[0].roles is None


def test_videos_that_cannot_be_described_are_named(hierarchy, tmp_path):
    for name, content in (("broken.mp4", b"not a video"), ("empty.mp4", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=f"cannot read video {tmp_path / name}: "):
            describe_command(tmp_path / name, hierarchy)
    path = tmp_path / "short.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=8)
        stream.width = stream.height = 32
        for _ in range(8):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")))
        file.mux(stream.encode())
    with pytest.raises(VideoError, match=r"1.00 s, an event takes 2 s"):
        describe_command(path, hierarchy)


def test_what_is_missing_is_named(hierarchy, tmp_path):
    with pytest.raises(KuleshovError, match="run folder not found at"):
        describe_command(Path("x.mp4"), tmp_path / "nothing")
    with pytest.raises(KuleshovError, match="run of train-verbs not found"):
        describe_command(Path("x.mp4"), hierarchy.parent / "pretrain-backbone-k400-demo-11111111")
    shutil.rmtree(hierarchy.parent / "train-roles-vidsitu-demo-44444444" / "pretrained-seed0")
    with pytest.raises(KuleshovError, match=r"roles.safetensors"):
        describe_command(Path("x.mp4"), hierarchy)
