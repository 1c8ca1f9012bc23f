"""VidSitu's annotation files for the world's sources, under the official names and structures."""

from pathlib import Path

from kuleshov.core.files import write_json
from kuleshov.synthetic.counts import EVENT_SECONDS, SEGMENT_EVENTS, TEST_SETS
from kuleshov.synthetic.grammar import RELATIONS, VERB_IDS, VERB_NAMES, VERBS, relation, successors
from kuleshov.synthetic.labels import LVU_CLASSES
from kuleshov.synthetic.story import VIDSITU, WORDS, Event, Story, stream
from kuleshov.synthetic.words import ROLES, Annotator, flip
from kuleshov.synthetic.world_plan import Movie

VERB_ANNOTATORS = 10
ROLE_ANNOTATORS = 4
WRONG_VERB, WRONG_RELATION, NEAR = 0.12, 0.1, 0.7
_SEGMENT_SECONDS = EVENT_SECONDS * SEGMENT_EVENTS
# verbs that people take for one another
_ALIKE = (
    ("chase", "leave"),
    ("fall", "knock"),
    ("crawl", "hide"),
    ("enter", "give"),
    ("wave", "jump"),
    ("hug", "dance"),
    ("push", "hit"),
    ("throw", "spin"),
)
_ALIKE_OF = {VERBS.index(a): VERBS.index(b) for pair in _ALIKE for a, b in (pair, pair[::-1])}


def segment_id(video: str, segment: int) -> str:
    """The official id of a source's ten seconds number `segment`."""
    start = segment * _SEGMENT_SECONDS
    return f"v_{video}_seg_{start}_{start + _SEGMENT_SECONDS}"


def segments(movie: Movie) -> list[tuple[str, tuple[Event, ...]]]:
    """A source's segments in order: official id and its five events."""
    events = movie.story.events
    return [
        (segment_id(movie.story.id, first // SEGMENT_EVENTS), events[first : first + SEGMENT_EVENTS])
        for first in range(0, len(events), SEGMENT_EVENTS)
    ]


def relation_of(story: Story, events: tuple[Event, ...], index: int) -> int:
    """How event `index` (0, 1, 3 or 4) of a segment relates to its third (index into RELATIONS)."""
    first, second = sorted((index, 2))
    after = successors(story.style["writer"])
    return relation(events[first].verb, events[second].verb, second - first, after)


def write_vidsitu(root: Path, movies: list[Movie]) -> dict[str, int]:
    """Write `root/vidsitu/{split_files,vinfo_files,vseg_ann_files}`; returns segments per split."""
    home, counts = root / "vidsitu", {}
    for split in ("train", "valid", *TEST_SETS):
        chosen = [movie for movie in movies if movie.story.kind == VIDSITU and movie.split == split]
        names = [name for movie in chosen for name, _ in segments(movie)]
        write_json(home / "split_files" / f"vseg_split_{split}_lb.json", names)
        if split in ("train", "valid"):
            write_json(home / "vinfo_files" / f"vinfo_{split}_lb.json", _information(chosen, split))
            annotators = 1 if split == "train" else ROLE_ANNOTATORS
            records = [_record(m, s, a) for a in range(annotators) for m, s in _places(chosen)]
            write_json(home / "vseg_ann_files" / f"vsann_{split}_lb.json", records)
        elif split != "testvb":
            hidden = {"testsrl": ("Args", "EvRel"), "testevrel": ("EvRel",)}[split]
            records = [_without(_record(m, s, 0), hidden) for m, s in _places(chosen)]
            write_json(home / "vseg_ann_files" / f"vsann_{split}_noann_lb.json", records)
        counts[split] = len(names)
    return counts


def _places(movies: list[Movie]) -> list[tuple[Movie, int]]:
    return [(movie, segment) for movie in movies for segment in range(len(segments(movie)))]


def _record(movie: Movie, segment: int, annotator: int) -> dict:
    name, events = segments(movie)[segment]
    words = Annotator(movie.story, annotator)
    draw = stream(movie.story.seed, WORDS, VIDSITU, movie.story.number, 1000 * (annotator + 1) + segment)
    record = {}
    for index, event in enumerate(events):
        roles = [role for role, _ in ROLES[VERBS[event.verb]]]
        record[f"Ev{index + 1}"] = {
            "vid_seg_int": name,
            "Verb": VERB_NAMES[event.verb],
            "VerbID": VERB_IDS[event.verb],
            "Arg_List": {role: str(place) for place, role in enumerate(roles)},
            "Args": words.describe(segment * SEGMENT_EVENTS + index),
        }
        if index != 2:
            truth = relation_of(movie.story, events, index)
            said = flip(truth, len(RELATIONS), WRONG_RELATION, draw)
            record[f"Ev{index + 1}"]["EvRel"] = RELATIONS[said]
    return record


def _without(record: dict, fields: tuple[str, ...]) -> dict:
    return {event: {k: v for k, v in one.items() if k not in fields} for event, one in record.items()}


def _information(movies: list[Movie], split: str) -> list[dict]:
    return [_segment_information(movie, segment, split) for movie, segment in _places(movies)]


def _segment_information(movie: Movie, segment: int, split: str) -> dict:
    story = movie.story
    name, events = segments(movie)[segment]
    year = 1930 + 10 * story.style["year"]
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
        "year_rel": year,
    }
    if split == "valid":
        votes = {f"Ev{i + 1}": _votes(story, segment, i, event.verb) for i, event in enumerate(events)}
        record["vb_to_use"] = {f"Ev{i + 1}": VERB_NAMES[event.verb] for i, event in enumerate(events)}
        record["vb_lst"] = {key: [VERB_NAMES[verb] for verb in verbs] for key, verbs in votes.items()}
        record["vbid_lst"] = {key: [VERB_IDS[verb] for verb in verbs] for key, verbs in votes.items()}
    return record


def _votes(story: Story, segment: int, index: int, truth: int) -> list[int]:
    """What ten annotators call an event; the first, whose verb is used for the roles, is right."""
    draw = stream(story.seed, WORDS, VIDSITU, story.number, 10**6 + 10 * segment + index)
    votes = [truth]
    while len(votes) < VERB_ANNOTATORS:
        near = _ALIKE_OF[truth] if draw.random() < NEAR else int(draw.integers(len(VERBS)))
        votes.append(near if draw.random() < WRONG_VERB else truth)
    return votes
