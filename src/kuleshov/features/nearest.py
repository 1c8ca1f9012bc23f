"""The events of a store that are most like a feature: exact, by cosine, in chunks that fit in memory."""

import torch
from torch import Tensor

from kuleshov.core.errors import StoreError
from kuleshov.features.feature_store import EventStore

CHUNK = 4096  # rows
TINY = 1e-12  # for features of length 0


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
    cosines = torch.zeros(int(store.offsets[-1]))
    query = query.float() / query.float().norm().clamp_min(TINY)
    for first, rows in store.chunks(chunk):
        rows = rows.float()
        cosines[first : first + len(rows)] = (rows @ query) / rows.norm(dim=1).clamp_min(TINY)
    cosines[leave_out.start : leave_out.stop] = -torch.inf
    # topk may give equal ones in any order
    best, order = cosines.sort(descending=True, stable=True)
    count = min(count, len(cosines) - len(leave_out))
    return best[:count], order[:count]
