"""Kinetics' layouts, and what is said of broken lists."""

import pytest

from kuleshov.core.errors import FormatError, MissingDataError
from kuleshov.datasets.kinetics import check, read_kinetics, read_list


@pytest.fixture
def root(tmp_path):
    for name in ("clips/a.mp4", "clips/b c.mp4", "clips/d,e.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path


def rows(split):
    return [(video.id, video.label) for video in split.videos]


@pytest.mark.parametrize("separator", [" ", ",", "\t", ", ", "   "])
def test_pyslowfast_lists(root, separator):
    names = ["clips/a.mp4", "clips/b c.mp4", "clips/d,e.mp4"]
    (root / "train.csv").write_text("".join(f"{name}{separator}{i}\n" for i, name in enumerate(names)))
    split = read_kinetics(root, "train")
    assert rows(split) == [("clips/a", 0), ("clips/b c", 1), ("clips/d,e", 2)]
    assert split.videos[1].path == root / "clips" / "b c.mp4"
    assert split.missing == [] and split.classes == []


def test_lists_as_pandas_writes_them(root):
    (root / "a b.mp4").write_bytes(b"x")
    for line in ('"a b.mp4" 3', '"a b.mp4",3', '"a b.mp4"\t3', '"a b.mp4", "3"', "a b.mp4 3"):
        (root / "train.csv").write_text(f"\ufeff{line}\r\n")
        (video,) = read_kinetics(root).videos
        assert (video.id, video.label) == ("a b", 3)


def test_linked_class_folders_are_read(tmp_path):
    for name in ("juggling/a.mp4", "zumba/b.mp4"):
        path = tmp_path / "store" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    (tmp_path / "train").mkdir()
    for name in ("juggling", "zumba"):
        (tmp_path / "train" / name).symlink_to(tmp_path / "store" / name, target_is_directory=True)
    found = read_kinetics(tmp_path)
    assert [(video.id, video.label) for video in found.videos] == [("juggling/a", 0), ("zumba/b", 1)]


def test_one_column_prefix_and_absolute_paths(root):
    (root / "lists").mkdir()
    (root / "lists" / "train.txt").write_text(f"a.mp4\n{root}/clips/b c.mp4\n")
    split = read_kinetics(root / "lists", "train", prefix=root / "clips")
    assert [video.label for video in split.videos] == [None, None]
    assert split.videos[0].path == root / "clips" / "a.mp4"


def test_class_names_beside_the_list(root):
    (root / "val.csv").write_text("clips/a.mp4 1\n")
    (root / "classes.txt").write_text("push\nfall\n")
    assert read_kinetics(root, "val").classes == ["push", "fall"]
    (root / "classes.txt").write_text("push\n")
    with pytest.raises(FormatError, match="1 classes are named, but the list has label 1"):
        read_kinetics(root, "val")


def test_missing_files_are_counted_and_named(root, caplog):
    (root / "train.csv").write_text("clips/a.mp4 0\nclips/gone.mp4 1\n")
    with caplog.at_level("WARNING"):
        split = read_kinetics(root, "train")
    assert split.missing == ["clips/gone.mp4"] and len(split.videos) == 1
    assert "1 of 2 videos of" in caplog.text and "clips/gone.mp4" in caplog.text
    (root / "train.csv").write_text("gone/x.mp4 0\n")
    with pytest.raises(MissingDataError, match=r"any of the 1 videos of .*train\.csv not found.*first: gone/x\.mp4"):
        read_kinetics(root, "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clips/a.mp4 0\nclips/b c.mp4 push\n", r"train\.csv, record 2, field label: .*got 'clips/b c.mp4 push'"),
        ("clips/a.mp4 -1\n", r"record 1, field label: expected 'path label'.*got 'clips/a.mp4 -1'"),
        ("clips/a.mp4\nclips/b c.mp4 3\n", r"record 2, field path: .*the first line has a path alone"),
        ("clips/a.mp4 0\n\nclips/a.mp4 0\n", r"record 3, field path: clips/a.mp4 .* earlier line"),
        ("\n\n", "the list is empty"),
    ],
)
def test_broken_lists_are_told_with_line_and_value(root, text, message):
    (root / "train.csv").write_text(text)
    with pytest.raises(FormatError, match=message):
        read_kinetics(root, "train")


HEADER = "label,youtube_id,time_start,time_end,split\n"


def test_the_original_csv_finds_files_by_their_names(root):
    for name in ("train/abseiling/abc_-DEF123_000010_000020.mp4", "train/zumba/xyz_3_13.mkv"):
        path = root / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    (root / "train.csv").write_text(
        HEADER + 'zumba,xyz,3,13,train\nabseiling,abc_-DEF123,10,20,train\n"air, drumming",gone,0,10,train\n'
    )
    split = read_kinetics(root, "train")
    assert split.classes == ["abseiling", "air, drumming", "zumba"]
    assert rows(split) == [("xyz_3_13", 2), ("abc_-DEF123_000010_000020", 0)]
    assert split.missing == ["gone_000000_000010"]


def test_the_original_csv_numbers_classes_by_the_train_split(root):
    for name in ("a", "b", "c"):
        (root / f"{name}.mp4").write_bytes(b"x")
    (root / "train.csv").write_text(HEADER + "abseiling,a,0,10,train\nyoga,b,0,10,train\nzumba,c,0,10,train\n")
    (root / "val.csv").write_text(HEADER + "abseiling,a,0,10,val\nzumba,c,0,10,val\n")
    assert rows(read_kinetics(root, "train")) == [("a", 0), ("b", 1), ("c", 2)]
    assert rows(read_kinetics(root, "val")) == [("a", 0), ("c", 2)]
    (root / "val.csv").write_text(HEADER + "archery,a,0,10,val\n")
    with pytest.raises(FormatError, match=r"val\.csv, field label: class 'archery' .*train\.csv: add it"):
        read_kinetics(root, "val")


def test_broken_original_csv(root):
    (root / "train.csv").write_text(HEADER + "zumba,xyz,soon,13,train\n")
    with pytest.raises(FormatError, match=r"record 2, field time_start: .*whole, got 'soon'"):
        read_list(root / "train.csv")
    (root / "train.csv").write_text("label,youtube_id,time_start\n")
    with pytest.raises(FormatError, match="time_end is missing"):
        read_list(root / "train.csv")


def test_class_folders_keep_the_numbers_of_train(root):
    for name in ("train/fall/1.mp4", "train/push/2.mp4", "train/throw/3.mp4", "val/throw/4.mp4"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert rows(read_kinetics(root, "train")) == [("fall/1", 0), ("push/2", 1), ("throw/3", 2)]
    assert rows(read_kinetics(root, "val")) == [("throw/4", 2)]
    (root / "val" / "loose.mp4").write_bytes(b"x")
    with pytest.raises(FormatError, match=r"expected <class>/<video>.*: loose\.mp4"):
        read_kinetics(root, "val")


def test_no_split_tells_what_to_put_there(root):
    with pytest.raises(MissingDataError, match=r"Kinetics split test not found.*put a list test\.csv"):
        read_kinetics(root, "test")


def test_check_reports_each_split(tmp_path, write_clip):
    write_clip(tmp_path / "a.mp4", 3)
    write_clip(tmp_path / "b.mp4", 1)
    (tmp_path / "c.mp4").write_bytes(b"broken")
    (tmp_path / "train.csv").write_text("a.mp4 0\nb.mp4 1\nc.mp4 1\ngone.mp4 0\n")
    (tmp_path / "val.csv").write_text("a.mp4 0\n")
    splits = check(tmp_path)["splits"]
    assert list(splits) == ["train", "val"]
    train = splits["train"]
    assert (train["listed"], train["there"], train["readable"], train["missing"]) == (4, 3, 2, ["gone.mp4"])
    assert list(train["short"]) == [str(tmp_path / "b.mp4")]
    assert list(check(tmp_path / "val.csv")["splits"]) == ["train"]
    with pytest.raises(MissingDataError, match="list of videos not found at .*nowhere"):
        check(tmp_path / "nowhere")


def test_the_generated_world_is_read(tiny_world):
    train, val = (read_kinetics(tiny_world / "kinetics", split) for split in ("train", "val"))
    assert train.missing == val.missing == []
    assert {video.label for video in train.videos} <= set(range(len(train.classes)))
