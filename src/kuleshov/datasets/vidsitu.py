"""VidSitu: ten-second segments of movies with five two-second events, their verbs, roles and relations.

The official tree as published (`split_files/`, `vinfo_files/`, `vseg_ann_files/`, at the root or under
`vidsitu_annotations/`), or its files side by side in one folder. Videos are whole sources
(`<11-character id>.mp4`) or already cut segments (`v_<id>_seg_<start>_<end>.mp4`), in any container.
"""

import shutil
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError, UsageError, VideoError
from kuleshov.core.files import read_json, sha256_ids, write_json
from kuleshov.datasets import vidsitu_format
from kuleshov.datasets.file_check import examine_all
from kuleshov.datasets.lvu import Lvu
from kuleshov.datasets.sample import link_videos
from kuleshov.datasets.vidsitu_format import Annotation, parse_segment
from kuleshov.video.video_file import Video, videos_by_stem

VIDSITU_SPLITS = ("train", "valid", "testvb", "testsrl", "testevrel")
_ALIASES = {"val": "valid", "test_verb": "testvb", "test_srl": "testsrl", "test_evrel": "testevrel"}
_TREES = ("", "vidsitu_annotations", "data/vidsitu_annotations")
_NAMED = 10
_HOW = "see github.com/TheShadow29/VidSitu for the annotations, or write the generated world (`kuleshov world`)"


def canonical_split(name: str) -> str:
    """Official name of a split; `val`, `test_verb`, `test_srl` and `test_evrel` are understood.

    Raises:
        KuleshovError: no such split.
    """
    split = _ALIASES.get(name, name)
    if split not in VIDSITU_SPLITS:
        raise KuleshovError(f"VidSitu has the splits {', '.join(VIDSITU_SPLITS)}, not {name!r}")
    return split


class VidSitu:
    """The official tree: segments, verbs, roles, relations and videos by split.

    Args:
        root: folder that holds `split_files/`, `vinfo_files/` and `vseg_ann_files/` (or
            `vidsitu_annotations/` with these), or the files themselves.
        vocabulary: the official verb vocabulary pickle, where it is not in `vocab/` or `vsitu_vocab/`.

    Raises:
        MissingDataError: the folder is not there.
    """

    def __init__(self, root: str | Path, vocabulary: str | Path | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise MissingDataError("VidSitu's annotations", self.root.absolute(), _HOW)
        self._vocabulary_file = Path(vocabulary) if vocabulary is not None else None
        self._annotations: dict[str, dict[str, list[Annotation]]] = {}
        self._verbs: dict[str, dict[str, list[list[str]]]] = {}

    def segments(self, split: str, split_file: str | Path | None = None) -> list[str]:
        """Segment ids in the split's order; `ann_idx` of a prediction counts in this list.

        Args:
            split: name of the split.
            split_file: another list of the split's segment ids to take instead.

        Raises:
            FormatError: the other list has segments that the split has not: how many, and the first.
        """
        name = canonical_split(split)
        own = vidsitu_format.read_split(self._file("split_files", f"vseg_split_{name}_lb.json"))
        if split_file is None:
            return own
        listed, known = vidsitu_format.read_some(split_file), set(own)
        strange = [segment for segment in listed if segment not in known]
        if strange:
            reason = f"{len(strange)} of {len(listed)} segments are not in the split {name}: leave them or the list out"
            raise FormatError(split_file, reason, strange[0])
        return listed

    def annotations(self, split: str) -> dict[str, list[Annotation]]:
        """Segment id -> annotations (five events each) in file order; it may hold other segments too."""
        split = canonical_split(split)
        if split not in self._annotations:
            self._annotations[split] = vidsitu_format.read_annotations(self.annotation_file(split))
        return self._annotations[split]

    def annotation_file(self, split: str) -> Path:
        """The split's `vsann` file; the test splits' are called `..._noann_lb.json`."""
        split = canonical_split(split)
        return self._file("vseg_ann_files", f"vsann_{split}_lb.json", f"vsann_{split}_noann_lb.json")

    def verb_file(self, split: str) -> Path:
        """The split's `vinfo` file."""
        return self._file("vinfo_files", f"vinfo_{canonical_split(split)}_lb.json")

    def verbs(self, split: str) -> dict[str, list[list[str]]]:
        """Segment id -> five events -> verb ids, one per annotator: one on train, at least nine on valid."""
        split = canonical_split(split)
        if split not in self._verbs:
            if split == "train":
                annotations = self.annotations("train")
                vidsitu_format.require_verbs(self.annotation_file("train"), annotations)
                found = {segment: [[event.verb] for event in many[0]] for segment, many in annotations.items()}
            else:
                found = vidsitu_format.read_verbs(self.verb_file(split))
            self._verbs[split] = found
        return self._verbs[split]

    def roles(self, split: str) -> dict[str, list[Annotation]]:
        """Segment id -> annotations with role texts: the first annotator on train, all of them on valid.

        Raises:
            KuleshovError: the split's role texts are withheld.
        """
        split, path = canonical_split(split), self.annotation_file(split)
        found = self.annotations(split)
        if found and not any(event.arguments for many in found.values() for one in many for event in one):
            raise KuleshovError(f"{path}: {split} has no role texts (they are withheld)")
        vidsitu_format.require_verbs(path, found)
        return {segment: many[:1] if split == "train" else many for segment, many in found.items()}

    def relations(self, split: str) -> dict[str, list[list[str]]]:
        """Segment id -> annotators in file order -> relations of Ev1, Ev2, Ev4, Ev5 to Ev3.

        A relation that is not given reads `Null`; train has one annotator.

        Raises:
            KuleshovError: the split's relations are withheld.
        """
        split, absent = canonical_split(split), vidsitu_format.NO_RELATION_GIVEN
        places = [vidsitu_format.EVENTS.index(name) for name in vidsitu_format.RELATED_EVENTS]
        found = {
            segment: [[one[i].relation or absent for i in places] for one in many]
            for segment, many in self.annotations(split).items()
        }
        if found and all(label == absent for many in found.values() for one in many for label in one):
            raise KuleshovError(f"{self.annotation_file(split)}: {split} has no relations (they are withheld)")
        return {segment: many[:1] if split == "train" else many for segment, many in found.items()}

    def vocabulary_file(self) -> Path | None:
        """The official verb vocabulary pickle, None where there is none."""
        if self._vocabulary_file is not None:
            return self._vocabulary_file
        folders = [base / sub for base in (self.root, self.root.parent) for sub in ("vocab", "vsitu_vocab")]
        paths = [folder / "verb_id_vocab.pkl" for folder in [self.root, *folders]]
        return next((path for path in paths if path.is_file()), None)

    def vocabulary(self) -> list[str]:
        """Verb ids by falling frequency: the official vocabulary, or the training annotations' verbs.

        Raises:
            MissingDataError: neither is there.
        """
        path = self.vocabulary_file()
        if path is not None:
            return vidsitu_format.read_vocabulary(path)
        counts = Counter(event.verb for many in self.annotations("train").values() for event in many[0])
        return sorted(counts, key=lambda verb: (-counts[verb], verb))

    def known_verbs(self) -> set[str]:
        """Every verb id of the vocabulary and of the validation annotations that are there."""
        known: set[str] = set()
        if self.vocabulary_file() is not None or self.has("train"):
            known.update(self.vocabulary())
        if self.has("valid"):
            valid = self.annotations("valid").values()
            known.update(event.verb for many in valid for one in many for event in one)
        if self.has_verbs("valid"):
            known.update(verb for events in self.verbs("valid").values() for event in events for verb in event)
        return known

    def has(self, split: str) -> bool:
        """True where the split's `vsann` file is there."""
        return self._exists(self.annotation_file, split)

    def has_verbs(self, split: str) -> bool:
        """True where the split's `vinfo` file is there."""
        return self._exists(self.verb_file, split)

    def videos(self, split: str, video_root: str | Path | None = None) -> list[Video]:
        """Videos of the split's segments that are on disk, in split order.

        A whole source gives its span of seconds, a cut segment file the span from 0 on.

        Args:
            split: name of the split.
            video_root: folder of the videos; `videos/` under the root by default.
        """
        found = videos_by_stem(self.root / "videos" if video_root is None else video_root)
        videos = []
        for segment in map(parse_segment, self.segments(split)):
            if segment.id in found:
                videos.append(Video(segment.id, found[segment.id], 0.0, float(segment.end - segment.start)))
            elif segment.source in found:
                videos.append(Video(segment.id, found[segment.source], float(segment.start), float(segment.end)))
        return videos

    def _file(self, folder: str, *names: str) -> Path:
        """The first file that exists among the layouts in which the official tree is found."""
        places = [self.root / tree / folder / name for name in names for tree in _TREES]
        places += [self.root / name for name in names]
        for place in places:
            if place.is_file():
                return place
        raise MissingDataError(f"VidSitu's {names[0]}", places[0].absolute(), _HOW)

    @staticmethod
    def _exists(find, split: str) -> bool:
        try:
            return find(split) is not None
        except MissingDataError:
            return False


def find(root: str | Path, split: str = "train", video_root: Path | None = None) -> tuple[list[Video], list[str]]:
    """The videos of a split's segments that are on disk, and the segments of the others."""
    tree = VidSitu(root)
    videos = tree.videos(split, video_root)
    present = {video.id for video in videos}
    return videos, [segment for segment in tree.segments(split) if segment not in present]


def sample(root: str | Path, output: Path, count: int) -> dict[str, int]:
    """Write the first segments of each split whose videos are there, with links to these; numbers by split."""
    data, taken, videos = VidSitu(root), {}, []
    for split in VIDSITU_SPLITS:
        if not data._exists(data.segments, split):
            continue
        present = {video.id: video for video in data.videos(split)}
        # without any video features are given
        chosen = [name for name in data.segments(split) if name in present or not present][:count]
        videos += [present[name] for name in chosen if name in present]
        write_json(output / "split_files" / f"vseg_split_{split}_lb.json", chosen)
        if data.has(split):
            records = [record for record in read_json(data.annotation_file(split)) if _segment_of(record) in chosen]
            write_json(output / "vseg_ann_files" / data.annotation_file(split).name, records)
        if data.has_verbs(split):
            records = [record for record in read_json(data.verb_file(split)) if _segment_of(record) in chosen]
            write_json(output / "vinfo_files" / data.verb_file(split).name, records)
        taken[split] = len(chosen)
    link_videos({video.path for video in videos}, output / "videos")
    vocabulary = data.vocabulary_file()
    if vocabulary is not None:
        (output / "vocab").mkdir(exist_ok=True)
        shutil.copyfile(vocabulary, output / "vocab" / vocabulary.name)
    return taken


def _segment_of(record: Mapping[str, Any]) -> str:
    """The segment of a record of a `vinfo` or a `vsann` file."""
    return str(record["vid_seg_int"] if "vid_seg_int" in record else record["Ev1"]["vid_seg_int"])


def check(
    root: str | Path,
    against: Mapping[str, str | Path] | None = None,
    videos: str | Path | None = None,
    write_split: str | Path | None = None,
    workers: int = 2,
) -> dict[str, Any]:
    """Count segments, annotations and videos, and what the valid split shares with other data sets.

    A video that was seen in pretraining on LVU cannot be evaluated on fairly: the paper leaves out "241 videos",
    which are the source videos that the valid split shares with LVU (441 of its 1,324 segments; 883 remain).

    Args:
        root: root of VidSitu's annotations.
        against: data set name (`lvu`, `vidsitu`) -> its root.
        videos: folder of the videos; `videos/` under the root by default.
        write_split: where to write the segments of valid that no other data set holds, as a split file for
            `kuleshov evaluate --split-file`.
        workers: processes that open the videos.

    Returns:
        `splits` (name -> `segments`, `sources`, `annotated`, `with_verbs`, `videos` that are there whole, those that
        are `padded`, and `missing_videos`), `missing` and `padded` (split -> segment -> reason), `overlap`
        (data set -> see `overlap`), `reduced_split` where one was written; `table` and `notes`.

    Raises:
        KuleshovError: no split is there, or a data set that cannot be compared.
        UsageError: `write_split` without `against`.
    """
    if write_split and not against:
        raise UsageError("--write-split needs --against: it writes what the other data set does not hold")
    data = VidSitu(root)
    names = [name for name in VIDSITU_SPLITS if data._exists(data.segments, name)]
    if not names:
        raise MissingDataError("VidSitu's split files", Path(root).absolute(), "check --root")
    report: dict[str, Any] = {"root": str(root), "splits": {}, "missing": {}, "padded": {}, "overlap": {}, "notes": []}
    present = {name: data.videos(name, videos) for name in names}
    files = {
        one["path"]: one
        for one in examine_all(sorted({str(v.path) for many in present.values() for v in many}), workers)
    }
    for name in names:
        missing, padded = _shortcomings(present[name], files)
        report["missing"][name], report["padded"][name] = missing, padded
        splits = report["splits"]
        splits[name] = _counts(data, name, len(present[name]) - len(missing), len(padded))
        for kind, found in (("missing", missing), ("padded", padded)):
            report["notes"] += [
                f"{name}: {kind}: {segment}: {reason}" for segment, reason in list(found.items())[:_NAMED]
            ]
            report["notes"] += [f"{name}: and {len(found) - _NAMED} more {kind}"] if len(found) > _NAMED else []
    report["table"] = [{"split": name, **counts} for name, counts in report["splits"].items()]
    remaining = segments = data.segments("valid") if against else []
    for name, other in (against or {}).items():
        shared = report["overlap"][name] = overlap(segments, sources_of(name, other))
        taken = set(shared["shared"])
        remaining = [segment for segment in remaining if segment not in taken]
        report["notes"].append(
            f"valid shares {shared['videos']} videos ({shared['segments']} segments) with {name}; "
            f"{shared['remaining_segments']} segments of {shared['remaining_videos']} videos remain"
        )
    if write_split is not None:
        write_json(write_split, remaining)
        digest = sha256_ids(remaining)
        report["reduced_split"] = {"path": str(write_split), "segments": len(remaining), "sample_ids_sha256": digest}
        report["notes"].append(f"wrote {len(remaining)} segments to {write_split} (ids {digest[:8]})")
    return report


def overlap(segments: Collection[str], sources: Collection[str]) -> dict[str, Any]:
    """Segments whose source video is among `sources`.

    Returns:
        `videos` and `segments` that are shared, `remaining_videos` and `remaining_segments`, the shared segments
        (`shared`), and `videos_sha256` of the shared sources' ids.
    """
    source_of = {segment: parse_segment(segment).source for segment in segments}
    sources = set(sources)
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


def _shortcomings(videos: list[Video], files: Mapping[str, dict[str, Any]]) -> tuple[dict[str, str], dict[str, str]]:
    """Segments that are not in their files, and those whose file ends less than half an event before them: reasons."""
    missing, padded = {}, {}
    for video in videos:
        file = files[str(video.path)]
        if file["reason"] is not None:
            missing[video.id] = file["reason"]
            continue
        try:
            _, end = video.span(file["seconds"], (video.end - video.start) / len(vidsitu_format.EVENTS) / 2)
        except VideoError as error:
            missing[video.id] = error.reason
            continue
        if end < video.end - 1e-3:
            padded[video.id] = f"its file ends {video.end - end:.2f} s before it"
    return missing, padded


def _counts(data: VidSitu, split: str, present: int, padded: int) -> dict[str, int]:
    segments = data.segments(split)
    annotated = set(data.annotations(split)) if data.has(split) else set()
    # only valid has verbs of many annotators; the test splits' are withheld
    verbs = set(data.verbs(split)) if split == "valid" and data.has_verbs(split) else annotated
    return {
        "segments": len(segments),
        "sources": len({parse_segment(segment).source for segment in segments}),
        "annotated": len(annotated & set(segments)),
        "with_verbs": len(verbs & set(segments)),
        "videos": present,
        "padded": padded,
        "missing_videos": len(segments) - present,
    }
