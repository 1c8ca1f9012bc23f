"""The nearest rows of a store: as by definition, whatever the chunks; rows that are left out; ties."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from kuleshov.core.errors import StoreError
from kuleshov.features.feature_store import EventStore
from kuleshov.features.nearest import nearest_rows
from kuleshov.features.store_writer import StoreWriter


@pytest.fixture(params=[True, False], ids=["memory", "mapped"])
def store(request, tmp_path: Path) -> EventStore:
    generator = torch.Generator().manual_seed(0)
    with StoreWriter(tmp_path / "s", 8, 2.0, 2.0, "fp32", part_bytes=700) as writer:
        for number in range(12):
            writer.add(f"m{number:02d}", torch.randn(9, 8, generator=generator))
        writer.finish()
    return EventStore(tmp_path / "s", memory=request.param)


@pytest.mark.parametrize("chunk", [1, 10, 1000])
@pytest.mark.parametrize("count", [1, 7, 500])
def test_they_are_the_nearest_of_all(chunk: int, count: int, store: EventStore):
    query, rows = torch.randn(8), store.take(torch.arange(108))
    expected = F.cosine_similarity(rows, query, dim=1)
    cosines, found = nearest_rows(store, query, count, chunk=chunk)
    assert found.tolist() == expected.argsort(descending=True)[:count].tolist()
    torch.testing.assert_close(cosines, expected[found])


def test_rows_are_left_out_and_ties_go_by_row(store: EventStore):
    query = store.take(torch.tensor([40]))[0]
    assert nearest_rows(store, query, 1)[1].tolist() == [40]
    left = nearest_rows(store, query, 108, range(38, 43), chunk=20)[1].tolist()
    assert len(left) == 103 and not set(left) & set(range(38, 43))
    assert nearest_rows(store, torch.zeros(8), 5, range(1, 3), chunk=4)[1].tolist() == [0, 3, 4, 5, 6]


def test_a_query_of_another_width_is_refused(store: EventStore):
    with pytest.raises(StoreError, match=r"holds features of width 8, the query is \(9,\)"):
        nearest_rows(store, torch.zeros(9), 1)
