"""The bases of all tasks: `ScoredTask`, the loop from batches to a report, and `EventTask`, with event features."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.files import write_json
from kuleshov.core.plugins import class_path, import_named
from kuleshov.core.results import Report
from kuleshov.core.weights import load_into, load_weights
from kuleshov.metrics.answers import Answers
from kuleshov.training.callbacks import PREDICTIONS, plain_hparams
from kuleshov.training.optimization import OptimizedModule
from kuleshov.txe.contextualizer import ContextKind, Contextualizer
from kuleshov.txe.encoder import refuse_other_backbone
from kuleshov.txe.feature_normalizer import Normalization

Stage = Literal["val", "test", "predict"]
ROWS = {"none": "backbone", "scratch": "scratch", "pretrained": "pretrained"}
# the paper's masked-event pretraining, section 3.3 and Table 2
PAPER_TXE = {
    "mask_sizes": "1,2,3",
    "positions": "learned",
    "sampling": "uniform",
    "loss": "infonce",
    "token_stride": 2.0,
}
STARTS = ("txe_weights", "instance_weights", "backbone_weights")  # arguments that name weights to start from


class ScoredTask(OptimizedModule):
    """Learns a task and reports what it predicts; the network is a subclass's.

    A subclass brings `loss`, `answer` (numbers a sample), `decode` (what they say) and `evaluate` (a `Report`);
    `write_predictions` where the benchmark has a format of its own, and `show` what TensorBoard is to show. Where a
    validation batch has `target`, its loss is logged.

    Its datamodule brings `facts()` (plain values that the network is built from), `sample_ids(stage)` (the ids that the
    batches' `place` counts in) and batches: dicts of tensors.
    """

    task = target = ""

    def __init__(self, **optimization) -> None:
        super().__init__(**optimization)
        self.facts: dict[str, Any] = {}
        self.answers, self.report = Answers(), None

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The batch's training loss, a scalar."""
        raise NotImplementedError

    def validation_loss(self, batch: dict[str, Tensor]) -> Tensor:
        """The loss of a batch of validation, which may be larger than those of training."""
        return self.loss(batch)

    def answer(self, batch: dict[str, Tensor]) -> Tensor:
        """Numbers (B, ...) that say what is predicted for the batch's samples."""
        raise NotImplementedError

    def decode(self, sample_ids: list[str], answers: Tensor) -> dict[str, Any]:
        """What the answers (n, ...) of some samples say, in plain values, by sample."""
        return dict(zip(sample_ids, answers.tolist(), strict=True))

    def evaluate(self, predicted: dict[str, Any], stage: Stage) -> Report | None:
        """Score predictions; `val` is asked for often and needs the figures alone, `test` everything.

        None where a tested split has no labels: the predictions are then written without scores.
        """
        raise NotImplementedError

    def weights_sha256(self) -> str | None:
        """Of the weights that the training started from, else of the backbone that made the features."""
        given = [self.hparams[name] for name in STARTS if self.hparams.get(name) is not None]
        return load_weights(given[0])[1]["sha256"] if given else self.facts.get("backbone_sha256")

    def origin(self) -> dict[str, str]:
        """What the networks are and have been through, for `Result.origin`."""
        return {}

    def write_predictions(self, folder: Path, predictions: dict[str, Any]) -> None:
        """Write predictions, JSON by sample unless the benchmark has a format of its own."""
        write_json(Path(folder) / f"{self.task}.json", predictions)

    def show(self, predicted: dict[str, Any], board: Any) -> None:
        """Add to TensorBoard's writer what figures do not say of the scored predictions."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        samples = len(next(iter(batch.values())))
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=samples)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Collect the answers, and log the loss where the batch says what is to be learned."""
        self.test_step(batch, batch_idx)
        if self.target in batch:
            loss, samples = self.validation_loss(batch), len(batch["place"])
            self.log("val/loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=samples)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Collect the answers; the scores are made when the epoch ends."""
        self.answers.update(batch["place"], self.answer(batch))

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        ids = self.trainer.datamodule.sample_ids("predict")
        return self.decode([ids[place] for place in batch["place"].tolist()], self.answer(batch))

    def _predicted(self, stage: Stage) -> dict[str, Any]:
        """What all processes have predicted since the last call, each sample once, in the order of the places."""
        collected = self.answers.compute()
        self.answers.reset()
        ids = self.trainer.datamodule.sample_ids(stage)
        return self.decode([ids[place] for place in collected["place"].flatten().tolist()], collected["answer"])

    def on_validation_epoch_end(self) -> None:
        report = self.evaluate(self._predicted("val"), "val")
        self.log_dict({f"val/{name}": float(value) for name, value in report.metrics.items()}, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """Make the report that `WriteResults` writes; without labels write the predictions alone."""
        predicted = self._predicted("test")
        self.report = self.evaluate(predicted, "test")
        if self.report is not None:
            metrics = self.report.metrics.items()
            self.log_dict({f"test/{name}": float(value) for name, value in metrics}, sync_dist=True)
            board = getattr(self.logger, "experiment", None)
            if self.trainer.is_global_zero and hasattr(board, "add_figure"):
                self.show(predicted, board)
        elif self.trainer.is_global_zero and not self.trainer.fast_dev_run:
            folder = Path(self.trainer.default_root_dir) / PREDICTIONS
            self.write_predictions(folder, predicted)
            print(f"no labels: not scored; {len(predicted)} predictions in {folder}", file=sys.stderr)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["facts"] = self.facts

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that were learned for other data."""
        trained = checkpoint.get("facts", self.facts)
        differ = [name for name in sorted({*trained, *self.facts}) if trained.get(name) != self.facts.get(name)]
        if differ:
            raise KuleshovError(
                f"the checkpoint was trained on data with other {', '.join(differ)}: give the data's arguments "
                "of its training (the run's config.yaml has them)"
            )


class EventTask(ScoredTask):
    """Learns a task on event features, as the backbone gives them or contextualized by TxE.

    A subclass brings `build` (the head) beside what `ScoredTask` asks for. The datamodule's `facts()` hold `width` of
    an event feature (None without events), `backbone_sha256` and whatever the head needs; its `training_events()`
    give features (..., D) for statistics, or None where nothing is trained and a checkpoint brings them.

    Args:
        context: `none` (the backbone's features as they are), `scratch` or `pretrained` (through TxE).
        txe_weights: the pretrained TxE; only with `pretrained`.
        txe_hidden: TxE's width; the pretrained weights decide where it is not given, else 1024.
        txe_layers: TxE's layers; likewise, else 3.
        txe_heads: TxE's attention heads; likewise, else 16.
        txe_feedforward: TxE's feed-forward width; likewise, else 2048.
        txe_dropout: TxE's dropout while the task is learned.
        txe_frozen: leave TxE as it is; only the head learns.
        txe_residual: add TxE's embedded input to its output.
        txe_lr: learning rate of TxE; the same as the head's by default.
        allow_other_backbone: take a TxE that was pretrained on another backbone's features than these.
        feature_normalization: statistics of the training features that are applied to them: none (default), center,
            standardize, whiten, soft-whiten; a pretrained TxE brings its own, with which a value given here must agree.
        layer_norm: with `none`, normalize each event feature over its width, as TxE's output is.
        row: name of the table's row; by default the context's.
    """

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
        txe_residual: bool = False,
        txe_lr: float | None = None,
        allow_other_backbone: bool = False,
        feature_normalization: Normalization | None = None,
        layer_norm: bool = False,
        row: str | None = None,
        **optimization,
    ) -> None:
        super().__init__(**optimization)
        self.contextualizer: Contextualizer | None = None

    def embed(self, width: int) -> int:
        """Make what stands before the contextualizer, for features of this width; the width that it gives."""
        return width

    def build(self, width: int | None) -> None:
        """Make the head for contextualized features of this width; None where there are no events."""
        raise NotImplementedError

    def configure_model(self) -> None:
        """Build the network for the data; feature statistics are those of the training samples."""
        if self.facts:
            return
        data = self.trainer.datamodule
        self.assemble(data.facts())
        if self.contextualizer is None:
            return
        self.check_backbone()
        events = data.training_events()
        if events is not None:
            self.contextualizer.fit_statistics(events)

    def assemble(self, facts: dict[str, Any], txe: dict[str, Any] | None = None) -> None:
        """Build contextualizer and head.

        Args:
            facts: what the datamodule says of its data.
            txe: arguments of the TxE to build, when a trained task is loaded; by default the hyper-parameters decide.
        """
        self.facts, given = facts, self.hparams
        if facts.get("width") is None or given.context not in ROWS:
            self.build(None)
            return
        kind = given.context
        names = ("hidden", "layers", "heads", "feedforward", "dropout", "frozen", "residual")
        options = {name: given[f"txe_{name}"] for name in names}
        options["feature_normalization"] = given.feature_normalization
        if kind == "pretrained":
            options["txe_weights"] = given.txe_weights
        if txe is not None:
            kind = "scratch"
            options = {"frozen": given.txe_frozen, "residual": given.txe_residual, **txe}
        self.contextualizer = Contextualizer(kind, self.embed(facts["width"]), layer_norm=given.layer_norm, **options)
        self.build(self.contextualizer.out_width)

    def check_backbone(self) -> None:
        """Refuse a TxE that was pretrained on features of another backbone."""
        given, found = self.hparams, self.facts.get("backbone_sha256")
        if given.txe_weights is None or given.allow_other_backbone:
            return
        refuse_other_backbone(given.txe_weights, found, "set model.init_args.allow_other_backbone")

    def origin(self) -> dict[str, str]:
        """The features' backbone (`none` without events), their normalization, and what TxE was pretrained on."""
        if self.contextualizer is None:
            return {"backbone": "none", "txe": "none"}
        txe = self.hparams.context
        if self.hparams.txe_weights is not None:
            txe = pretraining_of(load_weights(self.hparams.txe_weights)[1])
        return {"backbone": self.trainer.datamodule.origin, "input": self.contextualizer.input, "txe": txe}

    @property
    def row(self) -> str:
        return self.hparams.row or ROWS.get(self.hparams.context, self.hparams.context)

    def lr_of(self, module: nn.Module) -> float:
        own = module is self.contextualizer and self.hparams.txe_lr is not None
        return self.hparams.txe_lr if own else self.hparams.lr

    def exports(self) -> dict[str, tuple[Any, dict[str, Any]]]:
        """The whole network, with all that `load_task` needs to build it again, without the weights it started from."""
        txe = self.contextualizer.txe if self.contextualizer is not None else None
        init_args = plain_hparams(self)
        manifest = {
            "kind": "task",
            "task": self.task,
            "row": self.row,
            "class_path": class_path(self),
            "init_args": init_args | {name: None for name in STARTS if name in init_args},
            "txe": {k: v for k, v in txe.arguments.items() if k != "input_width"} if txe is not None else None,
            "facts": self.facts,
            "started_from": self.weights_sha256(),
        }
        return {self.task: (self, manifest)}


def pretraining_of(manifest: Mapping[str, Any]) -> str:
    """How a TxE was pretrained, by its manifest: method, data sets, and what differs from the paper's settings."""
    data, arguments = manifest.get("data", {}), manifest.get("arguments", {})
    found = {"mask_sizes": ",".join(map(str, manifest.get("mask_sizes", ()))), "positions": arguments.get("positions")}
    found |= {name: manifest.get(name) for name in ("sampling", "loss")} | {"token_stride": data.get("token_stride")}
    others = [f"{name}={value}" for name, value in sorted(found.items()) if value != PAPER_TXE[name]]
    return " ".join([str(manifest.get("method", "unknown")), *data.get("sets", ["unknown"]), *others])


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
