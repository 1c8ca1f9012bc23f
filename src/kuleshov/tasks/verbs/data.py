"""Event features with their verbs."""

from typing import Any

import torch
from torch import Tensor

from kuleshov.tasks.segment_data import SegmentData
from kuleshov.tasks.verbs.offscreen import read_offscreen


class VerbData(SegmentData):
    """VidSitu's segments with the verb of every event: `verbs` (B, 5) long, -1 outside the vocabulary.

    Args:
        offscreen_file: JSON, segment id -> five truth values, which events happen off screen; of the generated
            world by default, where it lies beside the annotations.
    """

    def __init__(self, *, offscreen_file: str | None = None, **shared) -> None:
        super().__init__(**shared)
        self.offscreen_file = offscreen_file

    def prepare(self) -> None:
        """Read the verb vocabulary."""
        self.verbs = self.annotations.vocabulary()
        self.offscreen = read_offscreen(self.root, self.offscreen_file)

    def facts(self) -> dict[str, Any]:
        """Feature width and verbs."""
        return {**super().facts(), "verbs": self.verbs}

    def train_targets(self, ids: list[str]) -> dict[str, Tensor]:
        """The first annotator's verbs."""
        number = {verb: i for i, verb in enumerate(self.verbs)}
        annotated = self.annotations.verbs(self.train_split)
        rows = [[number.get(event[0], -1) for event in annotated[name]] for name in ids]
        return {"verbs": torch.tensor(rows)}
