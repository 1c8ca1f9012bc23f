"""The world's annotation files under the official names and structures of Kinetics, VidSitu and LVU."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from kuleshov.core.files import write_atomic, write_json
from kuleshov.synthetic.annotators import ROLES, Annotator, flip
from kuleshov.synthetic.figures import SCENES
from kuleshov.synthetic.grammar import RELATIONS, VERB_IDS, VERB_NAMES, VERBS, relation, successors
from kuleshov.synthetic.motions import EVENT_SECONDS, FPS
from kuleshov.synthetic.render import event_boxes
from kuleshov.synthetic.story import COUNTS, KINETICS, LVU, SEGMENT_EVENTS, TEST_SETS, VIDSITU, WORDS, Story
from kuleshov.synthetic.truth import SEGMENT_SECONDS, TrueSegment, segments_of

VERB_ANNOTATORS = 10
ROLE_ANNOTATORS = {"train": 1, "valid": 4}
WRONG_VERB, WRONG_RELATION, NEAR = 0.12, 0.1, 0.7
# what the files of VidSitu's test sets keep back; testvb has no file
_KEPT_BACK = {"testsrl": ("Args", "EvRel"), "testevrel": ("EvRel",)}
# verbs that people take for one another
_ALIKE = "chase leave, fall knock, crawl hide, enter give, wave jump, hug dance, push hit, throw spin"
_PAIRS = [[VERBS.index(verb) for verb in pair.split()] for pair in _ALIKE.split(", ")]
_ALIKE_OF = dict(_PAIRS) | {second: first for first, second in _PAIRS}

BOXES_HEADER = "video,second,x1,y1,x2,y2,track,shot"
_LIKED = frozenset(map(VERBS.index, ("wave", "hug", "dance", "give", "jump", "spin", "enter")))
_SEEN = frozenset(map(VERBS.index, ("chase", "push", "hit", "knock", "throw", "jump", "fall")))
_COUNTS = {"like_ratio": "like_count dislike_count", "view_count": "view_count"}
# official centering of the two regressions (means over LVU's training movies)
_LIKE_MEAN, _VIEW_MEAN = 9.138220535629456, 11.76425435683139
_DIRECTORS = "nm0000229 nm0000217 nm0000165 nm0001675 nm0040630 nm0001392 nm0000631 nm0000233".split()
# class index of a style -> official (sparse) class id and class name
LVU_CLASSES: dict[str, tuple[tuple[int, str], ...]] = {
    "relationship": tuple(enumerate(("friend", "ex_boyfriend_ex_girlfriend", "husband_wife", "boyfriend_girlfriend"))),
    "way_speaking": tuple(enumerate(("explains", "confronts", "discuss", "teaches", "threatens"))),
    "scene": tuple(enumerate(SCENES)),
    "director": tuple(zip((0, 1, 4, 5, 6, 7, 8, 9), _DIRECTORS, strict=True)),
    "writer": ((0, "\\N"), (1, "nm0001220"), (2, "nm0000175"), (5, "nm0000455")),
    "year": tuple((decade, str(1930 + 10 * decade)) for decade in range(9)),
    "genre": tuple(enumerate(("Comedy", "Action-Crime-Adventure", "Romance", "Thriller-Horror"))),
}


def _by_split(movies: list[Story], kind: str, *splits: str) -> dict[str, list[Story]]:
    # sorted by the random id, the order of the rows says nothing about their labels
    chosen = sorted((movie for movie in movies if movie.kind == kind), key=lambda movie: movie.id)
    return {split: [movie for movie in chosen if movie.split == split] for split in splits}


def write_kinetics(root: Path, movies: list[Story]) -> dict[str, int]:
    """Write `root/kinetics/{train,val}.csv` (`path label`) and `classes.txt`; returns clips per split."""
    home, clips = root / "kinetics", _by_split(movies, KINETICS, "train", "val")
    for split, part in clips.items():
        rows = [f"clips/{clip.id}.mp4 {clip.events[0].verb}\n" for clip in part]
        write_atomic(home / f"{split}.csv", "".join(rows))
    write_atomic(home / "classes.txt", "".join(f"{name}\n" for name in VERB_NAMES))
    return {split: len(part) for split, part in clips.items()}


def write_vidsitu(root: Path, movies: list[Story]) -> dict[str, int]:
    """Write `root/vidsitu/{split_files,vinfo_files,vseg_ann_files}`; returns segments per split."""
    home, counts = root / "vidsitu", {}
    for split in ("train", "valid", *TEST_SETS):
        sources = [movie for movie in movies if movie.kind == VIDSITU and movie.split == split]
        segments = [(movie, segment) for movie in sources for segment in segments_of(asdict(movie))]
        write_json(home / "split_files" / f"vseg_split_{split}_lb.json", [segment.id for _, segment in segments])
        if split in ROLE_ANNOTATORS:
            information = [_information(movie, segment, split == "valid") for movie, segment in segments]
            write_json(home / "vinfo_files" / f"vinfo_{split}_lb.json", information)
            who = range(ROLE_ANNOTATORS[split])
            records = [_record(movie, segment, number) for number in who for movie, segment in segments]
            write_json(home / "vseg_ann_files" / f"vsann_{split}_lb.json", records)
        elif split in _KEPT_BACK:
            records = [_record(movie, segment, 0, _KEPT_BACK[split]) for movie, segment in segments]
            write_json(home / "vseg_ann_files" / f"vsann_{split}_noann_lb.json", records)
        counts[split] = len(segments)
    return counts


def _record(movie: Story, segment: TrueSegment, annotator: int, hidden: tuple[str, ...] = ()) -> dict:
    words = Annotator(movie, annotator)
    draw = movie.stream(WORDS, 1000 * (annotator + 1) + segment.number)
    after = successors(movie.style["writer"])
    record = {}
    for index, verb in enumerate(segment.verbs):
        one = {
            "vid_seg_int": segment.id,
            "Verb": VERB_NAMES[verb],
            "VerbID": VERB_IDS[verb],
            "Arg_List": {role: str(place) for place, role in enumerate(ROLES[VERBS[verb]])},
            "Args": words.describe(segment.number * SEGMENT_EVENTS + index),
        }
        if index != 2:
            first, second = sorted((index, 2))
            truth = relation(segment.verbs[first], segment.verbs[second], second - first, after)
            one["EvRel"] = RELATIONS[flip(truth, len(RELATIONS), WRONG_RELATION, draw)]
        record[f"Ev{index + 1}"] = {key: value for key, value in one.items() if key not in hidden}
    return record


def _information(movie: Story, segment: TrueSegment, votes: bool) -> dict:
    record = {
        "vid_uid": f"{movie.id}1",
        "uid": f"{movie.id}1",
        "name": movie.id,
        "vid_seg_int": segment.id,
        "start": segment.number * SEGMENT_SECONDS,
        "end": (segment.number + 1) * SEGMENT_SECONDS,
        "duration": len(movie.events) * EVENT_SECONDS,
        "genres": str([LVU_CLASSES["genre"][movie.style["genre"]][1]]),
        "text": "A generated movie.",
        "movie_name": f"Movie {movie.imdb_id}",
        "clip_name": f"Clip {movie.id}",
        "clip_ix": segment.number + 1,
        "imdb_id": movie.imdb_id,
        "upload_year": 2012,
        "year_rel": 1930 + 10 * movie.style["year"],
    }
    if votes:
        record |= {"vb_to_use": {}, "vb_lst": {}, "vbid_lst": {}}
        for index, verb in enumerate(segment.verbs):
            event, named = f"Ev{index + 1}", _votes(movie, segment.number, index, verb)
            record["vb_to_use"][event] = VERB_NAMES[verb]
            record["vb_lst"][event] = [VERB_NAMES[vote] for vote in named]
            record["vbid_lst"][event] = [VERB_IDS[vote] for vote in named]
    return record


def _votes(movie: Story, segment: int, index: int, truth: int) -> list[int]:
    """What ten annotators call an event; the first, whose verb is used for the roles, is right."""
    draw = movie.stream(WORDS, 10**6 + 10 * segment + index)
    votes = [truth]
    while len(votes) < VERB_ANNOTATORS:
        near = _ALIKE_OF[truth] if draw.random() < NEAR else int(draw.integers(len(VERBS)))
        votes.append(near if draw.random() < WRONG_VERB else truth)
    return votes


def write_lvu(root: Path, movies: list[Story]) -> dict[str, int]:
    """Write `root/lvu/lvu_1.0/<task>/<split>.csv` and durations; returns movies per split."""
    home, chosen = root / "lvu" / "lvu_1.0", _by_split(movies, LVU, "train", "val", "test")
    for split, part in chosen.items():
        tables: dict[str, list[tuple[tuple, Story]]] = {}
        for task, classes in LVU_CLASSES.items():
            tables[task] = sorted(((classes[m.style[task]], m) for m in part), key=lambda row: row[0][0])
        tables["like_ratio"] = [(likes(movie), movie) for movie in part]
        tables["view_count"] = [((views(movie),), movie) for movie in part]
        for task, rows in tables.items():
            lines = [" ".join(map(str, (*values, movie.id, movie.imdb_id))) for values, movie in rows]
            header = f"{_COUNTS.get(task, 'class_id class_name')} youtube_id imdb_id"
            write_atomic(home / task / f"{split}.csv", "".join(f"{line}\n" for line in [header, *lines]))
    seconds = sorted(f"{m.id},{len(m.events) * EVENT_SECONDS}\n" for part in chosen.values() for m in part)
    write_atomic(home / "lvu_durations.csv", "videoid,duration\n" + "".join(seconds))
    return {split: len(part) for split, part in chosen.items()}


def likes(movie: Story) -> tuple[int, int]:
    """Likes and dislikes: friendlier movies are liked better, with noise."""
    draw = movie.stream(COUNTS, 2)
    score = _share(movie, _LIKED) - 0.45 + 0.12 * draw.standard_normal()
    ratio = np.clip((_LIKE_MEAN + 2.4 * score) / 10, 0.02, 0.995)
    total = int(np.exp(draw.uniform(6, 10)))
    liked = int(round(total * ratio))
    return liked, max(1, total - liked)


def views(movie: Story) -> int:
    """View count: livelier movies are seen more, with noise."""
    score = _share(movie, _SEEN) - 0.45 + 0.12 * movie.stream(COUNTS, 3).standard_normal()
    return max(1, int(round(np.exp(_VIEW_MEAN + 8 * score))))


def _share(movie: Story, verbs: frozenset[int]) -> float:
    return float(np.mean([event.verb in verbs for event in movie.events]))


def write_boxes(root: Path, movies: list[Story]) -> int:
    """Write `root/lvu/boxes.csv`, one row a visible character a second of LVU's movies; returns the rows."""
    rows = [row for movie in movies if movie.kind == LVU for row in _box_rows(movie)]
    write_atomic(root / "lvu" / "boxes.csv", "\n".join([BOXES_HEADER, *rows]) + "\n")
    return len(rows)


def _box_rows(movie: Story) -> list[str]:
    rows, shot = [], 0
    for index, event in enumerate(movie.events):
        # what a detector of cuts sees: the scene is another
        shot += index > 0 and event.scene != movie.events[index - 1].scene
        for track, boxes in sorted(event_boxes(movie, index).items()):
            for second in range(EVENT_SECONDS):
                x1, y1, x2, y2 = boxes[second * FPS + FPS // 2]
                if x2 - x1 >= 2 and y2 - y1 >= 2:
                    time = index * EVENT_SECONDS + second
                    rows.append(f"{movie.id},{time},{x1:.1f},{y1:.1f},{x2:.1f},{y2:.1f},{track},{shot}")
    return rows
