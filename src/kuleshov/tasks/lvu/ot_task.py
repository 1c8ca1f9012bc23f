"""Table 5's rows: an LVU task by the Object Transformer over instances, scene tokens, or both (OT++)."""

from torch import Tensor, nn

from kuleshov.core.weights import load_weights
from kuleshov.tasks.lvu.lvu_task import MovieTask
from kuleshov.tasks.lvu.object_transformer import ObjectTransformerEncoder, load_encoder_weights


class ObjectTransformer(MovieTask):
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
        spans_per_pass: int = 64,
        **shared,
    ) -> None:
        super().__init__(**shared)
        self.instance_weights, self.dropout, self.spans_per_pass = instance_weights, dropout, spans_per_pass
        self.sizes = {"hidden": hidden, "layers": layers, "heads": heads, "feedforward": feedforward}
        self.attention_dropout = attention_dropout

    def build(self, scene_width: int | None, instance_width: int | None, outputs: int) -> None:
        """Make the transformer and its head."""
        self.tokens = "+".join(
            name for name, width in (("instances", instance_width), ("scene", scene_width)) if width is not None
        )
        self.encoder = ObjectTransformerEncoder(
            instance_width,
            scene_width,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            normalize=self.normalize,
            **self.sizes,
        )
        if self.instance_weights is not None:
            load_encoder_weights(self.encoder, self.instance_weights)
        elif instance_width is not None and self.normalize != "none":
            self.encoder.normalizer.fit(self.trainer.datamodule.training_instances())
        if instance_width is not None:
            # only masking reads it; a parameter without gradient would stop DDP
            self.encoder.mask_vector.requires_grad_(self.trainer.datamodule.mask_share > 0)
        self.head = nn.Sequential(nn.Dropout(self.dropout), nn.Linear(self.encoder.hidden, outputs))

    def span_logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Outputs of every span, (S, outputs)."""
        events = self.scene(batch) if self.contextualizer is not None else None
        _, pooled = self.encoder(batch, events, 0 if self.training else self.spans_per_pass)
        return self.head(pooled)

    @property
    def row(self) -> str:
        """The table's row: the tokens, and the context of the scene tokens."""
        if self.row_name:
            return self.row_name
        kinds = {"instances": "instances", "scene": f"scene-{super().row}"}
        return kinds.get(self.tokens, f"ot++-{super().row}")

    def _weights_sha256(self) -> str | None:
        if self.instance_weights is not None and self.txe_weights is None:
            return load_weights(self.instance_weights)[1]["sha256"]
        return super()._weights_sha256()
