"""What of VidSitu is on disk, and what of it another data set holds too.

A video that was seen in pretraining on LVU cannot be evaluated on fairly: the paper leaves out "241 videos", which
are the source videos that VidSitu's valid split shares with LVU (441 of its 1,324 segments; 883 remain).
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.core.files import sha256_ids, write_json
from kuleshov.datasets.lvu import Lvu
from kuleshov.datasets.vidsitu import SPLITS, VidSitu
from kuleshov.datasets.vidsitu_format import parse_segment


def check(
    root: str | Path,
    against: Mapping[str, str | Path] | None = None,
    video_root: str | Path | None = None,
    write_split: str | Path | None = None,
    split: str = "valid",
) -> dict[str, Any]:
    """Count segments, annotations and videos, and the overlap with other data sets.

    Args:
        root: root of VidSitu's annotations.
        against: data set name (`lvu`, `vidsitu`) -> its root.
        video_root: folder of the videos; `videos/` under the root by default.
        write_split: where to write the segments of `split` that no other data set holds, as a split file for
            `kuleshov evaluate --split-file`.
        split: the split that is compared.

    Returns:
        `splits` (name -> `segments`, `sources`, `annotated`, `with_verbs`, `videos`, `missing_videos`), `overlap`
        (data set -> see `overlap`), and `reduced_split` where one was written.

    Raises:
        KuleshovError: no split is there, or a data set that cannot be compared.
    """
    data = VidSitu(root)
    splits = {name: found for name in SPLITS if (found := _summary(data, name, video_root)) is not None}
    if not splits:
        raise MissingDataError("VidSitu's split files", Path(root).absolute(), "check --root")
    report: dict[str, Any] = {"root": str(root), "splits": splits, "overlap": {}}
    if not against:
        return report
    segments = data.segments(split)
    remaining = list(segments)
    for name, other in against.items():
        report["overlap"][name] = overlap(segments, sources_of(name, other))
        shared = set(report["overlap"][name]["shared"])
        remaining = [segment for segment in remaining if segment not in shared]
    if write_split is not None:
        write_json(write_split, remaining)
        report["reduced_split"] = {
            "path": str(write_split),
            "segments": len(remaining),
            "sample_ids_sha256": sha256_ids(remaining),
        }
    return report


def overlap(segments: Collection[str], sources: Collection[str]) -> dict[str, Any]:
    """Segments whose source video is among `sources`.

    Returns:
        `videos` and `segments` that are shared, `remaining_videos` and `remaining_segments`, the shared segments
        (`shared`), and `videos_sha256` of the shared sources' ids.
    """
    sources = set(sources)
    source_of = {segment: parse_segment(segment).source for segment in segments}
    shared = [segment for segment in segments if source_of[segment] in sources]
    videos = {source_of[segment] for segment in shared}
    return {
        "videos": len(videos),
        "segments": len(shared),
        "remaining_videos": len(set(source_of.values()) - videos),
        "remaining_segments": len(segments) - len(shared),
        "videos_sha256": sha256_ids(videos),
        "shared": shared,
    }


def sources_of(name: str, root: str | Path) -> set[str]:
    """Ids of a data set's source videos.

    Raises:
        KuleshovError: a data set other than `lvu` and `vidsitu` (whose training split is meant).
    """
    if name == "lvu":
        return set(Lvu(root).video_ids())
    if name == "vidsitu":
        return {parse_segment(segment).source for segment in VidSitu(root).segments("train")}
    raise KuleshovError(f"VidSitu can be compared with lvu or vidsitu, not {name!r}")


def _summary(data: VidSitu, split: str, video_root: str | Path | None) -> dict[str, int] | None:
    """Counts of one split, None where its split file is not there."""
    try:
        segments = data.segments(split)
    except MissingDataError:
        return None
    annotated = set(data.annotations(split)) if data.has(split) else set()
    # only valid has verbs of many annotators; the test splits' are withheld
    verbs = set(data.verbs(split)) if split == "valid" and data.has_verbs(split) else annotated
    counts = {
        "segments": len(segments),
        "sources": len({parse_segment(segment).source for segment in segments}),
        "annotated": len(annotated & set(segments)),
        "with_verbs": len(verbs & set(segments)),
    }
    missing = len(data.missing(split, video_root))
    return counts | {"videos": len(segments) - missing, "missing_videos": missing}
