"""VidSitu: ten-second segments of movies with five two-second events, their verbs, roles and relations.

The official tree as published (`split_files/`, `vinfo_files/`, `vseg_ann_files/`, at the root or under
`vidsitu_annotations/`), or its files side by side in one folder. Videos are whole sources
(`<11-character id>.mp4`) or already cut segments (`v_<id>_seg_<start>_<end>.mp4`), in any container.
"""

from collections import Counter
from pathlib import Path

from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.datasets.vidsitu_format import (
    EVENTS,
    NO_RELATION_GIVEN,
    RELATED_EVENTS,
    Annotation,
    parse_segment,
    read_annotations,
    read_split,
    read_verbs,
    read_vocabulary,
    require_fields,
)
from kuleshov.video.video_file import Video

SPLITS = ("train", "valid", "testvb", "testsrl", "testevrel")
_ALIASES = {"val": "valid", "test_verb": "testvb", "test_srl": "testsrl", "test_evrel": "testevrel"}
CONTAINERS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".mpg", ".mpeg", ".ts", ".wmv")
_TREES = ("", "vidsitu_annotations", "data/vidsitu_annotations")
_HOW = "see github.com/TheShadow29/VidSitu for the annotations, or write the generated world (`kuleshov world`)"


def split_named(name: str) -> str:
    """Canonical name of a split; `val`, `test_verb`, `test_srl` and `test_evrel` are understood.

    Raises:
        KuleshovError: no such split.
    """
    split = _ALIASES.get(name, name)
    if split not in SPLITS:
        raise KuleshovError(f"VidSitu has the splits {', '.join(SPLITS)}, not {name!r}")
    return split


class VidSitu:
    """The official tree: segments, verbs, roles, relations and videos by split.

    Args:
        root: folder that holds `split_files/`, `vinfo_files/` and `vseg_ann_files/` (or
            `vidsitu_annotations/` with these), or the files themselves.
        vocabulary: the official verb vocabulary pickle, where it does not lie in `vocab/` or `vsitu_vocab/`.

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
            split_file: another list of segment ids to take instead.
        """
        if split_file is not None:
            return read_split(split_file)
        return read_split(self._file("split_files", [f"vseg_split_{split_named(split)}_lb.json"]))

    def annotations(self, split: str) -> dict[str, list[Annotation]]:
        """Segment id -> annotations (five events each) in file order; it may hold other segments too."""
        split = split_named(split)
        if split not in self._annotations:
            self._annotations[split] = read_annotations(self.annotation_file(split))
        return self._annotations[split]

    def annotation_file(self, split: str) -> Path:
        """The split's `vsann` file; the test splits' are called `..._noann_lb.json`."""
        split = split_named(split)
        return self._file("vseg_ann_files", [f"vsann_{split}_lb.json", f"vsann_{split}_noann_lb.json"])

    def verb_file(self, split: str) -> Path:
        """The split's `vinfo` file."""
        return self._file("vinfo_files", [f"vinfo_{split_named(split)}_lb.json"])

    def verbs(self, split: str) -> dict[str, list[list[str]]]:
        """Segment id -> five events -> verb ids, one per annotator: one on train, at least nine on valid."""
        split = split_named(split)
        if split not in self._verbs:
            if split == "train":
                require_fields(self.annotation_file("train"), self.annotations("train"), verbs=True)
                found = {
                    segment: [[event.verb] for event in annotations[0]]
                    for segment, annotations in self.annotations("train").items()
                }
            else:
                found = read_verbs(self.verb_file(split))
            self._verbs[split] = found
        return self._verbs[split]

    def roles(self, split: str) -> dict[str, list[Annotation]]:
        """Segment id -> annotations with role texts: the first annotator on train, all of them on valid.

        Raises:
            KuleshovError: the split's role texts are withheld.
        """
        split = split_named(split)
        found = self.annotations(split)
        if found and not any(event.arguments for many in found.values() for one in many for event in one):
            raise KuleshovError(f"{self.annotation_file(split)}: {split} has no role texts (they are withheld)")
        require_fields(self.annotation_file(split), found, verbs=True)
        return {segment: many[:1] if split == "train" else many for segment, many in found.items()}

    def relations(self, split: str) -> dict[str, list[list[str]]]:
        """Segment id -> annotators in file order -> relations of Ev1, Ev2, Ev4, Ev5 to Ev3.

        A relation that is not given reads `Null`; train has one annotator.

        Raises:
            KuleshovError: the split's relations are withheld.
        """
        split = split_named(split)
        places = [EVENTS.index(name) for name in RELATED_EVENTS]
        found = {
            segment: [[one[i].relation or NO_RELATION_GIVEN for i in places] for one in many]
            for segment, many in self.annotations(split).items()
        }
        if found and all(label == NO_RELATION_GIVEN for many in found.values() for one in many for label in one):
            raise KuleshovError(f"{self.annotation_file(split)}: {split} has no relations (they are withheld)")
        return {segment: many[:1] if split == "train" else many for segment, many in found.items()}

    def vocabulary_file(self) -> Path | None:
        """The official verb vocabulary pickle, None where there is none."""
        if self._vocabulary_file is not None:
            return self._vocabulary_file
        folders = [base / sub for base in (self.root, self.root.parent) for sub in ("vocab", "vsitu_vocab")]
        files = [folder / "verb_id_vocab.pkl" for folder in [self.root, *folders]]
        return next((file for file in files if file.is_file()), None)

    def vocabulary(self) -> list[str]:
        """Verb ids by falling frequency: the official vocabulary, or the training annotations' verbs.

        Raises:
            MissingDataError: neither is there.
        """
        file = self.vocabulary_file()
        if file is not None:
            return read_vocabulary(file)
        annotations = self.annotations("train")
        counts = Counter(event.verb for many in annotations.values() for event in many[0])
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

        A whole source gives its span of seconds, a cut segment file the whole file.

        Args:
            split: name of the split.
            video_root: folder of the videos; `videos/` under the root by default.
        """
        found = (self._video(segment, self._files(video_root)) for segment in self.segments(split))
        return [video for video in found if video is not None]

    def missing(self, split: str, video_root: str | Path | None = None) -> list[str]:
        """Segments of the split whose video is not on disk."""
        files = self._files(video_root)
        return [segment for segment in self.segments(split) if self._video(segment, files) is None]

    def _files(self, video_root: str | Path | None) -> dict[str, Path]:
        folder = Path(video_root) if video_root is not None else self.root / "videos"
        found = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
        return {file.stem: file for file in found if file.suffix.lower() in CONTAINERS}

    @staticmethod
    def _video(segment: str, files: dict[str, Path]) -> Video | None:
        if segment in files:
            return Video(segment, files[segment])
        parsed = parse_segment(segment)
        if parsed.source not in files:
            return None
        return Video(segment, files[parsed.source], float(parsed.start), float(parsed.end))

    def _file(self, folder: str, names: list[str]) -> Path:
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
            find(split)
        except MissingDataError:
            return False
        return True
