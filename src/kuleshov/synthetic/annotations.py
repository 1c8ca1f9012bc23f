"""The world's annotation files under the official names and structures of Kinetics, VidSitu and LVU."""

from pathlib import Path

import numpy as np

from kuleshov.core.files import write_atomic, write_json
from kuleshov.synthetic.annotators import ROLES, Annotator, flip
from kuleshov.synthetic.grammar import RELATIONS, VERB_IDS, VERB_NAMES, VERBS, relation, successors
from kuleshov.synthetic.render import event_boxes
from kuleshov.synthetic.sizes import EVENT_SECONDS, FPS, SEGMENT_EVENTS, TEST_SETS
from kuleshov.synthetic.story import COUNTS, KINETICS, LVU, VIDSITU, WORDS, PlannedMovie, Story, StoryEvent

VERB_ANNOTATORS = 10
ROLE_ANNOTATORS = 4
WRONG_VERB, WRONG_RELATION, NEAR = 0.12, 0.1, 0.7
_SEGMENT_SECONDS = EVENT_SECONDS * SEGMENT_EVENTS
# verbs that people take for one another
_ALIKE = (
    *(("chase", "leave"), ("fall", "knock"), ("crawl", "hide"), ("enter", "give")),
    *(("wave", "jump"), ("hug", "dance"), ("push", "hit"), ("throw", "spin")),
)
_ALIKE_OF = {VERBS.index(a): VERBS.index(b) for pair in _ALIKE for a, b in (pair, pair[::-1])}

BOXES_HEADER = "video,second,x1,y1,x2,y2,track"
_LIKED = frozenset(map(VERBS.index, ("wave", "hug", "dance", "give", "jump", "spin", "enter")))
_SEEN = frozenset(map(VERBS.index, ("chase", "push", "hit", "knock", "throw", "jump", "fall")))
# official centering of the two regressions (means over LVU's training movies)
_LIKE_MEAN, _VIEW_MEAN = 9.138220535629456, 11.76425435683139
_DIRECTOR_IDS = (0, 1, 4, 5, 6, 7, 8, 9)
_DIRECTORS = (
    *("nm0000229", "nm0000217", "nm0000165", "nm0001675"),
    *("nm0040630", "nm0001392", "nm0000631", "nm0000233"),
)
# class index of a style -> official (sparse) class id and class name
LVU_CLASSES: dict[str, tuple[tuple[int, str], ...]] = {
    "relationship": (
        *((0, "friend"), (1, "ex_boyfriend_ex_girlfriend")),
        *((2, "husband_wife"), (3, "boyfriend_girlfriend")),
    ),
    "way_speaking": tuple(enumerate(("explains", "confronts", "discuss", "teaches", "threatens"))),
    "scene": tuple(enumerate(("office", "airport", "school", "hotel", "prison", "restaurant"))),
    "director": tuple(zip(_DIRECTOR_IDS, _DIRECTORS, strict=True)),
    "writer": ((0, "\\N"), (1, "nm0001220"), (2, "nm0000175"), (5, "nm0000455")),
    "year": tuple((decade, str(1930 + 10 * decade)) for decade in range(9)),
    "genre": tuple(enumerate(("Comedy", "Action-Crime-Adventure", "Romance", "Thriller-Horror"))),
}


def _chosen(movies: list[PlannedMovie], kind: int) -> list[PlannedMovie]:
    # sorted by the random id, the order of the rows says nothing about their labels
    return sorted((movie for movie in movies if movie.story.kind == kind), key=lambda movie: movie.story.id)


def write_kinetics(root: Path, movies: list[PlannedMovie]) -> dict[str, int]:
    """Write `root/kinetics/{train,val}.csv` (`path label`) and `classes.txt`; returns clips per split."""
    home, counts = root / "kinetics", {}
    clips = _chosen(movies, KINETICS)
    for split in ("train", "val"):
        rows = [f"clips/{clip.story.id}.mp4 {clip.story.events[0].verb}\n" for clip in clips if clip.split == split]
        write_atomic(home / f"{split}.csv", "".join(rows))
        counts[split] = len(rows)
    write_atomic(home / "classes.txt", "".join(f"{name}\n" for name in VERB_NAMES))
    return counts


def segment_id(video: str, segment: int) -> str:
    """The official id of a source's ten seconds number `segment`."""
    start = segment * _SEGMENT_SECONDS
    return f"v_{video}_seg_{start}_{start + _SEGMENT_SECONDS}"


def segments(story: Story) -> list[tuple[str, tuple[StoryEvent, ...]]]:
    """A source's segments in order: official id and its five events."""
    starts = range(0, len(story.events), SEGMENT_EVENTS)
    return [(segment_id(story.id, s // SEGMENT_EVENTS), story.events[s : s + SEGMENT_EVENTS]) for s in starts]


def write_vidsitu(root: Path, movies: list[PlannedMovie]) -> dict[str, int]:
    """Write `root/vidsitu/{split_files,vinfo_files,vseg_ann_files}`; returns segments per split."""
    home, counts = root / "vidsitu", {}
    for split in ("train", "valid", *TEST_SETS):
        chosen = [movie for movie in movies if movie.story.kind == VIDSITU and movie.split == split]
        places = [(movie, segment) for movie in chosen for segment in range(len(segments(movie.story)))]
        names = [segment_id(movie.story.id, segment) for movie, segment in places]
        write_json(home / "split_files" / f"vseg_split_{split}_lb.json", names)
        if split in ("train", "valid"):
            information = [_information(movie, segment, votes=split == "valid") for movie, segment in places]
            write_json(home / "vinfo_files" / f"vinfo_{split}_lb.json", information)
            annotators = 1 if split == "train" else ROLE_ANNOTATORS
            records = [_record(movie.story, segment, a) for a in range(annotators) for movie, segment in places]
            write_json(home / "vseg_ann_files" / f"vsann_{split}_lb.json", records)
        elif split != "testvb":
            hidden = {"testsrl": ("Args", "EvRel"), "testevrel": ("EvRel",)}[split]
            records = [_record(movie.story, segment, 0, hidden) for movie, segment in places]
            write_json(home / "vseg_ann_files" / f"vsann_{split}_noann_lb.json", records)
        counts[split] = len(names)
    return counts


def _record(story: Story, segment: int, annotator: int, hidden: tuple[str, ...] = ()) -> dict:
    name, events = segments(story)[segment]
    words = Annotator(story, annotator)
    draw = story.stream(WORDS, 1000 * (annotator + 1) + segment)
    after = successors(story.style["writer"])
    record = {}
    for index, event in enumerate(events):
        roles = [role for role, _ in ROLES[VERBS[event.verb]]]
        one = {
            "vid_seg_int": name,
            "Verb": VERB_NAMES[event.verb],
            "VerbID": VERB_IDS[event.verb],
            "Arg_List": {role: str(place) for place, role in enumerate(roles)},
            "Args": words.describe(segment * SEGMENT_EVENTS + index),
        }
        if index != 2:
            first, second = sorted((index, 2))
            truth = relation(events[first].verb, events[second].verb, second - first, after)
            one["EvRel"] = RELATIONS[flip(truth, len(RELATIONS), WRONG_RELATION, draw)]
        record[f"Ev{index + 1}"] = {key: value for key, value in one.items() if key not in hidden}
    return record


def _information(movie: PlannedMovie, segment: int, votes: bool) -> dict:
    story = movie.story
    name, events = segments(story)[segment]
    record = {
        "vid_uid": f"{story.id}1",
        "uid": f"{story.id}1",
        "name": story.id,
        "vid_seg_int": name,
        "start": segment * _SEGMENT_SECONDS,
        "end": (segment + 1) * _SEGMENT_SECONDS,
        "duration": len(story.events) * EVENT_SECONDS,
        "genres": str([LVU_CLASSES["genre"][story.style["genre"]][1]]),
        "text": "A generated movie.",
        "movie_name": f"Movie {movie.imdb_id}",
        "clip_name": f"Clip {story.id}",
        "clip_ix": segment + 1,
        "imdb_id": movie.imdb_id,
        "upload_year": 2012,
        "year_rel": 1930 + 10 * story.style["year"],
    }
    if votes:
        named = {f"Ev{i + 1}": _votes(story, segment, i, event.verb) for i, event in enumerate(events)}
        record["vb_to_use"] = {f"Ev{i + 1}": VERB_NAMES[event.verb] for i, event in enumerate(events)}
        record["vb_lst"] = {key: [VERB_NAMES[verb] for verb in verbs] for key, verbs in named.items()}
        record["vbid_lst"] = {key: [VERB_IDS[verb] for verb in verbs] for key, verbs in named.items()}
    return record


def _votes(story: Story, segment: int, index: int, truth: int) -> list[int]:
    """What ten annotators call an event; the first, whose verb is used for the roles, is right."""
    draw = story.stream(WORDS, 10**6 + 10 * segment + index)
    votes = [truth]
    while len(votes) < VERB_ANNOTATORS:
        near = _ALIKE_OF[truth] if draw.random() < NEAR else int(draw.integers(len(VERBS)))
        votes.append(near if draw.random() < WRONG_VERB else truth)
    return votes


def write_lvu(root: Path, movies: list[PlannedMovie]) -> dict[str, int]:
    """Write `root/lvu/lvu_1.0/<task>/<split>.csv` and durations; returns movies per split."""
    home, counts = root / "lvu" / "lvu_1.0", {}
    chosen, ids = _chosen(movies, LVU), "youtube_id imdb_id\n"
    for split in ("train", "val", "test"):
        part = [movie for movie in chosen if movie.split == split]
        for task in LVU_CLASSES:
            write_atomic(home / task / f"{split}.csv", _class_rows(part, task, ids))
        liked = "".join("{} {} ".format(*likes(m.story)) + f"{m.story.id} {m.imdb_id}\n" for m in part)
        seen = "".join(f"{views(m.story)} {m.story.id} {m.imdb_id}\n" for m in part)
        write_atomic(home / "like_ratio" / f"{split}.csv", f"like_count dislike_count {ids}{liked}")
        write_atomic(home / "view_count" / f"{split}.csv", f"view_count {ids}{seen}")
        counts[split] = len(part)
    seconds = [f"{movie.story.id},{len(movie.story.events) * EVENT_SECONDS}\n" for movie in chosen]
    write_atomic(home / "lvu_durations.csv", "videoid,duration\n" + "".join(seconds))
    return counts


def _class_rows(movies: list[PlannedMovie], task: str, ids: str) -> str:
    rows = [(LVU_CLASSES[task][movie.story.style[task]], movie) for movie in movies]
    texts = [f"{number} {name} {m.story.id} {m.imdb_id}\n" for (number, name), m in sorted(rows, key=lambda r: r[0][0])]
    return f"class_id class_name {ids}" + "".join(texts)


def likes(story: Story) -> tuple[int, int]:
    """Likes and dislikes: friendlier movies are liked better, with noise."""
    draw = story.stream(COUNTS, 2)
    score = _share(story, _LIKED) - 0.45 + 0.12 * draw.standard_normal()
    ratio = np.clip((_LIKE_MEAN + 2.4 * score) / 10, 0.02, 0.995)
    total = int(np.exp(draw.uniform(6, 10)))
    liked = int(round(total * ratio))
    return liked, max(1, total - liked)


def views(story: Story) -> int:
    """View count: livelier movies are seen more, with noise."""
    score = _share(story, _SEEN) - 0.45 + 0.12 * story.stream(COUNTS, 3).standard_normal()
    return max(1, int(round(np.exp(_VIEW_MEAN + 8 * score))))


def _share(story: Story, verbs: frozenset[int]) -> float:
    return float(np.mean([event.verb in verbs for event in story.events]))


def write_boxes(root: Path, movies: list[PlannedMovie]) -> int:
    """Write `root/lvu/boxes.csv`, one row a visible character a second of LVU's movies; returns the rows."""
    rows = [row for movie in movies if movie.story.kind == LVU for row in _box_rows(movie.story)]
    write_atomic(root / "lvu" / "boxes.csv", "\n".join([BOXES_HEADER, *rows]) + "\n")
    return len(rows)


def _box_rows(story: Story) -> list[str]:
    rows = []
    for index in range(len(story.events)):
        for track, boxes in sorted(event_boxes(story, index).items()):
            for second in range(EVENT_SECONDS):
                x1, y1, x2, y2 = boxes[second * FPS + FPS // 2]
                if x2 - x1 >= 2 and y2 - y1 >= 2:
                    time = index * EVENT_SECONDS + second
                    rows.append(f"{story.id},{time},{x1:.1f},{y1:.1f},{x2:.1f},{y2:.1f},{track}")
    return rows
