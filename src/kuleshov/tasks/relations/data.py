"""Event features with the relations of the events to the third one."""

from typing import Any

import torch
from torch import Tensor

from kuleshov.core.errors import FormatError
from kuleshov.datasets.vidsitu_format import NO_RELATION_GIVEN, RELATIONS
from kuleshov.metrics.relation_metrics import ANNOTATORS
from kuleshov.tasks.segment_data import SegmentData


class RelationData(SegmentData):
    """VidSitu's segments with `relations` (B, 4) long of Ev1, Ev2, Ev4, Ev5 to Ev3, -1 where none is given."""

    def facts(self) -> dict[str, Any]:
        """Feature width, and how often each relation occurs in training."""
        labels = self.train_rows.tensors["relations"]
        counts = torch.bincount(labels[labels >= 0], minlength=len(RELATIONS))
        return {**super().facts(), "relation_counts": counts.tolist()}

    def train_targets(self, ids: list[str]) -> dict[str, Tensor]:
        """The first annotator's relations.

        Raises:
            FormatError: a relation that VidSitu does not have.
        """
        number = {name: i for i, name in enumerate(RELATIONS)} | {NO_RELATION_GIVEN: -1}
        annotated = self.annotations.relations(self.train_split)
        rows = []
        for name in ids:
            for label in annotated[name][0]:
                if label not in number:
                    file = self.annotations.annotation_file(self.train_split)
                    raise FormatError(file, f"unknown relation {label!r}", record=name, field="EvRel")
            rows.append([number[label] for label in annotated[name][0]])
        return {"relations": torch.tensor(rows)}

    def test_targets(self, ids: list[str]) -> dict[str, Tensor]:
        """Nothing in the batches; `places` says how many annotators' places an answer has."""
        annotated = self.annotations.relations(self.split)
        self.places = {name: min(len(annotated[name]), ANNOTATORS) for name in ids}
        return {}
