"""Candidates for the nearest rows of a very large store, from a faiss index on disk; their cosines are exact."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.imports import RequirementCache
from torch import Tensor
from torch.nn import functional as F

from kuleshov.core.errors import KuleshovError, StoreError, one_line
from kuleshov.core.files import read_json, sha256_json, write_json, write_through
from kuleshov.core.progress import progress_bar
from kuleshov.core.random import numpy_generator
from kuleshov.features.feature_store import EventStore

FAISS = RequirementCache("faiss-cpu>=1.8", "faiss")
ROWS = 65_536  # that are added at a time
PER_LIST = 64  # training rows of each list of the index
PROBED = 1 / 16  # share of the lists that a query looks into
SPARE = 10  # candidates for each row that is wanted


class FaissIndex:
    """An index over a store's rows at length 1: inverted lists of 8-bit codes, compared by inner product.

    Args:
        store: whose rows are indexed.
        path: the index's file, made where it is not there, which takes one pass over the store; beside it `<path>.json`
            says which store it is of.

    Raises:
        KuleshovError: faiss is not installed.
        StoreError: the file is of another store, or damaged.
    """

    def __init__(self, store: EventStore, path: str | Path) -> None:
        if not FAISS:
            raise KuleshovError(f"--index needs `pip install 'kuleshov[faiss]'` ({one_line(str(FAISS))})")
        import faiss

        self.store, path = store, Path(path)
        facts, beside = {"store_sha256": digest(store)}, path.with_name(f"{path.name}.json")
        if not (path.is_file() and beside.is_file()):
            write_through(path, lambda temporary: faiss.write_index(build(store), str(temporary)))
            write_json(beside, facts)
        elif read_json(beside) != facts:
            raise StoreError(f"{path} is an index of another store than {store.folder}: name another, or remove it")
        try:
            self.index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise StoreError(f"{path} is no whole faiss index: remove it, and it is made again") from error

    def nearest_rows(self, query: Tensor, count: int, leave_out: range = range(0)) -> tuple[Tensor, Tensor]:
        """As `nearest.nearest_rows`, but a row that the index does not find is missing.

        Raises:
            StoreError: the query is of another width.
        """
        if query.shape != (self.store.width,):
            raise StoreError(f"{self.store.folder} has features of width {self.store.width}, not {tuple(query.shape)}")
        query = F.normalize(query.float(), dim=0)
        _, found = self.index.search(query[None].numpy(), SPARE * count + len(leave_out))
        rows = torch.from_numpy(found[0])
        left_out = (rows >= leave_out.start) & (rows < leave_out.stop)
        rows = rows[(rows >= 0) & ~left_out].sort().values
        cosines = F.normalize(self.store.take(rows).float(), dim=1) @ query
        best, order = cosines.sort(descending=True, stable=True)
        return best[:count], rows[order][:count]


def digest(store: EventStore) -> str:
    """The sha256 of a store's parts."""
    return sha256_json({name: part.sha256 for name, part in store.index.parts.items()})


def build(store: EventStore) -> Any:
    """The index of a store, whose lists are learned from a sample of its rows."""
    import faiss

    rows = int(store.offsets[-1])
    lists = max(1, min(math.isqrt(16 * rows), rows // PER_LIST))
    index = faiss.index_factory(store.width, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    index.nprobe = max(1, math.ceil(PROBED * lists))
    sample = np.sort(numpy_generator(0, 0, 0).permutation(rows)[: PER_LIST * lists])
    index.train(_unit(store.take(torch.from_numpy(sample))))
    chunks = sum(math.ceil(part.rows / ROWS) for part in store.index.parts.values())
    with progress_bar("index", chunks) as advance:
        for _, part in store.chunks(ROWS):
            index.add(_unit(part))
            advance()
    return index


def _unit(rows: Tensor) -> np.ndarray:
    return F.normalize(rows.float(), dim=1).numpy()
