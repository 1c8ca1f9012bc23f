"""Event features with the events' roles as tokens."""

from typing import Any

import torch
from torch import Tensor

from kuleshov.core.errors import KuleshovError
from kuleshov.datasets.vidsitu_format import Annotation
from kuleshov.datasets.vidsitu_predictions import read_predictions
from kuleshov.tasks.roles.tokens import RoleTokens
from kuleshov.tasks.segment_data import SegmentData


class RoleData(SegmentData):
    """VidSitu's segments with their roles.

    Training batches bring `tokens` (B, 5, L) long, padded; the others `verbs` (B, 5) long, the tokens of the
    verbs that are given to the decoder.

    Args:
        vocabulary_size: byte pairs learned from the training texts, at most.
        tokens: a vocabulary of an earlier run (`tokens.json`), instead of learning one.
        gpt2: folder with GPT-2's `vocab.json` and `merges.txt`, to use its byte pairs instead.
        longest: greatest number of tokens of an event in training, the verb and the end included.
        verb_predictions: file of predicted verbs (the official structure) for the reported split; by default the
            annotators' verbs are given, as the benchmark does.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int = 8000,
        tokens: str | None = None,
        gpt2: str | None = None,
        longest: int = 60,
        verb_predictions: str | None = None,
        **shared,
    ) -> None:
        super().__init__(**shared)
        if tokens is not None and gpt2 is not None:
            raise KuleshovError("tokens and gpt2 both name a vocabulary: give one of them")
        self.vocabulary_size, self.tokens_file, self.gpt2 = vocabulary_size, tokens, gpt2
        self.longest, self.verb_predictions = longest, verb_predictions

    def prepare(self) -> None:
        """Learn or read the tokens."""
        annotated = self.annotations.roles(self.train_split)
        events = [event for name in self.train_ids for event in annotated[name][0]]
        texts = [text for event in events for _, text in event.roles]
        verbs = {event.verb for event in events}
        roles = {role for event in events for role, _ in event.roles}
        if self.tokens_file is not None:
            self.tokens = RoleTokens.load(self.tokens_file)
        elif self.gpt2 is not None:
            self.tokens = RoleTokens.gpt2(self.gpt2, verbs, roles)
        else:
            self.tokens = RoleTokens.train(texts, verbs, roles, self.vocabulary_size)

    def facts(self) -> dict[str, Any]:
        """Feature width, the vocabulary, and the longest training sequence."""
        return {**super().facts(), "tokens": self.tokens.to_text(), "longest": self.longest}

    def train_targets(self, ids: list[str]) -> dict[str, Tensor]:
        """The first annotator's verbs and roles as tokens."""
        annotated = self.annotations.roles(self.train_split)
        return {"tokens": encode(self.tokens, [annotated[name][0] for name in ids], self.longest)}

    def test_targets(self, ids: list[str]) -> dict[str, Tensor]:
        """The verbs that are given."""
        self.given_verbs = self._given_verbs(ids)
        rows = [[self.tokens.verb(verb) for verb in self.given_verbs[name]] for name in ids]
        return {"verbs": torch.tensor(rows)}

    def _given_verbs(self, ids: list[str]) -> dict[str, list[str]]:
        if self.verb_predictions is None:
            annotated = self.annotations.annotations(self.split)
            return {name: [event.verb for event in annotated[name][0]] for name in ids}
        read = read_predictions(self.verb_predictions, "verbs", len(self.split_ids))
        predicted = {self.split_ids[i]: [event[0] for event in events] for i, events in read.items()}
        missing = [name for name in ids if name not in predicted]
        if missing:
            raise KuleshovError(
                f"{self.verb_predictions} has no verbs for {len(missing)} of {len(ids)} segments "
                f"(first {missing[0]}): predict them for the whole split"
            )
        return {name: predicted[name] for name in ids}


def encode(tokens: RoleTokens, annotations: list[Annotation], longest: int) -> Tensor:
    """Token ids (S, 5, L) of annotations, padded to the longest event."""
    rows = [[tokens.encode(e.verb, dict(e.roles), longest) for e in events] for events in annotations]
    width = max(len(row) for events in rows for row in events)
    padded = [[row + [tokens.pad] * (width - len(row)) for row in events] for events in rows]
    return torch.tensor(padded)
