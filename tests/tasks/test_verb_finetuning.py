"""The backbone fine-tuned on verbs: clips, the weights handed on, and the YAML files through the command line."""

import json
import shutil
import sys

import pytest
import torch
import yaml

from kuleshov.backbones import build_backbone, load_backbone, save_backbone
from kuleshov.core.errors import KuleshovError, MissingDataError, WeightsError
from kuleshov.core.results import read_results
from kuleshov.tasks.verb_finetuning import VerbClipData, VerbFinetuning, clips_of
from kuleshov.training.lightning_cli import main
from kuleshov.video.clip_format import ClipFormat

SMALL = {"num_frames": 4, "frame_stride": 2, "frame_rate": 4.0, "crop_size": 32}


TINY = {"class_path": "slow_d_r50", "init_args": {"width": 1}}


@pytest.fixture
def clip_words(words, small_videos):
    """`words` for small clips and a small backbone, or another one."""

    def made(run, *more, backbone=TINY, command="fit"):
        options = [f"--data.init_args.{name}={value}" for name, value in {**SMALL, "num_workers": 0}.items()]
        options += [f"--model.init_args.backbone={json.dumps(backbone)}", *more]
        return words("verbs-finetune", run, *options, command=command, overlay="")

    return made


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


def test_missing_videos_are_counted(small_vidsitu, tmp_path):
    data = VerbClipData(annotations=str(small_vidsitu / "vidsitu"), videos=str(tmp_path))
    with pytest.raises(MissingDataError, match="24 of 24 train segments .* not found at"):
        data.setup("fit")


def test_a_tuned_backbone_is_scored_and_handed_on(clip_words, tmp_path, lines_of):
    started = build_backbone(TINY)
    clip = ClipFormat(**SMALL, short_side=32, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    save_backbone(tmp_path / "start.safetensors", started, clip, trained=["cvrl-k400"])
    more = [f"--model.init_args.backbone_weights={tmp_path}/start.safetensors", "--model.init_args.warmup_epochs=0"]
    more += ["--trainer.max_epochs=1", "--data.init_args.train_segments=8", "--data.init_args.batch_size=4"]
    main(clip_words(tmp_path, *more))
    tuned = load_backbone(tmp_path / "weights/backbone.safetensors")
    assert tuned.clip.mean == (0.1, 0.2, 0.3) and tuned.manifest["method"] == "verbs-finetune"
    assert tuned.manifest["trained"] == ["cvrl-k400", "verbs-vidsitu"]
    before, after = started.state_dict(), tuned.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    lines = lines_of(tmp_path)
    assert lines["finetuned", "Acc@1"].n == 13
    assert lines["finetuned", "Acc@1"].origin == {"backbone": "slow_d_r50 cvrl-k400 verbs-vidsitu"}
    assert {"acc1_offscreen", "acc1_onscreen"} <= {metric for _, metric in lines}

    official = (tmp_path / "predictions/valid.json").read_bytes()
    shutil.rmtree(tmp_path / "predictions")
    main(["predict", "-c", f"{tmp_path}/config.yaml"])
    assert (tmp_path / "predictions/valid.json").read_bytes() == official


def test_features_may_be_of_another_epoch_than_the_score(clip_words, tmp_path):
    callbacks = [
        {"class_path": "kuleshov.training.callbacks.BestCheckpoint", "init_args": given}
        for given in ({"monitor": "val/Acc@1"}, {"monitor": "val/Recall@5", "mode": "min", "filename": "recall"})
    ]
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    more = ["-c", f"{tmp_path}/two.yaml", "--model.init_args.export_by=val/Recall@5", "--trainer.max_epochs=2"]
    more += ["--data.init_args.train_segments=8", "--data.init_args.batch_size=4", "--model.init_args.warmup_epochs=0"]
    main(clip_words(tmp_path / "run", *more))
    checkpoints = tmp_path / "run" / "checkpoints"
    stored = torch.load(checkpoints / "recall.ckpt", weights_only=True)["state_dict"]
    tuned = load_backbone(tmp_path / "run/weights/backbone.safetensors")
    assert (
        tuned.manifest["selection"] == "epoch with the minimum val/Recall@5" and (checkpoints / "best.ckpt").is_file()
    )
    assert all(torch.equal(value, stored[f"backbone.{name}"]) for name, value in tuned.state_dict().items())
    assert {line.selection for line in read_results(tmp_path / "run/results.jsonl") if line.row != "trivial"} == {
        "epoch with the maximum val/Acc@1"
    }
    with pytest.raises(KuleshovError, match=r"export_by=val/none: no BestCheckpoint monitors it \(known: val/Acc@1"):
        main(clip_words(tmp_path / "refused", "--model.init_args.export_by=val/none"))


def test_the_demo_runs_through_the_command_line(words, small_videos, tmp_path):
    more = [f"--data.init_args.{name}={value}" for name, value in {**SMALL, "batch_size": 2}.items()]
    assert main(words("verbs-finetune", tmp_path, *more, "--trainer.fast_dev_run=true")).model.backbone.width == 8


class Brightness(torch.nn.Module):
    """A backbone of somebody else's: the channels' mean values, weighted."""

    feature_width, clip = 6, ClipFormat(**SMALL, short_side=32, mean=(0.0, 0.0, 0.0), std=(0.5, 0.5, 0.5))

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.project = torch.nn.Linear(3, 6)
        self.scale = scale

    def forward(self, clips):
        return self.scale * self.project(clips.mean((2, 3, 4)))


def test_any_backbone_is_tuned(clip_words, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "their_backbones", sys.modules[__name__])
    spec = {"class_path": "their_backbones.Brightness", "init_args": {"scale": 2.0}}
    more = ("--trainer.fast_dev_run=true", "--data.init_args.batch_size=2")
    model = main(clip_words(tmp_path, *more, backbone=spec)).model
    assert model.clip_format.std == (0.5, 0.5, 0.5) and model.backbone.scale == 2.0


# worker processes draw ahead, before the epoch's hooks
@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_training_equals_the_uninterrupted_one(clip_words, tmp_path, workers):
    more = (
        "--trainer.max_epochs=3",
        "--trainer.limit_train_batches=1",
        "--trainer.limit_val_batches=0",
        "--score_after_fit=false",
        "--data.init_args.train_segments=8",
        "--data.init_args.batch_size=2",
        f"--data.init_args.num_workers={workers}",
        "--model.init_args.warmup_epochs=0",
    )
    saving = "pytorch_lightning.callbacks.ModelCheckpoint"
    kept = {"class_path": saving, "init_args": {"every_n_epochs": 2, "save_on_train_epoch_end": True}}
    callbacks = f"--trainer.callbacks={json.dumps([kept])}"
    whole = main(clip_words(tmp_path / "a", *more, callbacks)).model.state_dict()
    second = next((tmp_path / "a" / "checkpoints").glob("epoch=1-*.ckpt"))
    resumed = main(clip_words(tmp_path / "b", *more, f"--ckpt_path={second}"))
    assert resumed.trainer.current_epoch == 3
    assert all(torch.equal(whole[name], value) for name, value in resumed.model.state_dict().items())


def test_other_clips_and_other_networks_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_backbone(path, build_backbone(TINY), ClipFormat(**SMALL, short_side=32))
    with pytest.raises(WeightsError, match="w.safetensors .*does not fit"):
        VerbFinetuning(backbone="slow_d_r50", backbone_weights=str(path))
    known = VerbFinetuning(backbone=TINY, backbone_weights=str(path)).known_clip
    with pytest.raises(KuleshovError, match=r"w.safetensors .*frame_rate=4.0, the data has 8.0: .*frame_rate"):
        clips_of(known, ClipFormat(**{**SMALL, "frame_rate": 8.0}), str(path))
