"""A module and its data for the tests of the runner and of the command line: quick, and exact to the bit."""

import json
import time

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from kuleshov.core.results import Report
from kuleshov.training.optimization import OptimizedModule


class Toy(OptimizedModule):
    """A linear layer that learns to give zero."""

    report: Report | None = None

    def __init__(self, width: int, pause: float = 0.0, weights: str | None = None, **shared) -> None:
        super().__init__(**shared)
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(width, 1)

    def training_step(self, batch, batch_idx):
        time.sleep(self.hparams.pause)
        loss = self.layer(batch + torch.rand_like(batch)).pow(2).mean()
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val/far", self.layer(batch).abs().mean())

    def test_step(self, batch, batch_idx):
        mean = float(self.layer(batch).mean())
        common = {"task": "toy", "split": "test", "row": "toy", "sample_ids": ["a", "b"], "of": 4}
        self.report = Report(metrics={"mean": mean}, trivial={"mean": 0.0}, predictions={"a": mean}, **common)

    def predict_step(self, batch, batch_idx):
        return {f"{batch_idx}-{place}": value for place, value in enumerate(self.layer(batch)[:, 0].tolist())}

    def write_predictions(self, folder, predictions):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "toy.json").write_text(json.dumps(predictions))

    def exports(self):
        return {"toy": (self.layer, {"architecture": "linear"})}


class ToyData(pl.LightningDataModule):
    """Four rows, twice an epoch."""

    batch_size = 2

    def __init__(self, workers: int = 0) -> None:
        super().__init__()
        self.workers = workers

    def train_dataloader(self):
        return DataLoader(torch.arange(12.0).reshape(4, 3) / 12, batch_size=2, num_workers=self.workers)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class Other(Toy):
    """Another class with the same arguments."""
