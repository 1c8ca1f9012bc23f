"""The Object Transformer over instances, scene tokens, or both (OT++), and the LVU task by it: Table 5's rows.

Wu and Krahenbuhl, CVPR 2021: a token is a box at a second; its feature, box, time, shot and track are
embedded and summed; post-norm encoder of RoBERTa-base's geometry with 3 layers, no text weights; the head
reads position 0 through a dense layer and tanh. OT++ adds scene tokens with a type embedding (section 5 of
the paper).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.weights import load_into, load_weights
from kuleshov.tasks.lvu.lvu_task import LvuTask
from kuleshov.tasks.lvu.movie_samples import TABLE
from kuleshov.tasks.lvu.spans import END, ID_NAMES, MASK, NONE, OTHER, PADDING, START
from kuleshov.txe.feature_normalizer import FeatureNormalizer, Normalization
from kuleshov.txe.transformer import TransformerLayer

INSTANCE_METHOD = "masked-instances"
PER_SPAN = ("movie", "turn", "event_first", "event_count", "event_ids", "row", "boxes", "ids", "action", "other")


class ObjectTransformerEncoder(nn.Module):
    """Encodes spans of tokens.

    Args:
        instance_width: F, width of region features; None without instances.
        scene_width: W, width of scene tokens; None without.
        hidden: H.
        layers, heads, feedforward, dropout, attention_dropout, instance_normalization: see `ObjectTransformerTask`.
    """

    def __init__(
        self,
        instance_width: int | None,
        scene_width: int | None = None,
        hidden: int = 768,
        layers: int = 3,
        heads: int = 12,
        feedforward: int = 3072,
        dropout: float = 0.1,
        attention_dropout: float | None = None,
        instance_normalization: Normalization = "none",
    ) -> None:
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        super().__init__()
        self.arguments: dict[str, Any] = arguments
        if instance_width is None and scene_width is None:
            raise KuleshovError("an Object Transformer needs instances or scene tokens")
        self.hidden, self.has_instances, self.has_scene = hidden, instance_width is not None, scene_width is not None
        self.tables = nn.ModuleList(nn.Embedding(TABLE, hidden, padding_idx=PADDING) for _ in ID_NAMES)
        if instance_width is not None:
            self.feature, self.box = nn.Linear(instance_width, hidden), nn.Linear(5, hidden)
            self.normalizer = FeatureNormalizer(instance_width, instance_normalization)
            self.mask_vector = nn.Parameter(torch.zeros(instance_width))
        if scene_width is not None:
            self.scene, self.kind = nn.Linear(scene_width, hidden), nn.Embedding(2, hidden)
        self.norm, self.drop = nn.LayerNorm(hidden), nn.Dropout(dropout)
        options = {"attention_dropout": attention_dropout, "feedforward_dropout": 0.0, "activation": "gelu"}
        self.layers = nn.ModuleList(
            TransformerLayer(hidden, heads, feedforward, dropout, **options) for _ in range(layers)
        )
        self.pooler = nn.Linear(hidden, hidden)
        self.apply(initialize)

    def embed_ids(self, ids: Tensor) -> Tensor:
        """Sum of the ids' embeddings, (..., 7) -> (..., H)."""
        return sum(table(ids[..., column]) for column, table in enumerate(self.tables))

    def _edge(self, kind: int, spans: int) -> Tensor:
        """The start or end token of every span, (S, 1, H); a zero feature and a zero box."""
        token = self.embed_ids(torch.full((1, 1, len(ID_NAMES)), kind, device=self.pooler.weight.device))
        if self.has_instances:
            token = token + self.feature.bias + self.box.bias
        if self.has_scene:
            token = token + self.kind.weight[0]
        return token.expand(spans, 1, self.hidden)

    def instance_tokens(self, content: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Embed instances, (S, T, H): `content` (R, H) are features, each projected once however many spans hold it."""
        action = batch["action"].unsqueeze(-1)
        taken = torch.where(batch["action"] == OTHER, batch["other"], batch["row"].clamp(min=0))
        tokens = content[taken]  # (S, T, H)
        tokens = torch.where(action == MASK, self.feature(self.mask_vector), tokens)
        tokens = tokens + self.box(batch["boxes"]) + self.embed_ids(batch["ids"])
        return tokens + self.kind.weight[0] if self.has_scene else tokens

    def scene_tokens(self, content: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Embed the events of spans, (S, E, H), from `content` (B, L, H), and mark what is no padding, (S, E)."""
        offset = torch.arange(batch["event_ids"].shape[1], device=content.device)
        keep = offset < batch["event_count"][:, None]
        place = (batch["event_first"][:, None] + offset).clamp(max=content.shape[1] - 1)
        tokens = content[batch["movie"][:, None], place]
        # seconds as instances have them; a scene has no shot and no track
        ids = F.pad(batch["event_ids"], (0, len(ID_NAMES) - 3), value=NONE)
        return tokens + self.embed_ids(ids) + self.kind.weight[1], keep

    def forward(
        self, batch: dict[str, Tensor], events: Tensor | None = None, spans_per_pass: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Encode all spans of a batch (see `movie_samples`): states (S, 2 + T + E, H) and pooled (S, H).

        Tokens are ordered start, end, instances, scene; order does not matter, ids say where they lie.
        `events` (B, L, W) are scene tokens of the movies; 0 `spans_per_pass` encodes all at once.
        """
        instances = self.feature(self.normalizer(batch["features"])) if self.has_instances else None  # (R, H)
        scene = self.scene(events) if self.has_scene and events is not None else None
        spans, parts = len(batch["movie"]), []
        size = spans_per_pass or spans
        for start in range(0, spans, size):
            part = {name: batch[name][start : start + size] for name in PER_SPAN if name in batch}
            parts.append(self._encode(part, instances, scene))
        states, pooled = zip(*parts, strict=True)
        return torch.cat(states), torch.cat(pooled)

    def _encode(
        self, batch: dict[str, Tensor], instances: Tensor | None, scene: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        spans = len(batch["movie"])
        tokens = [self._edge(START, spans), self._edge(END, spans)]
        keep = [torch.ones(spans, 2, dtype=torch.bool, device=batch["movie"].device)]
        if instances is not None:
            tokens.append(self.instance_tokens(instances, batch))
            keep.append(batch["row"] >= 0)
        if scene is not None:
            embedded, there = self.scene_tokens(scene, batch)
            tokens.append(embedded)
            keep.append(there)
        hidden, kept = self.drop(self.norm(torch.cat(tokens, dim=1))), torch.cat(keep, dim=1)
        for layer in self.layers:
            hidden = layer(hidden, kept)
        return hidden, torch.tanh(self.pooler(hidden[:, 0]))


def initialize(module: nn.Module) -> None:
    """BERT's initialization: normal with deviation 0.02, biases and the padding row 0."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        nn.init.zeros_(module.weight[module.padding_idx])


def load_encoder_weights(encoder: ObjectTransformerEncoder, path: str) -> None:
    """Load what instance pretraining wrote; the scene tokens' own weights stay as they are.

    Raises:
        WeightsError: other weights, another normalization, or keys or shapes that do not fit.
    """
    tensors, manifest = load_weights(path)
    if manifest.get("architecture") != "object_transformer":
        raise WeightsError(
            f"{path} holds {manifest.get('architecture', 'unnamed')} weights, not an Object Transformer: "
            "name the file that instance pretraining has written"
        )
    trained, given = (a.get("instance_normalization") for a in (manifest.get("arguments", {}), encoder.arguments))
    if trained != given:
        raise WeightsError(f"{path} was trained with instance_normalization={trained}, the configuration has {given}")
    scene = {name: value for name, value in encoder.state_dict().items() if name.startswith(("scene.", "kind."))}
    load_into(encoder, scene | tensors, str(path))


class ObjectTransformerTask(LvuTask):
    """Answers from the pooled state of an Object Transformer; the data's stores decide the tokens.

    With an instance store it is OT, with an event store the scene row, with both OT++. Everything is tuned.

    Args:
        instance_weights: an Object Transformer pretrained by masked instances; null starts from scratch.
        hidden: width.
        layers: number of layers.
        heads: attention heads.
        feedforward: width of the feed-forward part.
        dropout: in the transformer and before the head.
        attention_dropout: of attention's weights; null takes `dropout`. It is most of a step's cost on a CPU.
        instance_normalization: statistics of the training movies' region features that are applied to them:
            none, center, standardize, whiten, soft-whiten.
        spans_per_pass: spans encoded at a time in evaluation, for memory; 0 all of a batch.
    """

    def __init__(
        self,
        instance_weights: str | None = None,
        hidden: int = 768,
        layers: int = 3,
        heads: int = 12,
        feedforward: int = 3072,
        dropout: float = 0.1,
        attention_dropout: float | None = None,
        instance_normalization: Normalization = "none",
        spans_per_pass: int = 64,
        **shared,
    ) -> None:
        super().__init__(**shared)

    def configure_model(self) -> None:
        """Build the network; weights or the training movies' statistics go into it once."""
        fresh = not self.facts
        super().configure_model()
        if not fresh:
            return
        if self.hparams.instance_weights is not None:
            load_encoder_weights(self.encoder, self.hparams.instance_weights)
        elif self.encoder.has_instances and self.hparams.instance_normalization != "none":
            self.encoder.normalizer.fit(self.trainer.datamodule.training_instances())

    def build(self, width: int | None) -> None:
        names = ("hidden", "layers", "heads", "feedforward", "dropout", "attention_dropout", "instance_normalization")
        options = {name: self.hparams[name] for name in names}
        self.encoder = ObjectTransformerEncoder(self.facts["instance_width"], width, **options)
        if self.encoder.has_instances:
            # only masking reads it; a parameter without gradient would stop DDP
            self.encoder.mask_vector.requires_grad_(self.facts["masked"])
        self.head = nn.Sequential(nn.Dropout(self.hparams.dropout), nn.Linear(self.encoder.hidden, self.outputs))

    def span_logits(self, batch: dict[str, Tensor]) -> Tensor:
        events = self.scene(batch) if self.contextualizer is not None else None
        _, pooled = self.encoder(batch, events, 0 if self.training else self.hparams.spans_per_pass)
        return self.head(pooled)

    def origin(self) -> dict[str, str]:
        """Also the backbone of the region features, and whether masked instances came before."""
        store = self.trainer.datamodule.instances
        pretrained = [INSTANCE_METHOD] if self.hparams.instance_weights is not None else []
        return {**super().origin(), "instances": " ".join([store.origin, *pretrained]) if store is not None else "none"}

    @property
    def row(self) -> str:
        """The table's row: the tokens, and the context of the scene tokens."""
        row = super().row
        if self.hparams.row:
            return row
        if not self.encoder.has_scene:
            return "instances"
        return f"ot++-{row}" if self.encoder.has_instances else f"scene-{row}"
