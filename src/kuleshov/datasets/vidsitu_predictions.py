"""VidSitu's official prediction files: lists of one record a segment, in JSON or as the official pickles.

verbs: `pred_vbs_ev` (five lists of ranked verb ids) and `pred_scores_ev`; roles: `vb_output` (event -> `vb_id` and
role -> text); relations: `pred_evrels_ev` (four lists, Ev1 Ev2 Ev4 Ev5 against Ev3, of one label per annotator
place) and `pred_scores_ev`. `ann_idx` counts in the split file.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError
from kuleshov.core.files import read_json, write_atomic
from kuleshov.core.unpickle import restricted_load
from kuleshov.datasets.vidsitu_format import EVENTS, RELATED_EVENTS, ROLES, kind_of

RANKS = 5
ANNOTATORS = 3
# the official decoder writes "" for text before the first role tag, and knows a tag `Vb`
_ROLE_KEYS = frozenset((*ROLES, "vb_id", "Vb", ""))


def read_predictions(path: str | Path, task: str, segments: int) -> dict[int, Any]:
    """Read and check a prediction file: `ann_idx` -> what was predicted; the first of repeated entries counts.

    Args:
        path: JSON, or a pickle of plain containers.
        task: `verbs` (five lists of at most five verb ids), `roles` (event -> role -> text) or `relations`
            (four lists of labels).
        segments: number of segments in the split.

    Raises:
        MissingDataError: no such file.
        FormatError: a record the official code would refuse, or that names an unknown event or role.
        KuleshovError: a pickle that asks for anything but plain data.
    """
    records = _load(Path(path))
    if not isinstance(records, list | tuple):
        raise FormatError(path, f"a list of records expected, found {kind_of(records)}")
    field, check = _FIELDS[task]
    predictions: dict[int, Any] = {}
    for index, record in enumerate(records):
        number = _number(path, index, record, segments)
        if number in predictions:
            continue
        where = f"{index} (ann_idx {number})"
        if field not in record:
            raise FormatError(path, "the field is missing", where, field)
        try:
            predictions[number] = check(record[field])
        except ValueError as error:
            raise FormatError(path, str(error), where, field) from error
    return predictions


def write_predictions(
    path: str | Path,
    task: str,
    predictions: Mapping[str, Any],
    segments: Sequence[str],
    scores: Mapping[str, Any] | None = None,
) -> None:
    """Write predictions in the official structure, in split order; JSON, or a pickle where `path` ends in .pkl.

    Args:
        path: the file.
        task: `verbs`, `roles` or `relations`.
        predictions: segment id -> five lists of ranked verb ids; or event -> {`vb_id`, role: text}; or four
            labels, of which each is repeated for the three annotator places (or four lists of labels).
        segments: the split's segment ids; `ann_idx` counts in it.
        scores: segment id -> scores in the same nesting, where there are some.

    Raises:
        KuleshovError: a segment that the split does not hold.
    """
    places = {segment: number for number, segment in enumerate(segments)}
    unknown = [segment for segment in predictions if segment not in places]
    if unknown:
        raise KuleshovError(f"prediction for {unknown[0]}, which is not in the split of {len(places)} segments")
    records = []
    for segment in sorted(predictions, key=places.__getitem__):
        value = predictions[segment]
        if task == "relations":
            value = [[label] * ANNOTATORS if isinstance(label, str) else list(label) for label in value]
        record = {"ann_idx": places[segment], _FIELDS[task][0]: value}
        if scores is not None:
            record["pred_scores_ev"] = scores[segment]
        records.append(record)
    if Path(path).suffix == ".pkl":
        write_atomic(path, pickle.dumps(records, protocol=4))
    else:
        write_atomic(path, json.dumps(records, ensure_ascii=False, indent=1) + "\n")


def _load(path: Path) -> Any:
    if not path.is_file():
        raise MissingDataError("prediction file", path.absolute(), "check the path")
    with path.open("rb") as file:
        pickled = file.read(1) == b"\x80" or path.suffix in (".pkl", ".pickle")
    return restricted_load(path) if pickled else read_json(path)


def _number(path: str | Path, index: int, record: Any, segments: int) -> int:
    if not isinstance(record, Mapping):
        raise FormatError(path, f"an object expected, found {kind_of(record)}", index)
    if "ann_idx" not in record:
        raise FormatError(path, "the field is missing", index, "ann_idx")
    number = record["ann_idx"]
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise FormatError(path, f"a whole number expected, found {number!r}", index, "ann_idx")
    if not 0 <= number < segments:
        reason = f"{int(number)} is not one of the split's segments 0 to {segments - 1}"
        raise FormatError(path, reason, index, "ann_idx")
    return int(number)


def _lists(value: Any, names: Sequence[str]) -> list[list[str]]:
    """A list of one list of texts an event; raises a ValueError of what is wrong."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(value, list | tuple):
        raise ValueError(f"a list of {len(names)} lists expected, found {value!r:.60}")
    if len(value) != len(names):
        raise ValueError(f"wrong number of events: {len(value)}, expected {len(names)} ({', '.join(names)})")
    events = [event.tolist() if hasattr(event, "tolist") else event for event in value]
    for name, event in zip(names, events, strict=True):
        if not isinstance(event, list | tuple):
            raise ValueError(f"{name}: a list expected, found {event!r:.60}")
        wrong = [entry for entry in event if not isinstance(entry, str)]
        if wrong:
            raise ValueError(f"{name}: a text expected, found {wrong[0]!r:.60}")
    return [[str(entry) for entry in event] for event in events]


def _verbs(value: Any) -> list[list[str]]:
    return [event[:RANKS] for event in _lists(value, EVENTS)]


def _relations(value: Any) -> list[list[str]]:
    return _lists(value, RELATED_EVENTS)


def _roles(value: Any) -> dict[str, dict[str, str]]:
    if not isinstance(value, Mapping):
        raise ValueError(f"an object expected, found {value!r:.60}")
    for name, roles in value.items():
        if name not in EVENTS:
            raise ValueError(f"unknown event {name!r}, expected Ev1 to Ev5")
        if not isinstance(roles, Mapping):
            raise ValueError(f"{name}: an object expected, found {roles!r:.60}")
        for role, text in roles.items():
            if role not in _ROLE_KEYS:
                raise ValueError(f"{name}: unknown role {role!r}, expected {', '.join(ROLES)}")
            if not isinstance(text, str):
                raise ValueError(f"{name}.{role}: a text expected, found {text!r:.60}")
    return {name: {role: str(text) for role, text in roles.items()} for name, roles in value.items()}


# task -> the field of a record, and what checks its value
_FIELDS = {
    "verbs": ("pred_vbs_ev", _verbs),
    "roles": ("vb_output", _roles),
    "relations": ("pred_evrels_ev", _relations),
}
