"""One scorer a VidSitu task: references of a split, the official figures, the paper's columns, simple rivals.

The scorers read no prediction file; predictions are given by `ann_idx` in the structures of
`datasets.vidsitu_predictions`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from kuleshov.core.errors import FormatError, KuleshovError
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.datasets.vidsitu_format import EVENTS, NO_RELATION_GIVEN, RELATED_EVENTS, RELATIONS, SPECIAL_SYMBOLS
from kuleshov.metrics import relation_metrics as relations
from kuleshov.metrics import role_metrics as roles
from kuleshov.metrics import verb_metrics as verbs


class Scorer(ABC):
    """What the three tasks share.

    Args:
        data: the annotations.
        split: the split that is scored.
        segments: its segment ids; `ann_idx` counts in it.
    """

    task: ClassVar[str]

    def __init__(self, data: VidSitu, split: str, segments: Sequence[str]) -> None:
        self.data, self.split, self.segments = data, split, list(segments)

    @abstractmethod
    def official(self, predictions: Mapping[int, Any]) -> dict[str, Any]:
        """The official figures, unscaled, over the segments that are predicted."""

    @abstractmethod
    def table(self, official: Mapping[str, Any]) -> dict[str, float]:
        """The paper's columns, per cent."""

    @abstractmethod
    def trivial(self) -> tuple[dict[int, Any], str]:
        """Predictions that look at nothing, for every segment, and what they are in words."""

    @abstractmethod
    def human(self) -> tuple["Scorer", dict[int, Any]]:
        """A scorer, and one annotator's answers as predictions for it."""

    def notes(self, predictions: Mapping[int, Any]) -> list[str]:
        """What a reader of the figures should know; a line each."""
        return []

    def check(self, predictions: Mapping[int, Any]) -> None:
        """Refuse predictions that name something unknown.

        Raises:
            KuleshovError: the first such name.
        """
        return

    def _of_segment(self, found: Mapping[str, Any], number: int) -> Any:
        segment = self.segments[number]
        if segment not in found:
            raise KuleshovError(f"segment {segment} ({self.split} {number}) has no {self.task} annotation")
        return found[segment]


class VerbScorer(Scorer):
    """Verbs: five lists of ranked verb ids a segment."""

    task = "verbs"

    def __init__(self, data: VidSitu, split: str, segments: Sequence[str], annotators: int = verbs.ANNOTATORS) -> None:
        super().__init__(data, split, segments)
        self.annotators = annotators
        self.annotations = data.verbs(split)

    def official(self, predictions: Mapping[int, Any]) -> dict[str, float]:
        numbers = sorted(predictions)
        given = [self._of_segment(self.annotations, number) for number in numbers]
        given = [[event[: self.annotators] for event in events] for events in given]
        return verbs.score_verbs([predictions[number] for number in numbers], given)

    def table(self, official: Mapping[str, Any]) -> dict[str, float]:
        return verbs.verb_table(official)

    def trivial(self) -> tuple[dict[int, Any], str]:
        own = [self.annotations[segment] for segment in self.segments if segment in self.annotations]
        frequent = verbs.frequent_verbs(own)
        words = f"the most frequent verbs of {self.split}: {', '.join(frequent)}"
        return {number: [frequent] * len(EVENTS) for number in range(len(self.segments))}, words

    def human(self) -> tuple["VerbScorer", dict[int, list[list[str]]]]:
        """The tenth annotator against the first nine."""
        last = verbs.ANNOTATORS - 1
        answers = {}
        for number in range(len(self.segments)):
            events = self._of_segment(self.annotations, number)
            if all(len(event) > last for event in events):
                answers[number] = [[event[last]] for event in events]
        return VerbScorer(self.data, self.split, self.segments, last), answers

    def check(self, predictions: Mapping[int, Any]) -> None:
        known = set(SPECIAL_SYMBOLS)
        known.update(verb for events in self.annotations.values() for event in events for verb in event)
        used = {verb for events in predictions.values() for event in events for verb in event}
        if used <= known or used <= (known := known | self.data.known_verbs()):
            return
        for number, events in predictions.items():
            for name, event in zip(EVENTS, events, strict=True):
                for verb in event:
                    if verb not in known:
                        raise KuleshovError(
                            f"unknown verb {verb!r} (ann_idx {number}, {name}): it is neither in the vocabulary nor "
                            "in the annotations"
                        )


class RoleScorer(Scorer):
    """Roles: event -> role -> text a segment."""

    task = "roles"

    def __init__(self, data: VidSitu, split: str, segments: Sequence[str]) -> None:
        super().__init__(data, split, segments)
        self.references = roles.choose_references(self.segments, data.roles(split))

    def official(self, predictions: Mapping[int, Any]) -> dict[str, float]:
        numbers = sorted(predictions)
        chosen = [self.references[number] for number in numbers]
        return roles.score_roles([predictions[number] for number in numbers], chosen)

    def table(self, official: Mapping[str, Any]) -> dict[str, float]:
        return roles.role_table(official)

    def trivial(self) -> tuple[dict[int, Any], str]:
        if self.split != "train" and self.data.has("train"):
            source, given = "train", [many[0] for many in self.data.roles("train").values()]
        else:
            source, given = self.split, [one.annotations[0] for one in self.references]
        texts = roles.frequent_texts(given)
        words = "; ".join(f"{role} {text!r}" for role, text in sorted(texts.items()))
        answers = {}
        for number, one in enumerate(self.references):
            asked = roles.as_prediction(one.annotations[0])
            answers[number] = {
                event: {role: texts[role] for role in given if role in texts} for event, given in asked.items()
            }
        return answers, f"each role's most frequent text of {source}: {words}"

    def human(self) -> tuple["RoleScorer", dict[int, Any]]:
        """Number 3 of the permuted annotations against the references."""
        answers = {
            number: roles.as_prediction(one.human)
            for number, one in enumerate(self.references)
            if one.human is not None
        }
        return self, answers

    def notes(self, predictions: Mapping[int, Any]) -> list[str]:
        absent = sum(EVENTS[0] not in prediction for prediction in predictions.values())
        if not absent:
            return []
        return [f"{absent} prediction(s) without Ev1 are left out of LEA, as the official scorer does"]


class RelationScorer(Scorer):
    """Relations: four lists of labels, one per annotator place, a segment."""

    task = "relations"

    def __init__(self, data: VidSitu, split: str, segments: Sequence[str]) -> None:
        super().__init__(data, split, segments)
        self.annotations = {}
        found = data.annotations(split)
        places = [EVENTS.index(name) for name in RELATED_EVENTS]
        for number, segment in enumerate(self.segments):
            for one in self._of_segment(found, number):
                for name, place in zip(RELATED_EVENTS, places, strict=True):
                    if one[place].relation is None:
                        raise FormatError(data.annotation_file(split), "the field is missing", segment, f"{name}.EvRel")
            self.annotations[segment] = [[one[i].relation for i in places] for one in found[segment]]

    def official(self, predictions: Mapping[int, Any]) -> dict[str, Any]:
        numbers = sorted(predictions)
        given = [self.annotations[self.segments[number]] for number in numbers]
        return relations.score_relations([predictions[number] for number in numbers], given)

    def table(self, official: Mapping[str, Any]) -> dict[str, float]:
        return relations.relation_table(official)

    def trivial(self) -> tuple[dict[int, Any], str]:
        label = relations.frequent_relation([self.annotations[segment] for segment in self.segments])
        answers = {number: self._everywhere([label] * 4, number) for number in range(len(self.segments))}
        return answers, f"the most frequent majority relation of {self.split}: {label}"

    def _everywhere(self, labels: Sequence[str], number: int) -> list[list[str]]:
        """Four labels, each repeated for the annotator places that the segment has."""
        places = min(len(self.annotations[self.segments[number]]), relations.ANNOTATORS)
        return [[label] * places for label in labels]

    def human(self) -> tuple["RelationScorer", dict[int, list[list[str]]]]:
        """The fourth annotation in file order, which the official figures leave out, against the first three."""
        answers = {}
        for number, segment in enumerate(self.segments):
            given = self.annotations[segment]
            if len(given) > relations.ANNOTATORS:
                answers[number] = self._everywhere(given[relations.ANNOTATORS], number)
        return self, answers

    def check(self, predictions: Mapping[int, Any]) -> None:
        known = {*RELATIONS, NO_RELATION_GIVEN}
        known.update(label for many in self.annotations.values() for one in many for label in one)
        for number, events in predictions.items():
            places = min(len(self.annotations[self.segments[number]]), relations.ANNOTATORS)
            for name, labels in zip(RELATED_EVENTS, events, strict=True):
                if len(labels) != places:
                    raise KuleshovError(
                        f"ann_idx {number}, {name}: {len(labels)} labels, expected {places}, one per annotator place"
                    )
                unknown = [label for label in labels if label not in known]
                if unknown:
                    names = ", ".join(RELATIONS)
                    raise KuleshovError(f"unknown relation {unknown[0]!r} (ann_idx {number}, {name}), expected {names}")

    def notes(self, predictions: Mapping[int, Any]) -> list[str]:
        masked = relations.masked_labels([self.annotations[self.segments[number]] for number in predictions])
        return [
            f"{label!r} is the majority only where annotators tie: left out of the macro mean (the official "
            "scorer divides by zero here)"
            for label in masked
        ]


SCORERS: dict[str, type[Scorer]] = {scorer.task: scorer for scorer in (VerbScorer, RoleScorer, RelationScorer)}
