"""One scorer a VidSitu task: references of a split, the official figures, the paper's columns, trivial baselines.

The scorers read no prediction file; predictions are given by `ann_idx` in the structures of
`datasets.vidsitu_predictions`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from kuleshov.core.errors import FormatError, KuleshovError
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.datasets.vidsitu_format import EVENTS, NO_RELATION_GIVEN, RELATED_EVENTS, RELATIONS, SPECIAL_SYMBOLS
from kuleshov.metrics import relation_metrics as relations
from kuleshov.metrics import role_metrics as roles
from kuleshov.metrics import verb_metrics as verbs

Draw = Literal["listed", "whole"]
NAMED = 5  # unknown names that a note lists


class Scorer(ABC):
    """What the three tasks share.

    Attributes:
        score: (predictions, references), a segment each -> the official figures, unscaled.
        columns: the paper's columns -> the official figures that they show.

    Args:
        data: the annotations.
        split: the split that is scored.
        segments: its segment ids; `ann_idx` counts in it.
    """

    task: ClassVar[str]
    score: ClassVar[Callable[..., dict[str, Any]]]
    columns: ClassVar[Mapping[str, str]]

    def __init__(self, data: VidSitu, split: str, segments: Sequence[str]) -> None:
        self.data, self.split, self.segments = data, split, list(segments)

    @abstractmethod
    def reference(self, number: int) -> Any:
        """What the prediction of segment `number` is compared with."""

    def official(self, predictions: Mapping[int, Any], **options: bool) -> dict[str, Any]:
        """The official figures, unscaled, over the segments that are predicted."""
        numbers = sorted(predictions)
        return self.score([predictions[n] for n in numbers], [self.reference(n) for n in numbers], **options)

    def table(self, figures: Mapping[str, Any]) -> dict[str, float]:
        """The paper's columns that official figures hold, per cent."""
        return {name: 100.0 * figures[official] for name, official in self.columns.items() if official in figures}

    def headline(self, predictions: Mapping[int, Any]) -> dict[str, float]:
        """The paper's columns that are quickly made, per cent: for validation during training."""
        return self.table(self.official(predictions))

    @abstractmethod
    def trivial(self) -> tuple[dict[int, Any], str]:
        """Predictions that look at nothing, for every segment, and what they are in words."""

    @abstractmethod
    def human(self) -> tuple["Scorer", dict[int, Any]]:
        """A scorer, and one annotator's answers as predictions for it."""

    @abstractmethod
    def notes(self, predictions: Mapping[int, Any]) -> list[str]:
        """What a reader of the figures should know; a line each."""

    def check(self, predictions: Mapping[int, Any]) -> None:
        """Refuse predictions that have another form than the annotations.

        Raises:
            KuleshovError: the first such prediction.
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
    score, columns = staticmethod(verbs.score_verbs), verbs.COLUMNS

    def __init__(self, data: VidSitu, split: str, segments: Sequence[str], annotators: int = verbs.ANNOTATORS) -> None:
        super().__init__(data, split, segments)
        self.annotators = annotators
        self.annotations = data.verbs(split)

    def reference(self, number: int) -> list[list[str]]:
        return [event[: self.annotators] for event in self._of_segment(self.annotations, number)]

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

    def notes(self, predictions: Mapping[int, Any]) -> list[str]:
        known = {verb for events in self.annotations.values() for event in events for verb in event}
        if not {verb for events in predictions.values() for event in events for verb in event} <= known:
            known |= self.data.known_verbs() | set(SPECIAL_SYMBOLS)
        return unknown_names(predictions, EVENTS, known, "verb")


class RoleScorer(Scorer):
    """Roles: event -> role -> text a segment.

    Args:
        data, split, segments: see `Scorer`.
        draw: over which segments the references are drawn: those that are `listed`, as the official code does of the
            list that it is given, or the `whole` split, so that a shorter list keeps the references of the whole.
    """

    task = "roles"
    score, columns = staticmethod(roles.score_roles), roles.COLUMNS

    def __init__(self, data: VidSitu, split: str, segments: Sequence[str], draw: Draw = "listed") -> None:
        super().__init__(data, split, segments)
        drawn_over = data.segments(split) if draw == "whole" else None
        self.references = roles.choose_references(self.segments, data.roles(split), drawn_over)

    def reference(self, number: int) -> roles.References:
        return self.references[number]

    def headline(self, predictions: Mapping[int, Any]) -> dict[str, float]:
        """CIDEr, ROUGE-L, LEA and LEA-soft."""
        return self.table(self.official(predictions, headline=True))

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
        spared = {number: one.human for number, one in enumerate(self.references) if one.human is not None}
        return self, {number: roles.as_prediction(annotation) for number, annotation in spared.items()}

    def notes(self, predictions: Mapping[int, Any]) -> list[str]:
        absent = sum(EVENTS[0] not in prediction for prediction in predictions.values())
        left_out = f"{absent} prediction(s) without Ev1 are left out of LEA, as the official scorer does"
        return [left_out] if absent else []


class RelationScorer(Scorer):
    """Relations: four lists of labels, one per annotator place, a segment."""

    task = "relations"
    score, columns = staticmethod(relations.score_relations), relations.COLUMNS

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

    def reference(self, number: int) -> list[list[str]]:
        return self.annotations[self.segments[number]]

    def trivial(self) -> tuple[dict[int, Any], str]:
        label = relations.frequent_relation([self.annotations[segment] for segment in self.segments])
        answers = {number: self._everywhere([label] * 4, number) for number in range(len(self.segments))}
        return answers, f"the most frequent majority relation of {self.split}: {label}"

    def _everywhere(self, labels: Sequence[str], number: int) -> list[list[str]]:
        """Four labels, each repeated for the annotator places that the segment has."""
        return [[label] * len(self.reference(number)[: relations.ANNOTATORS]) for label in labels]

    def human(self) -> tuple["RelationScorer", dict[int, list[list[str]]]]:
        """The fourth annotation in file order, which the official figures leave out, against the first three."""
        given = {number: self.reference(number) for number in range(len(self.segments))}
        last = relations.ANNOTATORS
        return self, {n: self._everywhere(many[last], n) for n, many in given.items() if len(many) > last}

    def check(self, predictions: Mapping[int, Any]) -> None:
        for number, events in predictions.items():
            places = len(self.reference(number)[: relations.ANNOTATORS])
            for name, labels in zip(RELATED_EVENTS, events, strict=True):
                if len(labels) != places:
                    raise KuleshovError(
                        f"ann_idx {number}, {name}: {len(labels)} labels, expected {places}, one per annotator place"
                    )

    def notes(self, predictions: Mapping[int, Any]) -> list[str]:
        known = {label for many in self.annotations.values() for one in many for label in one}
        notes = unknown_names(predictions, RELATED_EVENTS, known | {*RELATIONS, NO_RELATION_GIVEN}, "relation")
        return notes + [
            f"{label!r} is the majority only where annotators tie: left out of the macro mean (the official "
            "scorer divides by zero here)"
            for label in relations.masked_labels([self.reference(number) for number in predictions])
        ]


def unknown_names(
    predictions: Mapping[int, Sequence[Sequence[str]]], events: Sequence[str], known: set[str], what: str
) -> list[str]:
    """A note on predicted names that are not known: how many, and where the first ones are; none without any."""
    unknown = [
        (name, f"ann_idx {number}, {event}")
        for number, lists in predictions.items()
        for event, names in zip(events, lists, strict=True)
        for name in names
        if name not in known
    ]
    places: dict[str, str] = {}
    for name, place in unknown:
        places.setdefault(name, place)
    named = ", ".join(f"{name!r} ({place})" for name, place in list(places.items())[:NAMED])
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    note = f"{len(unknown)} predicted {what}(s) are not in the vocabulary and count as misses: {named}{more}"
    return [note] if unknown else []


SCORERS: dict[str, type[Scorer]] = {scorer.task: scorer for scorer in (VerbScorer, RoleScorer, RelationScorer)}
