"""The backbone fine-tuned on verbs: clips, the weights handed on, and the YAML files through the command line."""

import json

import pytest
import torch

from kuleshov.backbones import build, load, save
from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.core.results import read_results
from kuleshov.tasks.verbs.clips import VerbClipData
from kuleshov.tasks.verbs.finetune import VerbsFinetune
from kuleshov.training.lightning_cli import main
from kuleshov.video.clip_format import ClipFormat

BASE, DEMO = "configs/train-verbs/verbs-finetune.yaml", "configs/train-verbs/verbs-finetune.demo.yaml"
SMALL = {"num_frames": 4, "frame_stride": 2, "frame_rate": 4.0, "crop_size": 32}


def arguments(root, run, *more):
    return [
        "fit",
        *("-c", BASE, "-c", DEMO),
        f"--data.init_args.annotations={root}/vidsitu",
        *(f"--data.init_args.{name}={value}" for name, value in SMALL.items()),
        "--model.init_args.width=4",
        f"--trainer.default_root_dir={run}",
        *more,
    ]


def test_data_brings_five_clips_with_their_verbs(small_vidsitu, small_videos):
    data = VerbClipData(
        annotations=str(small_vidsitu / "vidsitu"), batch_size=4, num_workers=0, train_segments=8, **SMALL
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["clips"].shape == (4, 5, 3, 4, 32, 32) and batch["clips"].dtype == torch.uint8
    assert batch["verbs"].shape == (4, 5)
    assert len(data.train_ids) == 8
    places = torch.cat([batch["place"] for batch in data.test_dataloader()])
    assert places.tolist() == list(range(13))


def test_missing_videos_are_told(small_vidsitu, tmp_path):
    data = VerbClipData(annotations=str(small_vidsitu / "vidsitu"), videos=str(tmp_path))
    with pytest.raises(MissingDataError, match="the video of 24 of 24 train segments .* not found at"):
        data.setup("fit")


def test_the_yamls_run_and_hand_the_tuned_backbone_on(small_vidsitu, small_videos, tmp_path):
    started = build("slow_d_r50", width=4)
    clip = ClipFormat(**{**SMALL, "short_side": 32}, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    save(tmp_path / "start.safetensors", started, clip)
    more = (
        f"--model.init_args.backbone_weights={tmp_path}/start.safetensors",
        "--trainer.max_epochs=1",
        "--data.init_args.train_segments=8",
        "--data.init_args.batch_size=4",
        "--model.init_args.warmup_epochs=0",
    )
    main(arguments(small_vidsitu, tmp_path, *more))
    tuned = load(tmp_path / "weights/backbone.safetensors")
    assert tuned.clip.mean == (0.1, 0.2, 0.3) and tuned.manifest["method"] == "verbs-finetune"
    before, after = started.state_dict(), tuned.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    lines = {(line.row, line.metric): line for line in read_results(tmp_path / "results.jsonl")}
    assert lines["finetuned", "Acc@1"].n == 13
    assert {"acc1_offscreen", "acc1_onscreen"} <= {metric for _, metric in lines}


def test_the_yamls_run_through_the_command_line(small_vidsitu, small_videos, tmp_path):
    more = ("--trainer.fast_dev_run=true", "--data.init_args.batch_size=2")
    assert main(arguments(small_vidsitu, tmp_path, *more)).trainer.state.finished


# worker processes draw ahead, before the epoch's hooks
@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_training_equals_the_uninterrupted_one(small_vidsitu, small_videos, tmp_path, workers):
    more = (
        "--trainer.max_epochs=3",
        "--trainer.limit_train_batches=1",
        "--trainer.limit_val_batches=0",
        "--score_after_fit=false",
        "--data.init_args.train_segments=8",
        "--data.init_args.batch_size=2",
        f"--data.init_args.num_workers={workers}",
        "--model.init_args.width=1",
        "--model.init_args.warmup_epochs=0",
    )
    saving = "pytorch_lightning.callbacks.ModelCheckpoint"
    kept = {"class_path": saving, "init_args": {"every_n_epochs": 2, "save_on_train_epoch_end": True}}
    callbacks = f"--trainer.callbacks={json.dumps([kept])}"
    whole = main(arguments(small_vidsitu, tmp_path / "a", *more, callbacks)).model.state_dict()
    second = next((tmp_path / "a" / "checkpoints").glob("epoch=1-*.ckpt"))
    resumed = main(arguments(small_vidsitu, tmp_path / "b", *more, f"--ckpt_path={second}"))
    assert resumed.trainer.current_epoch == 3
    assert all(torch.equal(whole[name], value) for name, value in resumed.model.state_dict().items())


def test_other_clips_and_other_networks_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save(path, build("slow_d_r50", width=4), ClipFormat(**{**SMALL, "short_side": 32}))
    with pytest.raises(KuleshovError, match="holds slow_d_r50 of width 4, the training asks for slow_r50"):
        VerbsFinetune(backbone="slow_r50", backbone_weights=str(path))
    data = VerbClipData(annotations="a", **{**SMALL, "frame_rate": 8.0})
    model = VerbsFinetune(backbone_weights=str(path))
    model.trainer = type("Trainer", (), {"datamodule": data})()
    with pytest.raises(KuleshovError, match=r"knows clips of frame_rate=4.0, the data has 8.0"):
        model.configure_model()
