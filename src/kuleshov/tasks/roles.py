"""VidSitu's semantic roles: TxD writes each event's roles from its (contextualized) feature, the verb given."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import write_atomic
from kuleshov.datasets.vidsitu_format import EVENTS
from kuleshov.datasets.vidsitu_predictions import read_predictions
from kuleshov.metrics.vidsitu_scorers import Draw
from kuleshov.tasks.beam_search import beam_search
from kuleshov.tasks.event_task import EventTask
from kuleshov.tasks.gpt2 import Gpt2Decoder
from kuleshov.tasks.pictures import roles_table
from kuleshov.tasks.role_decoder import RoleDecoder, next_token_loss
from kuleshov.tasks.role_decoder import event_mlp as mlp
from kuleshov.tasks.role_tokens import RoleTokens
from kuleshov.tasks.segment_data import SegmentData, SegmentTask
from kuleshov.txe.contextualizer import ContextKind
from kuleshov.video.video_file import evenly

SHOWN = 8  # segments whose texts TensorBoard shows
SHARE = 16


def _texts(written: dict[str, str]) -> dict[str, str]:
    return {role: text for role, text in written.items() if role != "vb_id"}


class RoleTask(SegmentTask, EventTask):
    """Writes the semantic roles of each event, its verb given.

    Args:
        context: `none`, `scratch` or `pretrained`, or `language`: no visual memory at all.
        decoder_width: TxD's width.
        decoder_layers: TxD's layers.
        decoder_heads: TxD's attention heads.
        decoder_feedforward: TxD's feed-forward width.
        decoder_dropout: TxD's dropout.
        bottleneck: width between TxD and the vocabulary; 0 for none.
        event_mlp: where features pass an MLP: `after` the context, on the way to TxD, or as the official code has it
            `before` a TxE from scratch, and nowhere with a pretrained one, which has its own projection.
        memory_events: 1, an event's description attends to its own feature; 5, to all five.
        gpt2: folder of a pretrained GPT-2 that takes TxD's place; only with `language`.
        beam: hypotheses an event; 1 is greedy.
        longest_output: greatest number of tokens written for an event.
        length_penalty: exponent of the length by which log-probabilities are divided.
    """

    task, target = "roles", "tokens"

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
        event_mlp: Literal["after", "before"] = "after",
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
        if event_mlp == "before" and context == "scratch" and self.hparams.feature_normalization not in (None, "none"):
            raise KuleshovError("event_mlp=before gives TxE what it has learned: set feature_normalization to none")

    @property
    def row(self) -> str:
        return self.hparams.row or ("gpt2" if self.hparams.gpt2 is not None else super().row)

    def embed(self, width: int) -> int:
        """The official MLP before a TxE from scratch."""
        self.before = None
        if self.hparams.event_mlp == "after" or self.hparams.context != "scratch":
            return width
        self.before = mlp(width, self.hparams.decoder_width)
        return self.hparams.decoder_width

    def build(self, width: int | None) -> None:
        given = self.hparams
        self.tokens = RoleTokens.from_text(self.facts["tokens"])
        if given.gpt2 is not None:
            self.decoder = Gpt2Decoder(given.gpt2, len(self.tokens))
            return
        sizes = {name: given[f"decoder_{name}"] for name in ("width", "layers", "heads", "feedforward", "dropout")}
        sizes |= {"bottleneck": given.bottleneck, "events": given.memory_events}
        sizes["mlp"] = given.event_mlp == "after" or given.context == "none"
        longest = max(given.longest_output, self.facts["longest"]) + 1
        self.decoder = RoleDecoder(len(self.tokens), width, longest=longest, **sizes)

    def on_fit_start(self) -> None:
        """Save the vocabulary with the run."""
        if self.trainer.is_global_zero and not self.trainer.fast_dev_run:
            write_atomic(Path(self.trainer.default_root_dir) / "tokens.json", self.tokens.to_text())

    def memory_of(self, events: Tensor) -> Tensor | None:
        """What the decoder attends to for events (B, N, D): (B * N, M, width), or None."""
        if self.contextualizer is None:
            return None
        return self.decoder.memories(self.contextualizer(events if self.before is None else self.before(events)))

    def forward(self, events: Tensor, tokens: Tensor) -> Tensor:
        """Event features (B, N, D) and tokens (B, N, L) -> next-token logits (B * N, L, V)."""
        return self.decoder(tokens.flatten(0, 1), self.memory_of(events))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of the tokens after the verb; each is predicted from the true ones before it."""
        tokens = batch["tokens"]
        tokens = tokens[..., : int((tokens != self.tokens.pad).sum(-1).max())]  # shorter batches need no padding
        return next_token_loss(self(batch["events"], tokens), tokens.flatten(0, 1), self.tokens.pad)

    def validation_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """By parts of `SHARE` segments: logits of all tokens over the vocabulary fill the memory."""
        events, tokens = batch["events"].split(SHARE), batch["tokens"].split(SHARE)
        losses = [self.loss({"events": e, "tokens": t}) * len(t) for e, t in zip(events, tokens, strict=True)]
        return torch.stack(losses).sum() / len(batch["tokens"])

    def answer(self, batch: dict[str, Tensor]) -> Tensor:
        """The tokens written for each event, (B, 5, longest_output) long, padded."""
        return self.write(batch["verbs"], self.memory_of(batch["events"]))

    def write(self, verbs: Tensor, memory: Tensor | None) -> Tensor:
        """The tokens that follow verbs (B, N): (B, N, longest_output)."""
        given, tokens = self.hparams, self.tokens
        ids = {"end": tokens.end, "pad": tokens.pad, "never": tokens.never_written}
        search = {"beam": given.beam, "longest": given.longest_output, "length_penalty": given.length_penalty}
        written, _ = beam_search(self.decoder, verbs.flatten(), memory, **ids, **search)
        return written.unflatten(0, verbs.shape)

    def decode(self, sample_ids: list[str], answers: Tensor) -> dict[str, Any]:
        """{event: {"vb_id": verb, role: text}} for each segment."""
        decoded: dict[str, Any] = {}
        for name, segment in zip(sample_ids, answers.tolist(), strict=True):
            events = zip(EVENTS, self.trainer.datamodule.given_verbs[name], segment, strict=True)
            decoded[name] = {event: {"vb_id": verb, **self.tokens.decode(ids)} for event, verb, ids in events}
        return decoded

    def show(self, predicted: dict[str, Any], board: Any) -> None:
        """The roles written for some segments, evenly chosen, beside the first annotator's."""
        annotated = self.trainer.datamodule.annotations.roles(self.trainer.datamodule.split)
        events = [
            (f"{name} {event}", written["vb_id"], _texts(written), dict(given.roles))
            for name in evenly(list(predicted), SHOWN)
            for (event, written), given in zip(predicted[name].items(), annotated[name][0], strict=True)
        ]
        board.add_text("test/roles", roles_table(events), self.global_step)

    @torch.inference_mode()
    def write_roles(self, events: Tensor, verbs: list[str]) -> list[dict[str, str]]:
        """{role: text} of five events (5, D), their five verb ids given."""
        given = torch.tensor([[self.tokens.verb(verb) for verb in verbs]], device=events.device)
        return [self.tokens.decode(ids) for ids in self.write(given, self.memory_of(events.unsqueeze(0)))[0].tolist()]


class RoleData(SegmentData):
    """VidSitu's event features with their roles.

    Training batches bring `tokens` (B, 5, L) long, padded; the others `verbs` (B, 5) long, the tokens of the
    verbs that are given to the decoder.

    Args:
        vocabulary_size: byte pairs learned from the training texts, at most.
        tokens: a vocabulary of an earlier run (`tokens.json`), instead of learning one.
        gpt2: folder with GPT-2's `vocab.json` and `merges.txt`, to use its byte pairs instead.
        longest: greatest number of tokens of an event in training, the verb and the end included.
        role_order: order of an event's roles in training: one for `all` events, or that in which its verb `lists` its
            arguments (the official code's).
        verb_predictions: file of predicted verbs (the official structure) for the reported split; by default the
            annotators' verbs are given, as the benchmark does.
        draw: draw the references over the `listed` segments (`split_file`), as the official code does, or over the
            `whole` split.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int = 8000,
        tokens: str | None = None,
        gpt2: str | None = None,
        longest: int = 60,
        role_order: Literal["all", "lists"] = "all",
        verb_predictions: str | None = None,
        draw: Draw = "listed",
        **shared,
    ) -> None:
        super().__init__(**shared)
        self.scoring = {"draw": draw}
        if tokens is not None and gpt2 is not None:
            raise KuleshovError("tokens and gpt2 both name a vocabulary: give one of them")
        self.vocabulary_size, self.tokens_file, self.gpt2 = vocabulary_size, tokens, gpt2
        self.longest, self.verb_predictions, self.role_order = longest, verb_predictions, role_order

    def prepare(self) -> None:
        if self.tokens_file is not None:
            self.tokens = RoleTokens.load(self.tokens_file)
            return
        annotated = self.annotated(self.annotations.roles, self.train_ids, self.train_split)
        events = [event for name in self.train_ids for event in annotated[name][0]]
        verbs, roles = {event.verb for event in events}, {role for event in events for role, _ in event.roles}
        if self.gpt2 is not None:
            self.tokens = RoleTokens.gpt2(self.gpt2, verbs, roles)
        else:
            texts = [text for event in events for _, text in event.roles]
            self.tokens = RoleTokens.train(texts, verbs, roles, self.vocabulary_size)

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "tokens": self.tokens.to_text(), "longest": self.longest}

    def targets(self, ids: list[str], split: str) -> dict[str, Tensor]:
        """The first annotator's verbs and roles as tokens, padded to the longest event."""
        annotated = self.annotated(self.annotations.roles, ids, split)
        sort, events = self.role_order == "all", [event for name in ids for event in annotated[name][0]]
        rows = [self.tokens.encode(event.verb, dict(event.roles), self.longest, sort) for event in events]
        padded = pad_sequence(list(map(torch.tensor, rows)), batch_first=True, padding_value=self.tokens.pad)
        return {"tokens": padded.unflatten(0, (-1, len(EVENTS)))}

    def given(self, ids: list[str]) -> dict[str, Tensor]:
        """The verbs that are given.

        Raises:
            KuleshovError: neither the split nor a file of predictions names the verbs of all segments.
        """
        if self.verb_predictions is None:
            source, annotated = self.split, self.annotations.annotations(self.split)
            known = {name: [event.verb for event in many[0]] for name, many in annotated.items()}
        else:
            source, read = self.verb_predictions, read_predictions(self.verb_predictions, "verbs", len(self.split_ids))
            known = {self.split_ids[i]: [event[0] for event in events] for i, events in read.items()}
        missing = [name for name in ids if not all(known.get(name, [""]))]
        if missing:
            raise KuleshovError(
                f"{source} has no verbs for {len(missing)} of {len(ids)} segments (first {missing[0]}): predict them "
                "for the whole split, and name the file with data.init_args.verb_predictions"
            )
        self.given_verbs = {name: known[name] for name in ids}
        return {"verbs": torch.tensor([[self.tokens.verb(verb) for verb in self.given_verbs[name]] for name in ids])}
