"""`kuleshov import-features` and `export-features`: others' features in, ours out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kuleshov.core.errors import FormatError, MissingDataError, StoreError, UsageError
from kuleshov.features.feature_store import EventStore
from kuleshov.features.npy import export_features, import_features
from kuleshov.features.store_writer import StoreWriter

SEGMENTS = ("v_abcdefghijk_seg_0_10", "v_-_cdefghijk_seg_10_20")


def arrays(folder: Path, suffix: str = "_feats", rows: int = 5) -> dict[str, np.ndarray]:
    folder.mkdir()
    made = {name: np.random.default_rng(i).random((rows, 4), dtype=np.float32) for i, name in enumerate(SEGMENTS)}
    for name, array in made.items():
        np.save(folder / f"{name}{suffix}.npy", array)
    return made


def test_vidsitus_files_come_and_go_unchanged(tmp_path: Path, command):
    made = arrays(tmp_path / "in")
    summary = command(import_features, "--folder", tmp_path / "in", "--output", tmp_path / "s", "--vidsitu", "true")
    assert (summary.rows, summary.movies, summary.of, summary.missing) == (10, 2, 2, [])
    store = EventStore(tmp_path / "s")
    assert set(store.movie_ids) == set(SEGMENTS) and store.times(SEGMENTS[0]) == [0.0, 2.0, 4.0, 6.0, 8.0]
    words = ("--store", tmp_path / "s", "--output", tmp_path / "out", "--vidsitu", "true")
    assert command(export_features, *words).movies == 2
    for name, array in made.items():
        assert (np.load(tmp_path / "out" / f"{name}_feats.npy") == array).all()


def test_a_finer_grid_is_thinned_for_vidsitu(tmp_path: Path):
    made = arrays(tmp_path / "in", "", rows=9)
    with pytest.raises(UsageError, match="--stride"):
        import_features(tmp_path / "in", tmp_path / "s")
    import_features(tmp_path / "in", tmp_path / "s", stride=1.0, start=3.0)
    assert EventStore(tmp_path / "s").times(SEGMENTS[1])[:2] == [3.0, 4.0]
    export_features(tmp_path / "s", tmp_path / "five", vidsitu=True)
    assert export_features(tmp_path / "s", tmp_path / "all").rows == 18
    for name, array in made.items():
        assert (np.load(tmp_path / "five" / f"{name}_feats.npy") == array[::2]).all()
        assert (np.load(tmp_path / "all" / f"{name}.npy") == array).all()


def test_an_interrupted_import_goes_on(tmp_path: Path):
    arrays(tmp_path / "in")
    import_features(tmp_path / "in", tmp_path / "s", vidsitu=True)
    before = (tmp_path / "s" / "index.json").read_bytes()
    import_features(tmp_path / "in", tmp_path / "s", vidsitu=True)
    assert (tmp_path / "s" / "index.json").read_bytes() == before
    with pytest.raises(StoreError, match=r"was written with stride=2\.0, now it is 1\.0"):
        import_features(tmp_path / "in", tmp_path / "s", vidsitu=True, stride=1.0)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 3), np.float32), r"bad_feats\.npy: has width 3, v_.*_feats\.npy has 4"),
        (np.zeros(5, np.float32), r"bad_feats\.npy: holds float32 \(5,\)"),
        (np.array([["a"]]), r"bad_feats\.npy: holds <U1 \(1, 1\)"),
        (np.array([[{}]], dtype=object), r"bad_feats\.npy: is no plain \.npy array"),
        (np.full((5, 4), np.nan, np.float32), r"bad_feats\.npy: holds values that are not finite"),
    ],
)
def test_other_files_are_refused(array: np.ndarray, message: str, tmp_path: Path):
    arrays(tmp_path / "in")
    np.save(tmp_path / "in" / "v_zzz_bad_feats.npy", array, allow_pickle=True)
    with pytest.raises((FormatError, StoreError), match=message):
        import_features(tmp_path / "in", tmp_path / "s", vidsitu=True)


def test_no_files_is_an_error(tmp_path: Path):
    with pytest.raises(MissingDataError, match=r"\*_feats\.npy files not found"):
        import_features(tmp_path, tmp_path / "s", vidsitu=True)


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside"])
def test_a_movies_name_never_leads_outside_the_folder(name: str, tmp_path: Path):
    with StoreWriter(tmp_path / "s", 4, 2.0, 2.0, "fp32") as writer:
        for movie in writer.begin([name]):
            writer.add(movie, torch.zeros(5, 4))
        writer.finish()
    with pytest.raises(StoreError, match="outside' would be written outside .*out"):
        export_features(tmp_path / "s", tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-5, 4), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (5, 4), }",
        "[1, 2]",
        "(" * 9000,
        "{'descr': '<f4', 'fortran_order': 3, 'shape': 'x', }",
    ],
)
def test_an_absurd_header_is_one_line(header: str, tmp_path: Path):
    arrays(tmp_path / "in")
    text = header.encode() + b"\n"
    path = tmp_path / "in" / "v_zzz_bad_feats.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(80))
    with pytest.raises(FormatError, match=r"bad_feats\.npy: is no plain \.npy array"):
        import_features(tmp_path / "in", tmp_path / "s", vidsitu=True)


@pytest.mark.parametrize(
    "options", [{"stride": 0.0}, {"stride": float("nan")}, {"window": 0.0}, {"start": float("inf")}]
)
def test_impossible_grids_are_refused(options: dict, tmp_path: Path):
    arrays(tmp_path / "in")
    with pytest.raises(UsageError, match="^--(stride|window|start) has to be"):
        import_features(tmp_path / "in", tmp_path / "s", **{"stride": 2.0, **options}, suffix="_feats")


def test_files_below_other_folders_come_back_and_others_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with StoreWriter(tmp_path / "s", 4, 2.0, 2.0, "fp32") as writer:
        writer.begin(["a", "deep/er/a"])
        for number, name in enumerate(("a", "deep/er/a")):
            writer.add(name, torch.full((5, 4), float(number)))
        writer.finish()
    export_features(tmp_path / "s", tmp_path / "out", vidsitu=True)
    np.save(tmp_path / "out" / "other.npy", np.zeros((5, 4)))
    with pytest.raises(FormatError, match="a is in .*a_feats.npy too: leave one of them out"):
        import_features(tmp_path / "out", tmp_path / "again", vidsitu=True)
    found = import_features(tmp_path / "out", tmp_path / "again", stride=2.0, suffix="_feats")
    assert found.movies == 2 and "1 .npy files" in caplog.text and "other.npy" in caplog.text
    assert torch.equal(EventStore(tmp_path / "again")["deep/er/a"], EventStore(tmp_path / "s")["deep/er/a"])
    np.save(tmp_path / "out" / "deep" / "er" / "a_feats.npy", np.zeros((7, 4)))
    (tmp_path / "out" / "a_feats.npy").unlink()
    with pytest.raises(FormatError, match="has 7 events, not 5"):
        import_features(tmp_path / "out", tmp_path / "third", vidsitu=True)
