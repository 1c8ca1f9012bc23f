import json

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from kuleshov.core.errors import KuleshovError
from kuleshov.core.results import read_results
from kuleshov.tasks.lvu import lvu_data
from kuleshov.tasks.lvu.instance_pretraining import InstanceSpans
from kuleshov.tasks.lvu.lvu_data import EpochSampler, LvuData, RandomSpans
from kuleshov.tasks.lvu.scene_head import SceneHead
from kuleshov.training.callbacks import WriteResults

SIZES = {"train": 9, "val": 5, "test": 7}


@pytest.fixture
def opened(tmp_path, kit):
    hidden = kit.annotations(tmp_path, "genre", SIZES)
    events = kit.events(tmp_path / "events", hidden, length=lambda n: 30 + 5 * (n % 3))
    return hidden, str(events), str(kit.instances(tmp_path / "instances", hidden, seconds=70))


def data_of(tmp_path, events, instances=None, **options):
    data = LvuData(str(tmp_path), "genre", events, instances, **options)
    data.setup()
    return data


def test_an_epoch_has_each_movie_once_and_epochs_differ():
    sampler = EpochSampler(11, seed=3)
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert [key[0] for key in keys] == [epoch] * 11
        orders.append([key[1] for key in keys])
        assert sorted(orders[-1]) == list(range(11)) and list(sampler) == keys
    assert orders[0] != orders[1]


def test_two_ranks_share_every_batch(tmp_path, opened, monkeypatch):
    """Batch sizes are global: what two ranks read in a step is what one reads, in training and evaluation."""
    data = data_of(tmp_path, opened[1], batch_size=4, eval_batch_size=2)
    whole = [batch["place"].tolist() for batch in data.train_dataloader()]
    assert [len(places) for places in whole] == [4, 4, 1]
    monkeypatch.setattr(lvu_data, "world_size", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(lvu_data, "rank", lambda rank=rank: rank)
        parts.append([batch["place"].tolist() for batch in data.train_dataloader()])
    assert [sorted(one + two) for one, two in zip(*parts, strict=True)][:2] == [sorted(places) for places in whole[:2]]
    assert data.test_dataloader().batch_size == 1
    data.eval_batch_size = 3
    with pytest.raises(KuleshovError, match="eval_batch_size=3 .* 2 processes"):
        data.val_dataloader()


def test_a_sample_depends_on_seed_epoch_and_number_alone(tmp_path, opened):
    batches = []
    for workers in (0, 2):
        data = data_of(tmp_path, *opened[1:], batch_size=4, num_workers=workers, seed=5)
        loader = data.train_dataloader()
        loader.sampler.set_epoch(2)
        batches.append(list(loader))
    for one, other in zip(*batches, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_span_sampling_follows_length_and_movie_sampling_does_not(tmp_path, opened):
    data = data_of(tmp_path, opened[1])
    lengths = np.array([len(movie.ends) for movie in data.movies["train"]])
    assert set(lengths) == {1, 10, 20}  # 60, 70 and 80 seconds; the first event's center lies in second 1
    counts = {}
    for sampling in ("span", "movie"):
        drawn = RandomSpans(data.movies["train"], data._maker(), 0, sampling)
        numbers = [drawn[(epoch, k)]["place"] for epoch in range(200) for k in range(9)]
        counts[sampling] = np.bincount(numbers, minlength=9)
    np.testing.assert_allclose(counts["span"] / 1800, lengths / lengths.sum(), atol=0.03)
    assert (counts["movie"] == 200).all()


def test_evaluation_windows_against_a_plain_reading(tmp_path, opened):
    """Every span of a movie holds the events whose center lies in its 60 seconds."""
    data = data_of(tmp_path, opened[1], eval_batch_size=3)
    seen = 0
    for batch in data.test_dataloader():
        for s in range(len(batch["movie"])):
            movie = data.movies["test"][int(batch["place"][batch["movie"][s]])]
            end = movie.ends[int(batch["turn"][s])]
            inside = [i for i, second in enumerate(movie.event_seconds) if end - 59 <= second <= end]
            first, count = int(batch["event_first"][s]), int(batch["event_count"][s])
            rows = batch["events"][batch["movie"][s], first : first + count]
            expected = data.events.events(movie.id)[inside]
            torch.testing.assert_close(rows, expected)
            seconds = movie.event_seconds[inside]
            low, high = seconds.min(), seconds.max()
            ids = np.stack([seconds - low + 4, high - seconds + 4, seconds - (low + high) // 2 + 133], axis=1)
            assert batch["event_ids"][s, :count].tolist() == ids.tolist()
            assert (batch["event_ids"][s, count:] == 1).all()
            seen += 1
    assert seen == sum(len(movie.ends) for movie in data.movies["test"])


def test_pairs_are_two_spans_of_one_movie(opened):
    data = InstanceSpans(opened[2], batch_size=4, seed=0)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch["movie"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and batch["turn"].tolist() == [0, 1] * 4
    assert batch["chosen"].any(1).all()
    with pytest.raises(KuleshovError, match="mask_share must lie between 0 and 1, not 0"):
        InstanceSpans(opened[2], mask_share=0)


def test_a_resumed_training_ends_with_the_same_weights(tmp_path, opened, fit):
    kept = {"every_n_epochs": 2, "save_on_train_epoch_end": True}
    callbacks = json.dumps([{"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": kept}])
    words = ("--trainer.max_epochs=4", "--score_after_fit=false", f"--trainer.callbacks={callbacks}")
    data = {"annotations": tmp_path, "task": "genre", "events": opened[1], "batch_size": 4}
    model = {"txe_hidden": 8, "txe_layers": 1, "txe_heads": 2, "txe_feedforward": 8, "context": "scratch"}
    model |= {"pooling": "attention", "feature_normalization": "standardize", "lr": 0.01}
    whole = fit("scene-head", tmp_path / "whole", *words, data=data, model=model).model.state_dict()
    second = next((tmp_path / "whole" / "checkpoints").glob("epoch=1-*.ckpt"))
    resumed = fit("scene-head", tmp_path / "resumed", *words, f"--ckpt_path={second}", data=data, model=model)
    assert resumed.trainer.current_epoch == 4
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, whole[name]), name


@pytest.mark.slow
def test_two_ranks_score_as_one(tmp_path, opened):
    """Seven test movies on two ranks: one is padded in, none is counted twice."""
    texts = []
    for folder, options in (("one", {}), ("two", {"devices": 2, "strategy": "ddp_spawn"})):
        pl.seed_everything(0, verbose=False)
        data = LvuData(str(tmp_path), "genre", opened[1], seed=0)
        runner = pl.Trainer(
            default_root_dir=tmp_path / folder,
            accelerator="cpu",
            logger=False,
            callbacks=[WriteResults()],
            enable_progress_bar=False,
            **options,
        )
        runner.test(SceneHead(), data, verbose=False)
        (written,) = (tmp_path / folder / "tests").iterdir()
        texts.append((written / "predictions" / "test.csv").read_text())
        assert read_results(written / "results.jsonl")[0].n == 7
    assert texts[0] == texts[1]
