"""A faiss index of a store: what it finds of the exact nearest rows, its file used again, another store's refused."""

from pathlib import Path

import pytest
import torch

from kuleshov.core.errors import KuleshovError, StoreError
from kuleshov.features import faiss_index
from kuleshov.features.faiss_index import FaissIndex
from kuleshov.features.feature_store import EventStore
from kuleshov.features.nearest import nearest_rows
from kuleshov.features.store_writer import StoreWriter
from kuleshov.report.search import search


def write_store(folder: Path, movies: int, seed: int, width: int = 16) -> EventStore:
    """Events around a few centers, as those of movies are."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(40, width, generator=generator)
    with StoreWriter(folder, width, 2.0, 2.0, "fp16", part_bytes=40_000) as writer:
        for number in range(movies):
            kind = torch.randint(len(centers), (50,), generator=generator)
            writer.add(f"m{number:03d}", centers[kind] + 0.6 * torch.randn(50, width, generator=generator))
        writer.finish()
    return EventStore(folder, memory=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> EventStore:
    pytest.importorskip("faiss", reason="the extra `faiss` is not installed")
    return write_store(tmp_path_factory.mktemp("faiss") / "store", 100, seed=0)


def test_most_of_the_nearest_are_found_with_their_exact_cosines(store: EventStore, tmp_path: Path):
    index, shares = FaissIndex(store, tmp_path / "rows.faiss"), []
    for place in range(0, 5000, 250):
        query = store.take(torch.tensor([place]))[0].float()
        cosines, rows = nearest_rows(store, query, 10, range(place, place + 1))
        near, found = index.nearest_rows(query, 10, range(place, place + 1))
        assert len(found) == 10 and place not in found and near.tolist() == sorted(near.tolist(), reverse=True)
        exact = dict(zip(rows.tolist(), cosines.tolist(), strict=True))
        same = [row for row in found.tolist() if row in exact]
        assert all(abs(near[found.tolist().index(row)] - exact[row]) < 1e-5 for row in same)
        shares.append(len(same) / 10)
    assert sum(shares) / len(shares) > 0.9


def test_where_few_rows_are_asked_for_all_are_found(store: EventStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(faiss_index, "PROBED", 1.0)
    index = FaissIndex(store, tmp_path / "rows.faiss")
    assert index.index.ntotal == 5000 and index.index.nprobe == index.index.nlist > 50
    near, found = index.nearest_rows(torch.ones(16), 3)
    assert found.tolist() == nearest_rows(store, torch.ones(16), 3)[1].tolist() and len(near) == 3


def test_an_index_is_made_once_and_of_one_store(store: EventStore, tmp_path: Path):
    path = tmp_path / "rows.faiss"
    hits = search(store.folder, "m003@31", 5, index=path).hits
    assert [hit.movie for hit in hits] and all(hit.cosine > 0.3 for hit in hits)
    made = path.stat().st_mtime_ns
    assert search(store.folder, "m003@31", 5, index=path).hits == hits and path.stat().st_mtime_ns == made
    other = write_store(tmp_path / "other", 20, seed=1)
    with pytest.raises(StoreError, match=f"rows.faiss is an index of another store than {other.folder}: name another"):
        search(other.folder, "m003@31", index=path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(StoreError, match="rows.faiss is no whole faiss index: remove it"):
        search(store.folder, "m003@31", index=path)


def test_a_query_of_another_width_is_refused(store: EventStore, tmp_path: Path):
    with pytest.raises(StoreError, match=r"has features of width 16, not \(9,\)"):
        FaissIndex(store, tmp_path / "rows.faiss").nearest_rows(torch.ones(9), 1)


def test_it_says_what_to_install(store: EventStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(faiss_index, "FAISS", "")
    with pytest.raises(KuleshovError, match=r"--index needs `pip install 'kuleshov\[faiss\]'`"):
        search(store.folder, "m003@31", index=tmp_path / "rows.faiss")
