"""What of VidSitu is there, and what LVU holds too."""

import json

import pytest

from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.datasets.vidsitu import VidSitu, check, overlap

SEGMENTS = ["v_aaaaaaaaaaa_seg_0_10", "v_aaaaaaaaaaa_seg_10_20", "v_bb-bb_bbbbb_seg_0_10"]


@pytest.fixture
def roots(tmp_path):
    (tmp_path / "vidsitu" / "videos").mkdir(parents=True)
    (tmp_path / "vidsitu" / "vseg_split_valid_lb.json").write_text(json.dumps(SEGMENTS))
    (tmp_path / "vidsitu" / "videos" / "bb-bb_bbbbb.mp4").touch()
    task = tmp_path / "lvu" / "lvu_1.0" / "view_count"
    task.mkdir(parents=True)
    for split in ("train", "val", "test"):
        (task / f"{split}.csv").write_text("view_count youtube_id imdb_id\n")
    (task / "test.csv").write_text("view_count youtube_id imdb_id\n12 aaaaaaaaaaa tt1\n")
    return tmp_path


def test_overlap_counts_segments_and_sources():
    found = overlap(SEGMENTS, {"aaaaaaaaaaa", "ccccccccccc"})
    assert (found["videos"], found["segments"]) == (1, 2)
    assert (found["remaining_videos"], found["remaining_segments"]) == (1, 1)
    assert found["shared"] == SEGMENTS[:2]


def test_check_counts_and_writes_the_reduced_split(roots):
    report = check(roots / "vidsitu", {"lvu": roots / "lvu"}, write_split=roots / "reduced.json")
    assert report["splits"]["valid"] == {
        "segments": 3,
        "sources": 2,
        "annotated": 0,
        "with_verbs": 0,
        "videos": 0,
        "padded": 0,
        "missing_videos": 3,
    }
    assert VidSitu(roots / "vidsitu").segments("valid", roots / "reduced.json") == SEGMENTS[2:]
    assert report["reduced_split"]["segments"] == 1


def test_segments_that_are_not_in_their_files_are_missing(roots, write_clip):
    segments = [
        f"v_{source}_seg_{begin}_{begin + 10}" for source in ("whole-00000", "short-00000") for begin in (0, 60)
    ]
    segments += ["v_almost-0000_seg_0_10", "v_broken-0000_seg_0_10", "v_absent-0000_seg_0_10"]
    (roots / "vidsitu" / "vseg_split_valid_lb.json").write_text(json.dumps(segments))
    videos = roots / "vidsitu" / "videos"
    for name, frames in (("whole-00000", 560), ("short-00000", 32), ("v_almost-0000_seg_0_10", 79)):
        write_clip(videos / f"{name}.mp4", frames / 8)
    (videos / "broken-0000.mp4").write_text("no video")
    report = check(roots / "vidsitu")
    missing, padded = report["missing"]["valid"], report["padded"]["valid"]
    assert list(missing) == [segments[2], segments[3], segments[5]]
    assert missing[segments[3]] == "60 to 70 s are not in it: it ends at 4.00 s"
    assert padded == {segments[4]: "its file ends 0.12 s before it"}
    counts = report["splits"]["valid"]
    assert (counts["videos"], counts["padded"], counts["missing_videos"]) == (3, 1, 4)
    assert any(segments[3] in note for note in report["notes"])


def test_what_cannot_be_compared(roots):
    with pytest.raises(KuleshovError, match="VidSitu can be compared with lvu or vidsitu, not 'k400'"):
        check(roots / "vidsitu", {"k400": roots})
    with pytest.raises(MissingDataError, match="VidSitu's split files"):
        check(roots / "lvu")
