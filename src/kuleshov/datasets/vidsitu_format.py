"""VidSitu's official files, read and checked: splits, annotations, video information, verb vocabulary.

Sadhu et al., Visual Semantic Role Labeling for Video Understanding, CVPR 2021; formats as in the authors'
`data/README.md`.
"""

import functools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kuleshov.core.errors import FormatError
from kuleshov.core.files import read_json
from kuleshov.core.unpickle import restricted_load

EVENTS = ("Ev1", "Ev2", "Ev3", "Ev4", "Ev5")
RELATED_EVENTS = ("Ev1", "Ev2", "Ev4", "Ev5")
RELATIONS = ("Causes", "Reaction To", "Enables", "NoRel")
NO_RELATION_GIVEN = "Null"
ROLES = ("Arg0", "Arg1", "Arg2", "Arg3", "Arg4", "Arg5", "ADir", "APrp", "AMnr", "ALoc", "AGol", "AScn")
SPECIAL_SYMBOLS = ("<s>", "<pad>", "</s>", "<unk>")

_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
_SEGMENT = re.compile(r"v_(.{11})_seg_(\d+)_(\d+)")
_MODIFIERS = {"direction": "ADir", "purpose": "APrp", "manner": "AMnr", "location": "ALoc", "goal": "AGol"}


@dataclass(frozen=True)
class VidSituSegment:
    """A segment id, taken apart: `v_<source>_seg_<start>_<end>`, seconds within the source video."""

    id: str
    source: str
    start: int
    end: int


@dataclass(frozen=True)
class VidSituEvent:
    """What one annotator wrote about one event.

    Attributes:
        verb: verb id, `push.01`; empty where the file does not give it.
        verb_name: the verb as the annotator saw it, `push (apply force)`.
        arguments: full argument name (`Arg1 (thing pushed)`) -> text, in the order of the file's `Args`;
            empty where the labels are withheld.
        order: full argument names by their position in `Arg_List`.
        relation: relation to Ev3, None on Ev3 and where it is not given.
    """

    verb: str
    verb_name: str
    arguments: Mapping[str, str]
    order: tuple[str, ...]
    relation: str | None

    @property
    def roles(self) -> list[tuple[str, str]]:
        """(role, text) in the order of `Arg_List`, roles by their short names (`Arg0`, `AScn`)."""
        return [(role_of(name), self.arguments[name]) for name in self.order if name in self.arguments]


Annotation = tuple[VidSituEvent, VidSituEvent, VidSituEvent, VidSituEvent, VidSituEvent]


def parse_segment(text: str) -> VidSituSegment:
    """Take a segment id apart; source ids have 11 characters and may hold `_` and `-`.

    Raises:
        ValueError: the text is not a segment id.
    """
    match = _SEGMENT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a segment id (v_<11 characters>_seg_<start>_<end>)")
    source, start, end = match.groups()
    if int(end) <= int(start):
        raise ValueError(f"segment {text} ends at {end} s, not after its start at {start} s")
    return VidSituSegment(text, source, int(start), int(end))


@functools.cache
def role_of(name: str) -> str:
    """Short role name of a full argument name: `ArgM (location)` -> `ALoc`, `Arg0 (agent)` -> `Arg0`.

    Raises:
        ValueError: no role of VidSitu's has this name.
    """
    head, _, rest = name.partition(" ")
    if head in ROLES[:6]:
        return head
    if name == "Scene of the Event":
        return "AScn"
    if head == "ArgM":
        # the first of these words that occurs decides, in this order
        for word, role in _MODIFIERS.items():
            if word in rest:
                return role
    raise ValueError(f"unknown argument name {name!r}")


def read_split(path: str | Path) -> list[str]:
    """Read a split file: a JSON list of segment ids.

    Raises:
        MissingDataError: the file is not there.
        FormatError: not a list of segment ids.
    """
    entries = _list_of(path, str, "segment ids")
    for index, entry in enumerate(entries):
        try:
            parse_segment(entry)
        except ValueError as error:
            raise FormatError(path, str(error), index) from error
    return entries


def read_some(path: str | Path) -> list[str]:
    """Read a user's own list of a split's segments; see `read_split`.

    Raises:
        FormatError: it is empty, or names a segment twice.
    """
    entries = read_split(path)
    if not entries:
        raise FormatError(path, "the list of segments is empty")
    twice = next((entry for entry, count in Counter(entries).items() if count > 1), None)
    if twice is not None:
        raise FormatError(path, "the segment is in the list twice", twice)
    return entries


def read_annotations(path: str | Path) -> dict[str, list[Annotation]]:
    """Read a `vsann` file: segment id -> one annotation per annotator, in file order.

    Raises:
        MissingDataError: the file is not there.
        FormatError: a record that does not hold what the format promises.
    """
    annotations: dict[str, list[Annotation]] = {}
    for index, record in enumerate(_list_of(path, dict, "records")):
        first = _field(path, index, record, "Ev1", dict)
        segment = _field(path, index, first, "vid_seg_int", str, "Ev1.")
        where = f"{index} ({segment})"
        events = [_event(path, where, record, name) for name in EVENTS]
        annotations.setdefault(segment, []).append(tuple(events))
    return annotations


def _event(path: str | Path, where: str, record: dict, name: str) -> VidSituEvent:
    event = _field(path, where, record, name, dict)

    def optional(field: str, kind: type, default: Any) -> Any:
        return _field(path, where, event, field, kind, f"{name}.") if field in event else default

    arguments, positions = optional("Args", dict, {}), optional("Arg_List", dict, {})
    for argument in [*arguments, *positions]:
        try:
            role_of(argument)
        except ValueError as error:
            raise FormatError(path, str(error), where, f"{name}.Args") from error
    for argument in arguments:
        _field(path, where, arguments, argument, str, f"{name}.Args.")
    order = _order(path, where, f"{name}.Arg_List", arguments, positions)
    verb, relation = optional("VerbID", str, ""), optional("EvRel", str, None)
    return VidSituEvent(verb, str(event.get("Verb", verb)), arguments, order, relation)


def _order(path: str | Path, where: str, field: str, arguments: dict, positions: dict) -> tuple[str, ...]:
    absent = [argument for argument in arguments if positions and argument not in positions]
    if absent:
        raise FormatError(path, f"argument {absent[0]!r} has no position", where, field)
    try:
        return tuple(sorted(positions, key=lambda argument: int(positions[argument])) or arguments)
    except (TypeError, ValueError) as error:
        raise FormatError(path, f"positions must be whole numbers ({error})", where, field) from error


def require_verbs(path: str | Path, annotations: Mapping[str, list[Annotation]]) -> None:
    """Refuse annotations in which an event lacks its verb id.

    Raises:
        FormatError: the first such event.
    """
    for segment, many in annotations.items():
        for number, annotation in enumerate(many):
            for name, event in zip(EVENTS, annotation, strict=True):
                if not event.verb:
                    record = f"{segment} (annotator {number})"
                    raise FormatError(path, "the field is missing or empty", record, f"{name}.VerbID")


def read_verbs(path: str | Path, least: int = 9) -> dict[str, list[list[str]]]:
    """Read a `vinfo` file with verb annotations: segment id -> five events -> one verb id per annotator.

    Args:
        path: the file.
        least: annotators that Ev1 must have; the official code demands 9.

    Raises:
        MissingDataError: the file is not there.
        FormatError: a record without verbs, a segment that occurs twice, too few annotators.
    """
    verbs: dict[str, list[list[str]]] = {}
    for index, record in enumerate(_list_of(path, dict, "records")):
        segment = _field(path, index, record, "vid_seg_int", str)
        where = f"{index} ({segment})"
        if segment in verbs:
            raise FormatError(path, "the segment occurs twice", where, "vid_seg_int")
        lists = _field(path, where, record, "vbid_lst", dict)
        events = [_field(path, where, lists, name, list, "vbid_lst.") for name in EVENTS]
        for name, event in zip(EVENTS, events, strict=True):
            if not all(isinstance(verb, str) for verb in event):
                raise FormatError(path, "verb ids must be texts", where, f"vbid_lst.{name}")
        if len(events[0]) < least:
            reason = f"{len(events[0])} annotators, at least {least} expected"
            raise FormatError(path, reason, where, "vbid_lst.Ev1")
        verbs[segment] = events
    return verbs


class _Dictionary:
    """Stand-in for fairseq's `Dictionary` in the official vocabulary pickle."""


def read_vocabulary(path: str | Path) -> list[str]:
    """Read the official verb vocabulary pickle: verb ids by falling frequency, special symbols left out.

    Raises:
        KuleshovError: the pickle asks for anything but fairseq's Dictionary.
        FormatError: it holds no list of symbols.
    """
    loaded = restricted_load(path, {("fairseq.data.dictionary", "Dictionary"): _Dictionary})
    symbols = getattr(loaded, "symbols", None)
    if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
        raise FormatError(path, "not a fairseq Dictionary of verb ids", field="symbols")
    return [symbol for symbol in symbols if symbol not in SPECIAL_SYMBOLS]


def _list_of(path: str | Path, kind: type, what: str) -> list:
    entries = read_json(path)
    if not isinstance(entries, list):
        raise FormatError(path, f"a list of {what} expected, found {kind_of(entries)}")
    for index, entry in enumerate(entries):
        if not isinstance(entry, kind):
            raise FormatError(path, f"{_KINDS[kind]} expected, found {kind_of(entry)}", index)
    return entries


def _field(path: str | Path, where: str | int, record: dict, name: str, kind: type, prefix: str = "") -> Any:
    if name not in record:
        raise FormatError(path, "the field is missing", where, f"{prefix}{name}")
    if not isinstance(record[name], kind):
        reason = f"{_KINDS[kind]} expected, found {kind_of(record[name])}"
        raise FormatError(path, reason, where, f"{prefix}{name}")
    return record[name]


def kind_of(value: Any) -> str:
    """What a value is, in words for a message: its kind, or a short number itself."""
    return _KINDS.get(type(value), f"{value!r:.60}")
