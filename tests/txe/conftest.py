"""Small stores of made-up event features, and a TxE that fits them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kuleshov.features.store_writer import StoreWriter
from kuleshov.txe import TxE

MakeStore = Callable[..., Path]
TINY = {"hidden": 8, "layers": 2, "heads": 2, "feedforward": 12, "dropout": 0.0}


@pytest.fixture
def tiny_txe() -> Callable[..., TxE]:
    """Make a TxE for features of width 6, always with the same weights, in evaluation mode."""

    def make(**changes) -> TxE:
        torch.manual_seed(0)
        return TxE(6, **{**TINY, **changes}).eval()

    return make


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Write a store of movies with the given numbers of events; event e of movie m is reproducible."""

    def make(name: str = "store", counts: list[int] | None = None, width: int = 6, **grid: float) -> Path:
        writer = StoreWriter(tmp_path / name, width, grid.get("window", 2.0), grid.get("stride", 2.0), "fp32")
        generator = torch.Generator().manual_seed(len(name))
        for number, count in enumerate(counts or [9] * 30):
            writer.add(f"movie{number:03d}", torch.rand(count, width, generator=generator))
        writer.finish()
        return tmp_path / name

    return make
