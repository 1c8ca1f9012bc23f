"""A module and its data for the runner's tests: quick, and exact to the bit."""

import time

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from kuleshov.core.results import Result, append_results, global_seed


class Toy(pl.LightningModule):
    """A linear layer that learns to give zero."""

    def __init__(self, width: int, lr: float = 0.1, pause: float = 0.0, weights: str | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(width, 1)
        self.lr, self.pause = lr, pause

    def training_step(self, batch, index):
        time.sleep(self.pause)
        loss = self.layer(batch + torch.rand_like(batch)).pow(2).mean()
        self.log("train/loss", loss)
        return loss

    def test_step(self, batch, index):
        self.last = self.layer(batch).mean()

    def on_test_epoch_end(self):
        shared = {"metric": "zero", "task": "toy", "split": "test", "n": 4, "of": 4, "sample_ids_sha256": "sha"}
        own = Result(value=float(self.last), seed=global_seed(), row="toy", **shared)
        trivial = Result(value=0.0, row="trivial", **shared)
        append_results(f"{self.trainer.default_root_dir}/results.jsonl", [own, trivial])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)

    def exports(self):
        return {"toy": (self.layer, {"architecture": "linear"})}


class ToyData(pl.LightningDataModule):
    """Four rows, twice an epoch."""

    def train_dataloader(self):
        return DataLoader(torch.arange(12.0).reshape(4, 3) / 12, batch_size=2)

    test_dataloader = train_dataloader
