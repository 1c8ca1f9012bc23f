"""Segments as data: one order for any number of processes, scores that do not depend on it, and what is missing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kuleshov.core.errors import FormatError, KuleshovError, StoreError
from kuleshov.core.results import read_results
from kuleshov.tasks.relations import RelationData
from kuleshov.tasks.roles import RoleData
from kuleshov.tasks.segment_data import EpochOrder
from kuleshov.tasks.verb_finetuning import VerbClipData
from kuleshov.tasks.verbs import VerbData, VerbTask
from kuleshov.training.lightning_cli import main
from kuleshov.video.video_file import evenly

sys.path.insert(0, str(Path(__file__).parents[1]))
from distributed import on_ranks


def verb_data(root: str, stage: str = "fit", **options) -> VerbData:
    data = VerbData(**{"annotations": f"{root}/vidsitu", "events": f"{root}/store", **options})
    data.setup(stage)
    return data


def orders(monkeypatch, processes: int, *arguments) -> list[list[int]]:
    monkeypatch.setattr("kuleshov.tasks.segment_data.world_size", lambda: processes)
    made = []
    for rank in range(processes):
        monkeypatch.setattr("kuleshov.tasks.segment_data.rank", lambda rank=rank: rank)
        made.append(list(EpochOrder(*arguments)))
    return made


def test_order_is_drawn_from_seed_and_epoch_alone():
    order = EpochOrder(10, 3, 5)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    order.set_epoch(0)
    assert sorted(first) == sorted(second) == list(range(10)) and first != second and list(order) == first
    assert list(EpochOrder(4, 3)) == [0, 1, 2, 3]


@pytest.mark.parametrize("samples", [4, 15, 16, 21])
def test_processes_share_every_global_batch(monkeypatch, samples):
    """Also where one process would leave samples out, and where there are fewer than a batch."""
    (whole,) = orders(monkeypatch, 1, samples, 3, 8)
    shares = orders(monkeypatch, 4, samples, 3, 8)
    assert len(whole) == (samples // 8 * 8 or samples) and {len(share) for share in shares} == {len(whole) // 4}
    for step in range(0, len(whole), 8):
        batch = [i for share in shares for i in share[step // 4 : (step + 8) // 4]]
        assert sorted(batch) == sorted(whole[step : step + 8])


def test_every_sample_is_evaluated(monkeypatch):
    shares = orders(monkeypatch, 4, 10, 3)
    assert sorted(i for share in shares for i in share) == sorted([*range(10), 0, 1])


@pytest.mark.parametrize("kind", [VerbData, RelationData, RoleData, VerbClipData])
def test_every_task_shares_a_global_batch(small_vidsitu, small_videos, monkeypatch, kind):
    """Batch sizes are over all processes: two of them learn from half of each."""
    clips = {"num_workers": 0, "num_frames": 2, "frame_rate": 4.0, "crop_size": 32}
    more = clips if kind is VerbClipData else {"events": f"{small_vidsitu}/store"}
    data = kind(annotations=f"{small_vidsitu}/vidsitu", batch_size=8, **more)
    data.setup("fit")
    assert (data.train_dataloader().batch_size, len(data.train_dataloader())) == (8, 3)
    monkeypatch.setattr("kuleshov.tasks.segment_data.world_size", lambda: 2)
    assert (data.train_dataloader().batch_size, len(data.train_dataloader())) == (4, 3)
    data.batch_size = 9
    with pytest.raises(KuleshovError, match="global batch of 9 cannot be shared by 2 processes"):
        data.train_dataloader()


def measured(rank: int, root: str) -> tuple[list[torch.Tensor], str, dict[str, float]]:
    """An epoch's batches; what a network predicts and scores."""
    data = verb_data(root, batch_size=8, eval_batch_size=3, train_segments=21)
    batches = [batch["events"] for batch in data.train_dataloader()]
    torch.manual_seed(0)
    model = VerbTask(context="scratch", txe_hidden=16, txe_layers=1, txe_heads=2, txe_feedforward=16)
    model.trainer = SimpleNamespace(datamodule=data)
    model.configure_model()
    model.eval()
    for number, batch in enumerate(data.test_dataloader()):
        model.test_step(batch, number)
    predicted = model._predicted("test")
    return batches, json.dumps(predicted), dict(model.evaluate(predicted, "test").metrics)


def test_two_ranks_learn_from_the_batches_of_one_and_score_as_one(small_vidsitu):
    """13 segments to score: two ranks see one of them twice."""
    whole, *scores = measured(0, str(small_vidsitu))
    (first, *one), (second, *other) = on_ranks(2, measured, str(small_vidsitu))
    assert len(whole) == len(first) == len(second) == 2 and one == other == scores
    for batch, *shares in zip(whole, first, second, strict=True):
        assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1), batch)


@pytest.mark.slow
def test_two_processes_of_lightning_write_the_scores_once(words, tmp_path):
    more = ["--model.init_args.context=scratch", "--trainer.check_val_every_n_epoch=1", "--trainer.max_epochs=2"]
    more += ["--trainer.devices=2", "--trainer.accelerator=cpu", "--trainer.strategy=ddp"]
    command = [sys.executable, "-m", "kuleshov", *words("verbs", tmp_path, *more, "--data.init_args.batch_size=4")]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert made.returncode == 0, made.stderr[-2000:]
    lines = [line for line in read_results(tmp_path / "results.jsonl") if line.row == "scratch"]
    assert [line.metric for line in lines].count("Acc@1") == 1
    assert all(line.n == 13 for line in lines if "screen" not in line.metric)


def test_segments_are_evenly_chosen():
    assert evenly("abcdefgh", 4) == ["a", "c", "e", "g"]
    assert evenly("abc", None) == evenly("abc", 9) == ["a", "b", "c"]
    with pytest.raises(KuleshovError, match="at least one sample .* 0 were"):
        evenly("abc", 0)


def test_data_has_features_and_the_first_annotators_verbs(small_vidsitu):
    data = verb_data(small_vidsitu, batch_size=7, train_segments=20, validate_segments=5)
    assert [batch["events"].shape for batch in data.train_dataloader()] == [(7, 5, 16)] * 2
    truth = data.annotations.verbs("train")
    for name, verbs in zip(data.train_ids, data.train_rows.tensors["verbs"].tolist(), strict=True):
        assert [data.verbs[v] for v in verbs] == [event[0] for event in truth[name]]
    places = [torch.cat([batch["place"] for batch in made()]) for made in (data.test_dataloader, data.val_dataloader)]
    assert places[0].tolist() == list(range(13)) and places[1].tolist() == [0, 2, 5, 7, 10]


def test_missing_features_are_counted(small_vidsitu, tmp_path):
    shutil.copytree(small_vidsitu / "vidsitu", tmp_path / "vidsitu")
    split = tmp_path / "vidsitu/split_files/vseg_split_valid_lb.json"
    split.write_text(json.dumps([*json.loads(split.read_text()), "v_abcdefghijk_seg_0_10"]))
    with pytest.raises(StoreError, match="1 of 14 segments are not in"):
        verb_data(tmp_path, events=f"{small_vidsitu}/store")
    data = verb_data(tmp_path, events=f"{small_vidsitu}/store", allow_missing=True)
    assert len(data.test_ids) == 13 and len(data.split_ids) == 14


def test_another_list_is_of_the_same_split(small_vidsitu, tmp_path):
    names = json.loads((small_vidsitu / "vidsitu/split_files/vseg_split_valid_lb.json").read_text())
    (tmp_path / "some.json").write_text(json.dumps(names[2:5]))
    assert verb_data(small_vidsitu, split_file=str(tmp_path / "some.json")).test_ids == names[2:5]
    (tmp_path / "more.json").write_text(json.dumps([*names, "v_abcdefghijk_seg_0_10"]))
    with pytest.raises(FormatError, match="v_abcdefghijk_seg_0_10: 1 of 14 segments are not in the split valid"):
        verb_data(small_vidsitu, split_file=str(tmp_path / "more.json"))


def test_a_resumed_training_ends_with_the_same_weights(words, tmp_path):
    """A training that stops in the middle and goes on is, bit for bit, one that did not stop."""
    more = ["--data.init_args.batch_size=4", "--model.init_args.context=scratch", "--trainer.max_epochs=4"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    main(words("verbs", whole, *more))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(VerbTask, "on_train_epoch_start", stop_at_the_third_epoch)
        main(words("verbs", halves, *more))
    main(words("verbs", halves, *more, f"--ckpt_path={halves}/checkpoints/last.ckpt"))
    ends = [torch.load(run / "checkpoints/last.ckpt", weights_only=True) for run in (whole, halves)]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 4 * 6
    for name, value in ends[0]["state_dict"].items():
        assert torch.equal(value, ends[1]["state_dict"][name]), name


class Stop(Exception):
    """Stands for a kill."""


def stop_at_the_third_epoch(task: VerbTask) -> None:
    if task.current_epoch == 2:
        raise Stop


def test_a_split_that_is_not_annotated_is_refused(small_vidsitu, tmp_path):
    root = shutil.copytree(small_vidsitu, tmp_path / "copy")
    path = next((root / "vidsitu").rglob("vsann_train_lb.json"))
    path.write_text(json.dumps(json.loads(path.read_text())[:-2]))
    with pytest.raises(FormatError, match=r"vidsitu, record .*: 2 of \d+ segments of train are not annot"):
        verb_data(root)
    for kind in (RoleData, RelationData):
        data = kind(annotations=f"{root}/vidsitu", events=f"{root}/store")
        with pytest.raises(FormatError, match="segments of train are not annotated"):
            data.setup("fit")
