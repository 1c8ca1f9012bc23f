"""A training whose numbers run away stops in one line; a checkpoint is either whole or the one before."""

import errno
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import is_whole_archive as is_whole
from kuleshov.training.callbacks import AtomicCheckpointIO, LastCheckpoint, StopAtNonFinite


class Runaway(pl.LightningModule):
    """A weight that leaves the finite numbers at a step."""

    def __init__(self, step: int, in_weight: bool) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.step, self.in_weight = step, in_weight

    def training_step(self, batch, batch_idx):
        if self.global_step == self.step:
            if not self.in_weight:
                return (self.weight * float("nan")).sum()
            self.weight.data[1] = float("inf")
        return 0.0 * torch.nan_to_num(self.weight).sum() + self.weight[0]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


@pytest.mark.parametrize(("in_weight", "named"), [(False, "loss"), (True, "weight weight")])
def test_what_is_not_finite_stops_the_training(in_weight: bool, named: str, tmp_path: Path):
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_epochs=3, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[StopAtNonFinite(), LastCheckpoint()],
    )  # fmt: skip
    with pytest.raises(KuleshovError, match=rf"epoch 1: .*{named}.*learning rate"):
        trainer.fit(Runaway(5, in_weight), DataLoader(torch.zeros(4, 1)))
    kept = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 0 and kept["state_dict"]["weight"].isfinite().all()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, io = tmp_path / "last.ckpt", AtomicCheckpointIO()
    io.save_checkpoint({"a": torch.zeros(2)}, path)
    before = path.read_bytes()

    def full(checkpoint, target):
        target.write(b"torn")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(KuleshovError, match="last.ckpt.*[Nn]o space left.*make room"):
        io.save_checkpoint({"a": torch.ones(2)}, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", [b"", b"text", None])
def test_a_damaged_checkpoint_is_found(damage: bytes | None, tmp_path: Path):
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"a": torch.arange(1000.0)}, path)
    assert is_whole(path)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2] if damage is None else damage)
    assert not is_whole(path) and not is_whole(tmp_path / "none")
