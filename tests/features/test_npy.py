"""Features from and to .npy files."""

from pathlib import Path

import numpy as np
import pytest

from kuleshov.core.errors import FormatError, MissingDataError, StoreError
from kuleshov.features.event_store import EventStore
from kuleshov.features.npy import export_npy, export_vidsitu, import_npy

SEGMENTS = ("v_abcdefghijk_seg_0_10", "v_-_cdefghijk_seg_10_20")


def arrays(folder: Path, suffix: str = "_feats", rows: int = 5) -> dict[str, np.ndarray]:
    folder.mkdir()
    made = {name: np.random.default_rng(i).random((rows, 4), dtype=np.float32) for i, name in enumerate(SEGMENTS)}
    for name, array in made.items():
        np.save(folder / f"{name}{suffix}.npy", array)
    return made


def test_vidsitus_files_come_and_go_unchanged(tmp_path: Path):
    made = arrays(tmp_path / "in")
    import_npy(tmp_path / "in", tmp_path / "s", window=2.0, stride=2.0, suffix="_feats")
    store = EventStore(tmp_path / "s")
    assert set(store.movie_ids) == set(SEGMENTS) and store.times(SEGMENTS[0]) == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert export_vidsitu(store, tmp_path / "out") == 2
    for name, array in made.items():
        assert (np.load(tmp_path / "out" / f"{name}_feats.npy") == array).all()


def test_a_finer_grid_is_thinned_for_vidsitu(tmp_path: Path):
    made = arrays(tmp_path / "in", "", rows=9)
    import_npy(tmp_path / "in", tmp_path / "s", window=2.0, stride=1.0, start=3.0, dtype="fp32")
    store = EventStore(tmp_path / "s")
    assert store.times(SEGMENTS[1])[:2] == [3.0, 4.0]
    export_vidsitu(store, tmp_path / "five")
    assert export_npy(store, tmp_path / "all") == 2
    for name, array in made.items():
        assert (np.load(tmp_path / "five" / f"{name}_feats.npy") == array[::2]).all()
        assert (np.load(tmp_path / "all" / f"{name}.npy") == array).all()


def test_an_interrupted_import_goes_on(tmp_path: Path):
    arrays(tmp_path / "in")
    import_npy(tmp_path / "in", tmp_path / "s", 2.0, 2.0, suffix="_feats")
    before = (tmp_path / "s" / "index.json").read_bytes()
    import_npy(tmp_path / "in", tmp_path / "s", 2.0, 2.0, suffix="_feats")
    assert (tmp_path / "s" / "index.json").read_bytes() == before
    with pytest.raises(StoreError, match=r"was written with stride=2\.0, now it is 1\.0"):
        import_npy(tmp_path / "in", tmp_path / "s", 2.0, 1.0, suffix="_feats")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 3), np.float32), r"bad_feats\.npy: has width 3, v_.*_feats\.npy has 4"),
        (np.zeros(5, np.float32), r"bad_feats\.npy: holds float32 \(5,\), expected numbers of shape \(N, D\)"),
        (np.array([["a"]]), r"bad_feats\.npy: holds <U1 \(1, 1\), expected numbers"),
        (np.array([[{}]], dtype=object), r"bad_feats\.npy: is no plain \.npy array"),
    ],
)
def test_other_files_are_refused(array: np.ndarray, message: str, tmp_path: Path):
    arrays(tmp_path / "in")
    np.save(tmp_path / "in" / "v_zzz_bad_feats.npy", array, allow_pickle=True)
    with pytest.raises(FormatError, match=message):
        import_npy(tmp_path / "in", tmp_path / "s", 2.0, 2.0, suffix="_feats")


def test_no_files_is_said(tmp_path: Path):
    with pytest.raises(MissingDataError, match=r"\*_feats\.npy files not found at .*: check the folder and suffix"):
        import_npy(tmp_path, tmp_path / "s", 2.0, 2.0, suffix="_feats")


def test_nan_features_are_not_imported(tmp_path: Path):
    arrays(tmp_path / "in")
    np.save(tmp_path / "in" / "v_nan_feats.npy", np.full((5, 4), np.nan, np.float32))
    with pytest.raises(StoreError, match=r"features of v_nan are not finite in fp32"):
        import_npy(tmp_path / "in", tmp_path / "s", 2.0, 2.0, suffix="_feats")
