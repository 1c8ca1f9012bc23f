"""The events of a store that are most like a feature: exact, by cosine, in chunks that fit in memory."""

from typing import TYPE_CHECKING

import torch
from lightning_utilities.core.imports import RequirementCache
from torch import Tensor
from torch.nn import functional as F

from kuleshov.core.errors import StoreError
from kuleshov.features.feature_store import EventStore

if TYPE_CHECKING or RequirementCache("faiss-cpu") or RequirementCache("faiss-gpu"):
    import faiss
else:
    faiss = None

CHUNK = 4096  # rows


def nearest_rows(
    store: EventStore, query: Tensor, count: int, leave_out: range = range(0), chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """The rows of a store whose cosine with a feature is largest.

    Args:
        store: in memory, or mapped: a chunk of rows is read at a time.
        query: float (D,).
        count: how many rows, fewer where the store has fewer.
        leave_out: rows that do not count.
        chunk: rows that are compared at a time.

    Returns:
        Cosines float32 (count,) in descending order, and their rows int64 (count,); of equal ones the first rows.

    Raises:
        StoreError: the query is of another width.
    """
    if query.shape != (store.width,):
        raise StoreError(f"{store.folder} holds features of width {store.width}, the query is {tuple(query.shape)}")
    query, wanted = F.normalize(query.float(), dim=0), count + len(leave_out)
    best = [
        (cosines, places + first)
        for first, rows in store.chunks(chunk)
        for cosines, places in [_best_of(F.normalize(rows.float(), dim=1), query, min(wanted, len(rows)))]
    ]
    cosines, rows = (torch.cat(parts) for parts in zip(*best, strict=True))
    # by row first, so that of equal cosines the first rows stay first
    order = rows.argsort()
    order = order[cosines[order].sort(descending=True, stable=True).indices]
    order = order[(rows[order] < leave_out.start) | (rows[order] >= leave_out.stop)][:count]
    return cosines[order], rows[order]


def _best_of(rows: Tensor, query: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Cosines and places (count,) of the rows (R, D) nearest to a query (D,), by faiss where it is installed."""
    if faiss is not None:
        cosines, places = faiss.knn(query.unsqueeze(0).numpy(), rows.numpy(), count, metric=faiss.METRIC_INNER_PRODUCT)
        return torch.from_numpy(cosines[0]), torch.from_numpy(places[0])
    # topk may take any of equal ones
    cosines, places = (rows @ query).sort(descending=True, stable=True)
    return cosines[:count], places[:count]
