import dataclasses
import json
from pathlib import Path

import pytest

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError
from kuleshov.core.files import sha256_ids
from kuleshov.datasets.lvu import LVU_TASKS, Lvu
from kuleshov.tasks.lvu.evaluate_lvu import evaluate_lvu, write_predictions

LABELS = {
    "year": {
        "train": ["0 1930 a0 t", "0 1930 a1 t", "8 2010 a2 t"],
        "test": ["0 1930 b0 t", "8 2010 b1 t", "8 2010 b2 t"],
    },
    "view_count": {"train": ["1000 a0 t"], "test": ["1000 b0 t", "100000 b1 t"]},
}


@pytest.fixture
def root(tmp_path):
    for task, splits in LABELS.items():
        for split in ("train", "val", "test"):
            path = tmp_path / "lvu_1.0" / task / f"{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join([" ".join(LVU_TASKS[task].columns), *splits.get(split, [])]) + "\n")
    return tmp_path


def predictions(root: Path, text: str) -> Path:
    path = root / "predictions.csv"
    path.write_text(text)
    return path


def test_class_ids_and_names_score_alike(root):
    for text in ("video_id,prediction\nb0,0\nb1,8\nb2,0\n", "b2,1930\nb0,1930\nb1,2010\n", "\ufeffb0,0\nb1,8\nb2,0\n"):
        result = evaluate_lvu("year", predictions(root, text), root)
        assert result.metrics["top1"] == pytest.approx(200 / 3)
        assert result.metrics["balanced_top1"] == pytest.approx(75.0)
        assert result.trivial["top1"] == pytest.approx(100 / 3)
        assert (result.n, result.of, result.beats_trivial) == (3, 3, True)
        assert result.sample_ids_sha256 == sha256_ids(["b0", "b1", "b2"])


def test_a_regression_is_scored_in_centered_units(root):
    labels = {row.video_id: row.label for row in Lvu(root).rows("view_count", "test")}
    lines = "".join(f"{video},{label + 0.5}\n" for video, label in labels.items())
    result = evaluate_lvu("view_count", predictions(root, lines), root)
    assert result.metrics["mse"] == pytest.approx(0.25)
    assert result.trivial["mse"] == pytest.approx(sum(label**2 for label in labels.values()) / 2)


def test_missing_movies_are_refused_unless_allowed(root):
    path = predictions(root, "b0,0\nzz,3\n")
    with pytest.raises(KuleshovError, match=r"2 of the 3 movies of year test have no prediction \(first b1\)"):
        evaluate_lvu("year", path, root)
    result = evaluate_lvu("year", path, root, allow_missing=True)
    assert (result.n, result.of, result.metrics["top1"]) == (1, 3, 100.0)


@pytest.mark.parametrize(
    ("task", "text", "said"),
    [
        ("year", "b0,0\nb0,1\n", "record 2, field video_id: video b0 occurs twice"),
        ("year", "b0\n", "record 1: 'video_id,prediction' expected, found 'b0'"),
        ("year", "b0,\n", "record 1: 'video_id,prediction' expected"),
        (
            "year",
            "b0,1995\n",
            r"field prediction: year has no class '1995': an id from 0 to 8 or a name \(1930, 2010\)",
        ),
        ("year", "b0,1.5\n", "year has no class '1.5'"),
        ("view_count", "b0,nan\n", "record 1, field prediction: a finite number expected, found 'nan'"),
    ],
)
def test_a_broken_prediction_is_named(root, task, text, said):
    with pytest.raises(FormatError, match=said):
        evaluate_lvu(task, predictions(root, text), root)


def test_other_mistakes_are_one_line(root):
    with pytest.raises(MissingDataError, match="predictions not found at .*nowhere.csv"):
        evaluate_lvu("year", root / "nowhere.csv", root)
    with pytest.raises(KuleshovError, match="no LVU task is called 'years': did you mean year"):
        evaluate_lvu("years", root / "nowhere.csv", root)


def test_the_result_prints_a_table_and_warns_about_a_collapsed_answer(root, capsys):
    result = evaluate_lvu("year", predictions(root, "b0,0\nb1,0\nb2,0\n"), root)
    assert json.loads(json.dumps(dataclasses.asdict(result)))["predicted_classes"] == 1
    out, err = capsys.readouterr()
    assert not out and "year" in err and "trivial" in err and "0" in err
    assert "3 of 3 movies" in str(result) and "33.3333" in str(result)


def test_written_predictions_are_read_back(root):
    path = root / "out" / "year.csv"
    write_predictions(path, {"b1": 8, "b0": 0, "b2": 8})
    assert path.read_text().splitlines() == ["video_id,prediction", "b0,0", "b1,8", "b2,8"]
    assert evaluate_lvu("year", path, root).metrics["top1"] == 100.0


def test_constant_predictions_on_the_real_files(real_data, tmp_path):
    root = real_data / "lvu"
    for task, expected in (("relationship", 52.38), ("director", 41.12), ("like_ratio", 0.61), ("view_count", 4.09)):
        rows = Lvu(root).rows(task, "test")
        path = tmp_path / f"{task}.csv"
        write_predictions(path, {row.video_id: 0 for row in rows})
        result = evaluate_lvu(task, path, root)
        assert round(result.metrics[LVU_TASKS[task].metric], 2) == expected
        assert result.metrics == result.trivial and not result.beats_trivial
