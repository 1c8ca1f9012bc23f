"""The Object Transformer over instances, scene tokens, or both (OT++).

Wu and Krahenbuhl, CVPR 2021: a token is a box at a second; its feature, box, place, shot and track are
embedded and summed; post-norm encoder of RoBERTa-base's geometry with 3 layers, no text weights; the head
reads position 0 through a dense layer and tanh. OT++ adds scene tokens with a type embedding (section 5 of
the paper).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.weights import load_weights
from kuleshov.tasks.lvu.spans import END, ID_NAMES, NONE, PADDING, START
from kuleshov.tasks.lvu.track_masking import MASK, OTHER
from kuleshov.txe.feature_normalizer import FeatureNormalizer, Normalization

SCENE_KEYS = ("scene.", "kind.")


class Layer(nn.Module):
    """One post-norm encoder layer with GELU, (S, N, H) -> (S, N, H); padding is never attended to."""

    def __init__(self, hidden: int, heads: int, feedforward: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.heads, self.attention_dropout = heads, attention_dropout
        self.to_qkv = nn.Linear(hidden, 3 * hidden)
        self.from_heads = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden)
        self.widen, self.narrow = nn.Linear(hidden, feedforward), nn.Linear(feedforward, hidden)
        self.feedforward_norm = nn.LayerNorm(hidden)
        self.drop = nn.Dropout(dropout)

    def forward(self, hidden: Tensor, keep: Tensor) -> Tensor:
        """Attend to the tokens that `keep` (S, N) marks, then transform each."""
        spans, tokens, width = hidden.shape
        shaped = self.to_qkv(hidden).view(spans, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = shaped.permute(2, 0, 3, 1, 4)  # (3, S, heads, N, H / heads)
        mixed = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            attn_mask=keep[:, None, None, :],
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        mixed = mixed.transpose(1, 2).reshape(hidden.shape)
        hidden = self.attention_norm(hidden + self.drop(self.from_heads(mixed)))
        return self.feedforward_norm(hidden + self.drop(self.narrow(F.gelu(self.widen(hidden)))))


class ObjectTransformerEncoder(nn.Module):
    """Encodes spans of tokens.

    Args:
        instance_width: F, width of region features; None without instances.
        scene_width: W, width of scene tokens; None without.
        hidden: H.
        layers: number of layers.
        heads: number of attention heads; divides H.
        feedforward: width of the feed-forward part.
        dropout: after the embeddings and in the layers.
        attention_dropout: of attention's weights; the same where it is None.
        table: size of the id tables.
        normalize: statistics applied to region features, see `context.normalizer.FeatureNormalizer`.
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
        table: int = 258,
        normalize: Normalization = "none",
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise KuleshovError(f"hidden={hidden} is not a multiple of heads={heads}: change one of them")
        if instance_width is None and scene_width is None:
            raise KuleshovError("an Object Transformer needs instances or scene tokens")
        self.arguments = {
            "instance_width": instance_width,
            "scene_width": scene_width,
            "hidden": hidden,
            "layers": layers,
            "heads": heads,
            "feedforward": feedforward,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "table": table,
            "normalize": normalize,
        }
        self.hidden = hidden
        self.tables = nn.ModuleList(nn.Embedding(table, hidden, padding_idx=PADDING) for _ in ID_NAMES)
        if instance_width is not None:
            self.feature, self.box = nn.Linear(instance_width, hidden), nn.Linear(5, hidden)
            self.normalizer = FeatureNormalizer(instance_width, normalize)
            self.mask_vector = nn.Parameter(torch.zeros(instance_width))
        if scene_width is not None:
            self.scene, self.kind = nn.Linear(scene_width, hidden), nn.Embedding(2, hidden)
        self.norm, self.drop = nn.LayerNorm(hidden), nn.Dropout(dropout)
        of_weights = dropout if attention_dropout is None else attention_dropout
        self.layers = nn.ModuleList(Layer(hidden, heads, feedforward, dropout, of_weights) for _ in range(layers))
        self.pooler = nn.Linear(hidden, hidden)
        self.apply(initialize)

    def project(self, features: Tensor) -> Tensor:
        """Normalize and project region features, (R, F) -> (R, H)."""
        return self.feature(self.normalizer(features))

    def embed_ids(self, ids: Tensor) -> Tensor:
        """Sum of the ids' embeddings, (..., 7) -> (..., H)."""
        return sum(table(ids[..., column]) for column, table in enumerate(self.tables))

    def _edge(self, kind: int, spans: int) -> Tensor:
        """The start or end token of every span, (S, 1, H); a zero feature and a zero box."""
        token = self.embed_ids(torch.full((1, 1, len(ID_NAMES)), kind, device=self.pooler.weight.device))
        if hasattr(self, "feature"):
            token = token + self.feature.bias + self.box.bias
        if hasattr(self, "kind"):
            token = token + self.kind.weight[0]
        return token.expand(spans, 1, self.hidden)

    def instance_tokens(self, content: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Embed instances, (S, T, H).

        Args:
            content: (R, H) projected features, each projected once however many spans hold it.
            batch: `row`, `boxes`, `ids`, `action`, `other` of the spans.
        """
        action = batch["action"].unsqueeze(-1)
        taken = torch.where(batch["action"] == OTHER, batch["other"], batch["row"].clamp(min=0))
        tokens = content[taken]  # (S, T, H)
        tokens = torch.where(action == MASK, self.feature(self.mask_vector), tokens)
        tokens = tokens + self.box(batch["boxes"]) + self.embed_ids(batch["ids"])
        return tokens + self.kind.weight[0] if hasattr(self, "kind") else tokens

    def scene_tokens(self, content: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Embed the events of spans, (S, E, H), and tell which are no padding, (S, E).

        Args:
            content: (B, L, H) projected events, each projected once.
            batch: `movie`, `event_first`, `event_count`, `event_ids` of the spans.
        """
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
        """Encode all spans of a batch (see `movies`): states (S, 2 + T + E, H) and pooled (S, H).

        Tokens are ordered start, end, instances, scene; order does not matter, ids place them.

        Args:
            batch: the spans.
            events: (B, L, W) scene tokens of the movies.
            spans_per_pass: encode at most so many spans at a time; 0 all of them.
        """
        instances = self.project(batch["features"]) if hasattr(self, "feature") else None
        scene = self.scene(events) if events is not None and hasattr(self, "scene") else None
        spans = len(batch["movie"])
        size = spans_per_pass or spans
        parts = [
            self._encode(span_slice(batch, start, start + size), instances, scene) for start in range(0, spans, size)
        ]
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


PER_SPAN = ("movie", "turn", "event_first", "event_count", "event_ids", "row", "boxes", "ids", "action", "other")


def span_slice(batch: dict[str, Tensor], start: int, stop: int) -> dict[str, Tensor]:
    """Spans start … stop - 1 of a batch."""
    return {name: batch[name][start:stop] for name in PER_SPAN if name in batch}


def initialize(module: nn.Module) -> None:
    """BERT's initialization: normal with deviation 0.02, biases and the padding row 0."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            with torch.no_grad():
                module.weight[module.padding_idx].zero_()


def load_encoder_weights(encoder: ObjectTransformerEncoder, path: str) -> dict:
    """Load pretrained weights; scene tokens' own weights may be absent. Returns the manifest.

    Raises:
        WeightsError: another architecture, or keys or shapes that do not fit, the first named.
    """
    tensors, manifest = load_weights(path)
    if manifest.get("architecture") != "object_transformer":
        raise WeightsError(
            f"{path} holds {manifest.get('architecture', 'unnamed')} weights, not an Object Transformer: "
            "name the file that instance pretraining has written"
        )
    expected = encoder.state_dict()
    missing = [key for key in expected if key not in tensors and not key.startswith(SCENE_KEYS)]
    wrong = [key for key in tensors if key not in expected or tensors[key].shape != expected[key].shape]
    trained = manifest.get("arguments") or {}
    wrong += ["normalize"] if trained.get("normalize") != encoder.arguments["normalize"] else []
    if missing or wrong:
        raise WeightsError(
            f"{path} does not fit: first difference at {(missing + wrong)[0]}; it was trained with "
            f"{trained}, the configuration has {encoder.arguments}"
        )
    encoder.load_state_dict(tensors, strict=False)
    return manifest
