"""Unreadable files: counted over processes, told, and refused when too many."""

import json
import multiprocessing
import os

import pytest

from kuleshov.core.errors import KuleshovError, VideoError
from kuleshov.video.bad_files import BadFiles


def test_each_file_counts_once_and_the_limit_is_told(tmp_path):
    bad_files = BadFiles(40, tmp_path / "run" / "bad_files.jsonl", limit=0.05)
    for name in ("a", "b", "a", "b"):
        bad_files.add(VideoError(name, f"broken {name}"))
    assert bad_files.reasons == {"a": "broken a", "b": "broken b"}
    with pytest.raises(KuleshovError, match=r"3 of 40 videos cannot be read: a \(broken a\).*more than 5% is"):
        bad_files.add(VideoError("c", "broken c"))
    lines = (tmp_path / "run" / "bad_files.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["a", "b", "c"]


def test_without_a_file_it_remembers_in_the_process():
    bad_files = BadFiles(2, limit=0.5)
    bad_files.add(VideoError("a", "x"))
    with pytest.raises(KuleshovError, match="2 of 2 videos cannot be read"):
        bad_files.add(VideoError("b", "x"))


def append(path, worker):
    bad_files = BadFiles(1000, path, limit=1.0)
    for number in range(20):
        bad_files.add(VideoError(f"{worker}-{number}", "x" * 300))
        bad_files.add(VideoError(f"shared-{number}", "x"))


def test_processes_share_one_list(tmp_path):
    path = tmp_path / "bad_files.jsonl"
    workers = [multiprocessing.Process(target=append, args=(path, w)) for w in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(BadFiles(1000, path).reasons) == 3 * 20 + 20


def test_a_file_that_was_replaced_no_longer_counts(tmp_path):
    bad = tmp_path / "a.mp4"
    bad.write_bytes(b"bad")
    bad_files = BadFiles(10, tmp_path / "bad_files.jsonl", 1.0)
    bad_files.add(VideoError(bad, "x"))
    assert list(bad_files.reasons) == [str(bad)]
    bad.write_bytes(b"better")
    os.utime(bad, ns=(1, 1))
    assert bad_files.reasons == {}


def test_wrong_numbers_are_named():
    with pytest.raises(KuleshovError, match=r"limit in \[0, 1\], got 10 and 5"):
        BadFiles(10, limit=5)


def test_the_monitor_logs_the_count_and_tells_the_end(tmp_path, caplog):
    import pytorch_lightning as pl
    import torch

    from kuleshov.training.callbacks import BadFilesMonitor

    class Tiny(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch, _):
            return self.layer(batch).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    BadFiles(10, tmp_path / "bad_files.jsonl", 1.0).add(VideoError("a.mp4", "it holds no frames"))
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        callbacks=[BadFilesMonitor()],
    )
    with caplog.at_level("WARNING"):
        trainer.fit(Tiny(), torch.utils.data.DataLoader(torch.ones(2, 1)))
    assert trainer.callback_metrics["data/decode_fail"] == 1
    assert "1 unreadable videos were replaced: a.mp4 (it holds no frames)" in caplog.text
