import math
from pathlib import Path

import pytest

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError
from kuleshov.datasets.lvu import LVU_TASKS, Lvu, check, find_lvu_task, read_rows

# methods' table: classes that occur, train/val/test rows, trivial score, best constant, films apart
PUBLISHED = {
    "relationship": (4, (149, 53, 42), 52.38, 52.38, False),
    "way_speaking": (5, (939, 205, 201), 26.87, 29.35, False),
    "scene": (6, (557, 120, 86), 26.74, 26.74, False),
    "director": (8, (680, 163, 107), 41.12, 41.12, True),
    "writer": (7, (769, 174, 168), 5.36, 40.48, True),
    "year": (9, (770, 165, 143), 8.39, 17.48, True),
    "genre": (4, (3063, 597, 647), 21.17, 27.36, True),
    "like_ratio": (0, (658, 142, 140), 0.6056, 0.604, False),
    "view_count": (0, (577, 124, 126), 4.0895, 4.073, False),
}


def write(root: Path, task: str, split: str, lines: list[str], header: str | None = None) -> Path:
    path = root / "lvu_1.0" / task / f"{split}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header or " ".join(LVU_TASKS[task].columns), *lines]) + "\n")
    return path


@pytest.fixture
def small(tmp_path):
    write(tmp_path, "writer", "train", ["0 \\N aaaaaaaaaaa tt1", "0 \\N bbbbbbbbbbb tt1", "5 nm2 -_ccccccccc tt2"])
    write(tmp_path, "writer", "val", ["5 nm2 ddddddddddd tt3"])
    write(tmp_path, "writer", "test", ["0 \\N eeeeeeeeeee tt4", "9 nm3 fffffffffff tt5"])
    return tmp_path


def test_nine_tasks_with_their_kinds_and_directions():
    assert len(LVU_TASKS) == 9
    assert [t.classes for t in LVU_TASKS.values()] == [4, 5, 6, 10, 10, 9, 4, 0, 0]
    assert [t.metric for t in LVU_TASKS.values()] == ["top1"] * 7 + ["mse"] * 2
    assert LVU_TASKS["genre"].higher_is_better and not LVU_TASKS["view_count"].higher_is_better
    assert LVU_TASKS["view_count"].outputs == 1


def test_rows_keep_sparse_ids_and_the_null_class(small):
    lvu = Lvu(small)
    rows = lvu.rows("writer", "train")
    assert [row.label for row in rows] == [0, 0, 5]
    assert rows[0].class_name == "\\N" and rows[2].video_id == "-_ccccccccc" and rows[2].imdb_id == "tt2"
    assert lvu.class_names("writer") == {0: "\\N", 5: "nm2", 9: "nm3"}


def test_task_folders_may_lie_in_the_root_itself(small):
    assert len(Lvu(small / "lvu_1.0").rows("writer", "test")) == 2


def test_labels_are_centered_by_the_official_constants(tmp_path):
    write(tmp_path, "like_ratio", "train", ["75 25 aaaaaaaaaaa tt1"])
    write(tmp_path, "view_count", "train", ["1000 aaaaaaaaaaa tt1"])
    lvu = Lvu(tmp_path)
    assert lvu.rows("like_ratio", "train")[0].label == pytest.approx(7.5 - 9.138220535629456, abs=1e-12)
    assert lvu.rows("view_count", "train")[0].label == pytest.approx(math.log(1000) - 11.76425435683139, abs=1e-12)


def test_videos_are_found_in_any_container_and_missing_ones_are_named(small):
    (small / "videos").mkdir()
    for name in ("aaaaaaaaaaa.mp4", "-_ccccccccc.webm", "bbbbbbbbbbb.txt", "unrelated.mp4"):
        (small / "videos" / name).touch()
    present, missing = Lvu(small).videos(["writer"], ["train"])
    assert {video.id: video.path.suffix for video in present} == {"aaaaaaaaaaa": ".mp4", "-_ccccccccc": ".webm"}
    assert missing == ["bbbbbbbbbbb"]
    report = check(small)
    assert report["tasks"]["writer"]["splits"]["train"] == {
        "rows": 3,
        "present": 2,
        "missing": 1,
        "classes": {"\\N": 2, "nm2": 1, "nm3": 0},
    }
    assert report["tasks"]["writer"]["classes_without_training"] == ["nm3"]
    assert report["movies"] == 6 and report["movies_present"] == 2
    assert "genre" in report["missing_tasks"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("genres", "genre"), ("Director", "director"), ("speaking", "way_speaking"), ("veiw_count", "view_count")],
)
def test_a_misspelt_task_is_answered_with_the_nearest(typed, meant):
    with pytest.raises(KuleshovError, match=f"no LVU task is called '{typed}': did you mean {meant}\\?"):
        find_lvu_task(typed)


def test_a_nonsense_task_is_answered_with_the_list():
    with pytest.raises(KuleshovError, match="no LVU task is called 'zzz': The tasks are relationship, way_speaking"):
        find_lvu_task("zzz")


@pytest.mark.parametrize(
    ("task", "lines", "header", "said"),
    [
        ("genre", ["0 Comedy aaaaaaaaaaa"], None, r"train.csv, record 2: 4 columns expected .*found 3"),
        ("genre", ["0 C a tt1", "x C b tt1"], None, r"record 3, field class_id: a whole number expected, found 'x'"),
        ("genre", ["7 Comedy a tt1"], None, r"record 2, field class_id: class id 7, but genre has ids 0 to 3"),
        ("genre", ["0 C a tt1", "0 C a tt1"], None, r"record a, field youtube_id: video a occurs twice"),
        ("genre", ["0 C a tt1", "0 D b tt1"], None, r"class id 0 has two names, 'C' and 'D'"),
        (
            "genre",
            ["0 C a tt1"],
            "class,name",
            r"record 1: the header must be 'class_id class_name youtube_id imdb_id'",
        ),
        ("like_ratio", ["0 0 a tt1"], None, r"record 2: like_count \+ dislike_count is 0"),
        ("view_count", ["0 a tt1"], None, r"record 2: view_count is 0"),
        ("view_count", ["5 6 a tt1"], None, r"record 2: 3 columns expected .*found 4"),
        ("view_count", ["-5 a tt1"], None, r"record 2, field view_count: a whole number expected, found '-5'"),
    ],
)
def test_a_broken_line_is_named(tmp_path, task, lines, header, said):
    path = write(tmp_path, task, "train", lines, header)
    with pytest.raises(FormatError, match=said):
        read_rows(path, LVU_TASKS[task])


def test_a_byte_order_mark_and_carriage_returns_are_no_faults(small):
    path = small / "lvu_1.0" / "writer" / "train.csv"
    rows = read_rows(path, LVU_TASKS["writer"])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read_rows(path, LVU_TASKS["writer"]) == rows
    path.write_bytes(b"\xff" + path.read_bytes())
    with pytest.raises(FormatError, match="train.csv: not UTF-8 text"):
        read_rows(path, LVU_TASKS["writer"])


def test_missing_annotations_say_how_to_get_them(tmp_path):
    with pytest.raises(MissingDataError, match="LVU's annotations not found at .*lvu_1.0.*kuleshov world"):
        Lvu(tmp_path)
    write(tmp_path, "genre", "train", [])
    with pytest.raises(MissingDataError, match="LVU's genre val split not found at .*val.csv"):
        Lvu(tmp_path).rows("genre", "val")
    with pytest.raises(KuleshovError, match="LVU has the splits train, val, test, not 'valid'"):
        Lvu(tmp_path).rows("genre", "valid")


def test_the_real_files_give_the_published_figures(real_data):
    report = check(real_data / "lvu")
    assert set(report["tasks"]) == set(PUBLISHED)
    for name, (classes, sizes, trivial, best, disjoint) in PUBLISHED.items():
        task = report["tasks"][name]
        assert tuple(task["splits"][split]["rows"] for split in ("train", "val", "test")) == sizes, name
        assert len(task["splits"]["train"]["classes"]) == classes, name
        digits = 2 if task["kind"] == "classification" else 4
        assert round(task["trivial"]["score"], digits) == trivial, name
        assert round(task["trivial"]["best_constant_score"], 2 if classes else 3) == best, name
        assert task["movie_disjoint"] is disjoint, name
    assert report["movies"] == 9996
    assert [record["task"] for record in report["table"]] == list(PUBLISHED)
    assert report["table"][0]["trivial (test)"] == "52.38"


def test_the_real_labels_are_centered(real_data):
    lvu = Lvu(real_data / "lvu")
    for task in ("like_ratio", "view_count"):
        labels = [row.label for split in ("train", "val", "test") for row in lvu.rows(task, split)]
        assert abs(sum(labels) / len(labels)) < 0.1


def test_the_generated_world_is_read_by_the_same_loader(tiny_world):
    report = check(tiny_world / "lvu")
    assert set(report["tasks"]) == set(PUBLISHED) and not report["missing_tasks"]
    assert report["movies"] == report["movies_present"] > 0
    for task in report["tasks"].values():
        assert task["movie_disjoint"]
        assert all(split["missing"] == 0 for split in task["splits"].values())
