"""The generated world's LVU files through the instance store and the task's data."""

import torch

from kuleshov import backbones
from kuleshov.datasets.lvu import Lvu
from kuleshov.features.extract import extract_command
from kuleshov.features.feature_store import InstanceStore
from kuleshov.features.instances import instances_command
from kuleshov.tasks.lvu.lvu_data import LvuData
from kuleshov.video.clip_format import ClipFormat

CLIP = ClipFormat(num_frames=4, frame_stride=2, frame_rate=8, crop_size=32, short_side=32)


def test_boxes_and_events_of_the_world_become_tokens(tiny_world, tmp_path):
    root = tiny_world / "lvu"
    torch.manual_seed(0)
    weights = tmp_path / "backbone.safetensors"
    network = backbones.build_backbone({"class_path": "slow_d_r50", "init_args": {"width": 4}})
    backbones.save_backbone(weights, network.eval(), CLIP)
    videos, missing = Lvu(root).videos()
    assert not missing
    source = {"boxes": root / "boxes.csv", "weights": weights, "videos": root / "videos", "accelerator": "cpu"}
    made = instances_command(tmp_path / "instances", **source)
    assert made.movies == made.of == len(videos) and not made.missing
    extract_command(tmp_path / "events", weights, videos=videos, stride=2.0, accelerator="cpu", progress=False)
    store = InstanceStore(tmp_path / "instances")
    movie = store.movie(videos[0].id)
    assert movie.features.shape[1] == 128 and 0 <= movie.boxes.min() and movie.boxes.max() <= 1
    data = LvuData(str(root), "genre", str(tmp_path / "events"), str(tmp_path / "instances"))
    data.setup()
    batch = next(iter(data.test_dataloader()))
    assert batch["event_count"].tolist() == [30] * len(batch["movie"])
    assert (batch["row"] >= 0).any(1).all() and batch["events"].isfinite().all()
