"""Semantic roles: TxD writes each event's roles from its (contextualized) feature."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError
from kuleshov.datasets.vidsitu_format import EVENTS
from kuleshov.tasks.context_task import ContextTask
from kuleshov.tasks.roles.decoding import write
from kuleshov.tasks.roles.gpt2 import Gpt2Writer
from kuleshov.tasks.roles.tokens import RoleTokens
from kuleshov.tasks.roles.txd import RoleDecoder, next_token_loss
from kuleshov.txe.contextualizer import ContextKind


class RolesFromEvents(ContextTask):
    """Writes the semantic roles of each event, its verb given.

    Args:
        context: `none`, `scratch` or `pretrained`, or `language`: no visual memory at all.
        decoder_width: TxD's width.
        decoder_layers: TxD's layers.
        decoder_heads: TxD's attention heads.
        decoder_feedforward: TxD's feed-forward width.
        decoder_dropout: TxD's dropout.
        bottleneck: width between TxD and the vocabulary; 0 for none.
        memory_events: 1, an event's description attends to its own feature; 5, to all five.
        gpt2: folder of a pretrained GPT-2 that takes TxD's place; only with `language`.
        beam: hypotheses an event; 1 is greedy.
        longest_output: greatest number of tokens written for an event.
        length_penalty: exponent of the length by which log-probabilities are divided.
    """

    task = "roles"

    def __init__(
        self,
        *,
        context: ContextKind | Literal["language"] = "none",
        decoder_width: int = 1024,
        decoder_layers: int = 3,
        decoder_heads: int = 8,
        decoder_feedforward: int = 2048,
        decoder_dropout: float = 0.1,
        bottleneck: int = 512,
        memory_events: Literal[1, 5] = 1,
        gpt2: str | None = None,
        beam: int = 1,
        longest_output: int = 60,
        length_penalty: float = 1.0,
        **shared,
    ) -> None:
        super().__init__(context=context, **shared)
        if gpt2 is not None and context != "language":
            raise KuleshovError(f"gpt2 sees no video: it goes with context=language, not {context}")
        self.decoder_sizes = {
            "width": decoder_width,
            "layers": decoder_layers,
            "heads": decoder_heads,
            "feedforward": decoder_feedforward,
            "dropout": decoder_dropout,
            "bottleneck": bottleneck,
            "events": memory_events,
        }
        self.gpt2 = gpt2
        self.beam, self.longest_output, self.length_penalty = beam, longest_output, length_penalty
        self.decoder: nn.Module | None = None

    @property
    def row(self) -> str:
        """The table's row that this training belongs to."""
        return "gpt2" if self.gpt2 is not None else super().row

    def build(self, width: int | None) -> None:
        """Make the decoder for the data's vocabulary."""
        self.tokens = RoleTokens.from_text(self.facts["tokens"])
        if self.gpt2 is not None:
            self.decoder = Gpt2Writer(self.gpt2, len(self.tokens))
        else:
            longest = max(self.longest_output, self.facts["longest"]) + 1
            self.decoder = RoleDecoder(len(self.tokens), width, longest=longest, **self.decoder_sizes)

    def on_fit_start(self) -> None:
        """Save the vocabulary with the run."""
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:
            self.tokens.save(Path(self.trainer.default_root_dir) / "tokens.json")

    def _memory(self, events: Tensor) -> Tensor | None:
        if self.contextualizer is None:
            return None
        return self.decoder.memories(self.contextualizer(events))

    def forward(self, events: Tensor, tokens: Tensor) -> Tensor:
        """Event features (B, N, D) and tokens (B, N, L) -> next-token scores (B * N, L, V)."""
        return self.decoder(tokens.flatten(0, 1), self._memory(events))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of the tokens after the verb; each is predicted from the true ones before it."""
        tokens = batch["tokens"]
        longest = int((tokens != self.tokens.pad).sum(-1).max())  # shorter batches need no padding
        tokens = tokens[..., :longest]
        return next_token_loss(self(batch["events"], tokens), tokens.flatten(0, 1), self.tokens.pad)

    def predict(self, batch: dict[str, Tensor]) -> list[Any]:
        """{event: {"vb_id": verb, role: text}} for each segment."""
        texts = self._write(batch["verbs"].flatten(), self._memory(batch["events"]))
        data = self.trainer.datamodule
        predicted = []
        for row, place in enumerate(batch["place"].tolist()):
            verbs = data.given_verbs[data.test_ids[place]]
            roles = texts[row * len(EVENTS) : (row + 1) * len(EVENTS)]
            events = zip(EVENTS, verbs, roles, strict=True)
            predicted.append({event: {"vb_id": verb, **text} for event, verb, text in events})
        return predicted

    def _write(self, verbs: Tensor, memory: Tensor | None) -> list[dict[str, str]]:
        written = write(
            self.decoder,
            verbs,
            memory,
            end=self.tokens.end,
            pad=self.tokens.pad,
            never=self.tokens.never_written,
            beam=self.beam,
            longest=self.longest_output,
            length_penalty=self.length_penalty,
        )
        return [self.tokens.decode(ids) for ids in written.tokens.tolist()]

    @torch.inference_mode()
    def write_roles(self, events: Tensor, verbs: list[str]) -> list[dict[str, str]]:
        """{role: text} of five events, their verbs given.

        Args:
            events: (5, D) features.
            verbs: five verb ids.
        """
        given = torch.tensor([self.tokens.verb(verb) for verb in verbs], device=events.device)
        return self._write(given, self._memory(events.unsqueeze(0)))
