"""`kuleshov contextualize`: the same numbers as TxE gives, movie by movie; what does not fit is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kuleshov.core.errors import FormatError, KuleshovError, StoreError
from kuleshov.features.feature_store import EventStore
from kuleshov.features.npy import export_features
from kuleshov.features.store_index import read_manifest
from kuleshov.features.store_writer import StoreWriter
from kuleshov.txe import load, save
from kuleshov.txe.contextualize import contextualize
from kuleshov.txe.contextualizer import encode_long


@pytest.fixture
def weights(tiny_txe, tmp_path: Path) -> Path:
    save(tmp_path / "txe.safetensors", tiny_txe(), {"data": {"token_stride": 2.0, "backbone_sha256": None}})
    return tmp_path / "txe.safetensors"


def run(weights: Path, store: Path, output: Path, **options):
    return contextualize(weights, store, output, accelerator="cpu", progress=False, **options)


@pytest.mark.parametrize("windows", ["sliding", "blocks"])
def test_it_is_txe_on_every_movie(windows: str, weights: Path, make_store, tmp_path: Path):
    folder = make_store(counts=[9, 3, 12], stride=1.0)
    summary = run(weights, folder, tmp_path / "out", windows=windows)
    raw, found = EventStore(folder), EventStore(tmp_path / "out", width=8, stride=1.0)
    assert (summary.rows, summary.movies) == (24, 3) and list(found) == list(raw) and found.dtype == raw.dtype
    for movie in raw:
        # TxE was trained on events 2 s apart, the store has one each second
        expected = encode_long(load(weights), raw[movie].unsqueeze(0), 2, windows)[0]
        assert torch.equal(found[movie], expected) and found.times(movie) == raw.times(movie)
    made = read_manifest(tmp_path / "out")["contextualized"]
    assert made["windows"] == windows and made["token_stride"] == 2.0 and len(made["txe_sha256"]) == 64
    assert export_features(tmp_path / "out", tmp_path / "npy").rows == 24
    assert np.array_equal(np.load(tmp_path / "npy" / f"{movie}.npy"), found[movie].numpy())


def test_starts_of_movies_and_another_precision_are_kept(weights: Path, tmp_path: Path):
    with StoreWriter(tmp_path / "s", 6, 2.0, 2.0, "fp32") as writer:
        writer.add("m", torch.rand(4, 6), start=7.5)
        writer.finish()
    run(weights, tmp_path / "s", tmp_path / "out", dtype="bf16")
    assert EventStore(tmp_path / "out").times("m") == [7.5, 9.5, 11.5, 13.5]
    assert EventStore(tmp_path / "out").dtype == "bf16"


def test_an_interrupted_one_goes_on_to_the_same_store(weights: Path, make_store, tmp_path: Path, monkeypatch):
    folder, add, added = make_store(counts=[9] * 4), StoreWriter.add, []

    def fails(self, movie, *rest):
        if len(added) == 2:
            raise KeyboardInterrupt
        added.append(movie)
        add(self, movie, *rest)

    run(weights, folder, tmp_path / "whole")
    monkeypatch.setattr(StoreWriter, "add", fails)
    with pytest.raises(KeyboardInterrupt):
        run(weights, folder, tmp_path / "out")
    monkeypatch.setattr(StoreWriter, "add", lambda self, movie, *rest: (added.append(movie), add(self, movie, *rest)))
    run(weights, folder, tmp_path / "out")
    assert added == [f"movie{i:03d}" for i in range(4)]
    names = sorted(path.name for path in (tmp_path / "whole").glob("[!.]*"))
    assert all((tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in names)


def test_what_does_not_fit_is_refused(weights: Path, make_store, tiny_txe, tmp_path: Path):
    folder = make_store()
    with pytest.raises(StoreError, match=r"narrow has width 5, 6 was asked for"):
        run(weights, make_store("narrow", width=5), tmp_path / "out")
    with pytest.raises(StoreError, match=r"has an event every 2\.0 s, 3\.0 s is no multiple of it"):
        run(weights, folder, tmp_path / "out", token_stride=3.0)
    run(weights, folder, tmp_path / "out")
    with pytest.raises(StoreError, match="out was written with contextualized."):
        run(weights, folder, tmp_path / "out", windows="blocks")
    other = tmp_path / "other.safetensors"
    save(other, tiny_txe(), {"data": {"token_stride": 2.0, "backbone_sha256": "c0ffee00ff"}})
    with pytest.raises(KuleshovError, match="backbone c0ffee00, these are of backbone unknown: .*--allow-other-back"):
        run(other, folder, tmp_path / "out2")
    assert run(other, folder, tmp_path / "out2", allow_other_backbone=True).movies == 30
    save(other, tiny_txe(), {})
    with pytest.raises(FormatError, match="does not say at which stride it was trained: give --token-stride"):
        run(other, folder, tmp_path / "out3")
