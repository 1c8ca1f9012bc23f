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
        "videos": 1,
        "missing_videos": 2,
    }
    assert VidSitu(roots / "vidsitu").segments("valid", roots / "reduced.json") == SEGMENTS[2:]
    assert report["reduced_split"]["segments"] == 1


def test_what_cannot_be_compared(roots):
    with pytest.raises(KuleshovError, match="VidSitu can be compared with lvu or vidsitu, not 'k400'"):
        check(roots / "vidsitu", {"k400": roots})
    with pytest.raises(MissingDataError, match="VidSitu's split files"):
        check(roots / "lvu")
