"""`kuleshov import-features` and `export-features`: others' features in, ours out."""

import numpy as np
import pytest

from kuleshov.cli import main
from kuleshov.features.event_store import EventStore


@pytest.fixture
def vidsitu_features(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        np.save(tmp_path / f"v_abc_seg_{number}0_{number + 1}0_feats.npy", rng.random((5, 4), dtype=np.float32))
    return tmp_path


def test_vidsitus_features_there_and_back(vidsitu_features, tmp_path, capsys):
    store, back = tmp_path / "store", tmp_path / "back"
    assert main(["import-features", str(vidsitu_features), "--vidsitu", "--output", str(store)]) == 0
    assert capsys.readouterr().out == f"3 movies, 15 events of width 4 in {store}\n"
    assert EventStore(store).times("v_abc_seg_10_20") == pytest.approx([0.0, 2.0, 4.0, 6.0, 8.0])
    assert main(["export-features", str(store), "--vidsitu", "--output", str(back)]) == 0
    assert capsys.readouterr().out == f"3 files in {back}\n"
    for path in vidsitu_features.glob("*_feats.npy"):
        np.testing.assert_array_equal(np.load(path), np.load(back / path.name))


def test_plain_features_need_their_time_grid(tmp_path, capsys):
    np.save(tmp_path / "movie.npy", np.ones((7, 3), dtype=np.float32))
    store = tmp_path / "store"
    assert main(["import-features", str(tmp_path), "--output", str(store)]) == 2
    assert capsys.readouterr().err == (
        "error: .npy files do not say when their events are: give --stride SECONDS, or --vidsitu\n"
    )
    assert main(["import-features", str(tmp_path), "--output", str(store), "--stride", "1"]) == 0
    assert main(["export-features", str(store), "--output", str(tmp_path / "plain")]) == 0
    assert np.load(tmp_path / "plain" / "movie.npy").shape == (7, 3)
    assert EventStore(store).times("movie")[-1] == pytest.approx(6.0)
