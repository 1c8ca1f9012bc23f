"""The base of all tasks on event features: the contextualizer, the loop, what is scored and handed on."""

from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.files import write_json
from kuleshov.core.plugins import class_path, import_named
from kuleshov.core.results import Report
from kuleshov.core.weights import load_into, load_weights
from kuleshov.metrics.answers import Answers
from kuleshov.training.callbacks import plain_hparams
from kuleshov.training.optimization import OptimizedModule
from kuleshov.txe.contextualizer import ContextKind, Contextualizer
from kuleshov.txe.feature_normalizer import Normalization

Stage = Literal["val", "test", "predict"]
ROWS = {"none": "backbone", "scratch": "scratch", "pretrained": "pretrained"}


class EventTask(OptimizedModule):
    """Learns a task on event features, as the backbone gives them or contextualized by TxE.

    A subclass brings `build` (the head), `loss`, `answer` (numbers a sample), `decode` (what they say) and
    `evaluate` (a `Report`); `write_predictions` where the benchmark has a format of its own.

    Its datamodule brings `facts()` (plain values that the network is built from: `width` of an event feature, None
    without events; `backbone_sha256`; whatever the head needs), `training_events()` ((M, D), for statistics),
    `sample_ids(stage)` (the ids that the batches' `place` counts in) and batches: dicts of tensors.

    Args:
        context: `none` (the backbone's features as they are), `scratch` or `pretrained` (through TxE).
        txe_weights: the pretrained TxE; only with `pretrained`.
        txe_hidden: TxE's width; the pretrained weights decide where it is not given, else 1024.
        txe_layers: TxE's layers; likewise, else 3.
        txe_heads: TxE's attention heads; likewise, else 16.
        txe_feedforward: TxE's feed-forward width; likewise, else 2048.
        txe_dropout: TxE's dropout while the task is learned.
        txe_frozen: leave TxE as it is; only the head learns.
        txe_lr: learning rate of TxE; the same as the head's by default.
        allow_other_backbone: take a TxE that was pretrained on another backbone's features than these.
        feature_normalization: statistics of the training features that are applied to them: none, center,
            standardize, whiten; a pretrained TxE brings its own.
        layer_norm: with `none`, normalize each event feature over its width, as TxE's output is.
        row: name of the table's row; by default the context's.
    """

    task = ""

    def __init__(
        self,
        *,
        context: ContextKind = "none",
        txe_weights: str | None = None,
        txe_hidden: int | None = None,
        txe_layers: int | None = None,
        txe_heads: int | None = None,
        txe_feedforward: int | None = None,
        txe_dropout: float = 0.1,
        txe_frozen: bool = False,
        txe_lr: float | None = None,
        allow_other_backbone: bool = False,
        feature_normalization: Normalization = "none",
        layer_norm: bool = False,
        row: str | None = None,
        **optimization,
    ) -> None:
        super().__init__(**optimization)
        self.facts: dict[str, Any] = {}
        self.contextualizer: Contextualizer | None = None
        self.answers, self.report = Answers(), None

    # what a subclass brings

    def build(self, width: int | None) -> None:
        """Make the head for contextualized features of this width; None where there are no events."""
        raise NotImplementedError

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The batch's training loss, a scalar."""
        raise NotImplementedError

    def answer(self, batch: dict[str, Tensor]) -> Tensor:
        """Numbers (B, ...) that say what is predicted for the batch's samples."""
        raise NotImplementedError

    def decode(self, sample_ids: list[str], answers: Tensor) -> dict[str, Any]:
        """What the answers (n, ...) of some samples say, in plain values, by sample."""
        return dict(zip(sample_ids, answers.tolist(), strict=True))

    def evaluate(self, predicted: dict[str, Any], stage: Stage) -> Report:
        """Score predictions; `val` is asked for often and needs the figures alone, `test` everything."""
        raise NotImplementedError

    def write_predictions(self, folder: Path, predictions: dict[str, Any]) -> None:
        """Write predictions, JSON by sample unless the benchmark has a format of its own."""
        write_json(Path(folder) / f"{self.task}.json", predictions)

    # the network

    def configure_model(self) -> None:
        """Build the network for the data; feature statistics are those of the training samples."""
        if self.facts:
            return
        data = self.trainer.datamodule
        self.assemble(data.facts())
        if self.contextualizer is not None:
            self.check_backbone()
            self.contextualizer.fit_statistics(data.training_events())

    def assemble(self, facts: dict[str, Any], txe: dict[str, Any] | None = None) -> None:
        """Build contextualizer and head.

        Args:
            facts: what the datamodule says of its data.
            txe: arguments of the TxE to build, when a trained task is loaded; by default the hyper-parameters decide.
        """
        given = self.hparams
        self.facts = facts
        if facts.get("width") is None or given.context not in ROWS:
            self.build(None)
            return
        names = ("hidden", "layers", "heads", "feedforward", "dropout", "frozen")
        options = {name: given[f"txe_{name}"] for name in names} | {"normalize": given.feature_normalization}
        kind = given.context
        if txe is not None:
            kind, options = "scratch", {"frozen": given.txe_frozen, **txe}
        weights = given.txe_weights if kind == "pretrained" else None
        self.contextualizer = Contextualizer(
            kind, facts["width"], txe_weights=weights, layer_norm=given.layer_norm, **options
        )
        self.build(self.contextualizer.out_width)

    def check_backbone(self) -> None:
        """Refuse a TxE that was pretrained on features of another backbone.

        Raises:
            KuleshovError: both backbones are named, and the option to mix them.
        """
        given, found = self.hparams, self.facts.get("backbone_sha256")
        if given.txe_weights is None or given.allow_other_backbone:
            return
        trained = load_weights(given.txe_weights)[1].get("data", {}).get("backbone_sha256")
        if trained != found:
            raise KuleshovError(
                f"{given.txe_weights} was pretrained on features of backbone {_short(trained)}, these are of backbone "
                f"{_short(found)}: extract both with one backbone, or set model.init_args.allow_other_backbone"
            )

    @property
    def row(self) -> str:
        """The table's row that this training belongs to."""
        return self.hparams.row or ROWS.get(self.hparams.context, self.hparams.context)

    def lr_of(self, module: nn.Module) -> float:
        """TxE's rate may differ from the head's."""
        own = module is self.contextualizer and self.hparams.txe_lr is not None
        return self.hparams.txe_lr if own else self.hparams.lr

    def weights_sha256(self) -> str | None:
        """Of the pretrained TxE, else of the backbone that made the features."""
        if self.hparams.txe_weights is not None:
            return load_weights(self.hparams.txe_weights)[1]["sha256"]
        return self.facts.get("backbone_sha256")

    # the loop

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step's loss."""
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=self.batch_size_of(batch))
        return loss

    def batch_size_of(self, batch: dict[str, Tensor]) -> int:
        """Samples of a batch."""
        return next(iter(batch.values())).shape[0]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Collect the answers; the scores are made when the epoch ends."""
        self.answers.update(batch["place"], self.answer(batch))

    test_step = validation_step

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """What is predicted for the batch's samples."""
        ids = self.trainer.datamodule.sample_ids("predict")
        return self.decode([ids[place] for place in batch["place"].tolist()], self.answer(batch))

    def _predicted(self, stage: Stage) -> dict[str, Any]:
        collected = self.answers.compute()
        self.answers.reset()
        ids = self.trainer.datamodule.sample_ids(stage)
        return self.decode([ids[place] for place in collected["place"].flatten().tolist()], collected["answer"])

    def on_validation_epoch_end(self) -> None:
        """Log the task's figures."""
        report = self.evaluate(self._predicted("val"), "val")
        self.log_dict({f"val/{name}": float(value) for name, value in report.metrics.items()}, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """Make the report that `WriteResults` writes."""
        self.report = self.evaluate(self._predicted("test"), "test")
        self.log_dict({f"test/{name}": float(value) for name, value in self.report.metrics.items()}, sync_dist=True)

    # handing on

    def exports(self) -> dict[str, tuple[Any, dict[str, Any]]]:
        """The whole network, with all that `load` needs to build it again."""
        txe = self.contextualizer.txe if self.contextualizer is not None else None
        manifest = {
            "kind": "task",
            "task": self.task,
            "row": self.row,
            "class_path": class_path(self),
            "init_args": {**plain_hparams(self), "txe_weights": None},
            "txe": {k: v for k, v in txe.arguments.items() if k != "input_width"} if txe is not None else None,
            "facts": self.facts,
            "started_from": self.weights_sha256(),
        }
        return {self.task: (self, manifest)}


def load_task(path: str | Path) -> EventTask:
    """A task's network as `<run>/weights/<task>.safetensors` has it, in evaluation mode.

    Raises:
        WeightsError: the file holds something else.
        KuleshovError: the task belongs to a package that the user does not trust (`--trust`).
    """
    tensors, manifest = load_weights(path)
    if manifest.get("kind") != "task" or "class_path" not in manifest:
        raise WeightsError(f"{path} holds no task's network: name the file that a task's training wrote")
    network = import_named(manifest["class_path"], str(path))(**manifest["init_args"])
    network.assemble(manifest["facts"], manifest["txe"])
    load_into(network, tensors, str(path))
    return network.eval()


def _short(sha256: str | None) -> str:
    return sha256[:8] if sha256 else "unknown"
