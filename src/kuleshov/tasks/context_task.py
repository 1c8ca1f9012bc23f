"""What the three VidSitu tasks on event features share: the contextualizer, and handing the result on."""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kuleshov.core.errors import WeightsError
from kuleshov.core.weights import load_into, load_weights
from kuleshov.tasks.segment_task import SegmentTask
from kuleshov.txe.contextualizer import ContextKind, Contextualizer
from kuleshov.txe.feature_normalizer import Normalization

ROWS = {"none": "backbone", "scratch": "scratch", "pretrained": "pretrained", "language": "language"}


class ContextTask(SegmentTask):
    """Learns a task on contextualized event features; a subclass brings the head and the loss.

    The network is built in `configure_model`, when the data is known.

    Args:
        context: `none` (the backbone's features as they are), `scratch` or `pretrained` (through TxE).
        txe_weights: the pretrained TxE; only with `pretrained`.
        hidden: TxE's width; the pretrained weights decide where it is not given, else 1024.
        layers: TxE's layers; likewise, else 3.
        heads: TxE's attention heads; likewise, else 16.
        feedforward: TxE's feed-forward width; likewise, else 2048.
        dropout: TxE's dropout while the task is learned.
        normalize: statistics of the training features that are applied to them: none, center, standardize.
        layer_norm: with `none`, normalize each event feature over its width, as TxE's output is.
        frozen: leave TxE as it is, only the head learns.
        context_lr: learning rate of TxE; the same as the head's by default.
    """

    def __init__(
        self,
        *,
        context: ContextKind = "none",
        txe_weights: str | None = None,
        hidden: int | None = None,
        layers: int | None = None,
        heads: int | None = None,
        feedforward: int | None = None,
        dropout: float = 0.1,
        normalize: Normalization = "none",
        layer_norm: bool = False,
        frozen: bool = False,
        context_lr: float | None = None,
        **shared,
    ) -> None:
        super().__init__(**shared)
        self.context, self.txe_weights, self.context_lr = context, txe_weights, context_lr
        self._choices = {
            "kind": context,
            "txe_weights": txe_weights,
            "hidden": hidden,
            "layers": layers,
            "heads": heads,
            "feedforward": feedforward,
            "dropout": dropout,
            "normalize": normalize,
            "layer_norm": layer_norm,
            "frozen": frozen,
        }
        self.facts: dict[str, Any] = {}
        self.contextualizer: Contextualizer | None = None

    def configure_model(self) -> None:
        """Build the network for the data; feature statistics are those of the training segments."""
        if self.facts:
            return
        data = self.trainer.datamodule
        self.assemble(data.facts(), self._choices)
        if self.contextualizer is not None:
            self.contextualizer.fit_statistics(data.train_features)

    def assemble(self, facts: dict[str, Any], choices: dict[str, Any]) -> None:
        """Build contextualizer and head.

        Args:
            facts: `width` (D, of an event feature) and what the head needs to know of the data.
            choices: arguments of `Contextualizer`.
        """
        self.facts = facts
        if choices["kind"] == "language":
            self.build(None)
            return
        self.contextualizer = Contextualizer(input_width=facts["width"], **choices)
        self.build(self.contextualizer.out_width)

    def build(self, width: int | None) -> None:
        """Make the head for contextualized features of this width; None where there are none."""
        raise NotImplementedError

    @property
    def row(self) -> str:
        """The table's row that this training belongs to."""
        return ROWS[self.context]

    def rate(self, module: torch.nn.Module) -> float:
        """TxE's rate may differ from the head's."""
        of_context = module is self.contextualizer and self.context_lr is not None
        return self.context_lr if of_context else self.lr

    def weights_sha256(self) -> str | None:
        """Of the pretrained TxE, else of the backbone that made the features."""
        if self.txe_weights is not None:
            return load_weights(self.txe_weights)[1]["sha256"]
        return self.trainer.datamodule.backbone_sha256

    def context_of(self, events: Tensor, step: int = 1) -> Tensor:
        """Contextualize a movie's events (L, D) -> (L, width), L of any size.

        Args:
            events: features on the store's grid.
            step: grid points between two neighbors in TxE's window.
        """
        return self.contextualizer.contextualize_long(events, step)

    def exports(self) -> dict[str, tuple[Any, dict[str, Any]]]:
        """The whole network, with all that `load` needs to build it again."""
        choices = {**self._choices, "txe_weights": None}
        if self.contextualizer is not None and self.contextualizer.txe is not None:
            built = self.contextualizer.txe.arguments
            choices |= {name: value for name, value in built.items() if name != "input_width"}
            choices["kind"] = "scratch"
        # LightningCLI notes the class among the hyper-parameters
        arguments = {name: value for name, value in self.hparams.items() if not name.startswith("_")}
        manifest = {
            "kind": "task",
            "task": self.task,
            "row": self.row,
            "class": f"{type(self).__module__}.{type(self).__qualname__}",
            "arguments": {**arguments, "txe_weights": None},
            "context": choices,
            "facts": self.facts,
            "started_from": self.weights_sha256(),
        }
        return {self.task: (self, manifest)}


def load(path: str | Path) -> ContextTask:
    """A task's network as `<run>/weights/<task>.safetensors` has it, in evaluation mode.

    Raises:
        WeightsError: the file holds something else.
    """
    tensors, manifest = load_weights(path)
    home, _, name = str(manifest.get("class", "")).rpartition(".")
    if manifest.get("kind") != "task" or not home.startswith("kuleshov.tasks."):
        raise WeightsError(f"{path} holds no task's network: name a file that train-verbs, -relations or -roles wrote")
    arguments = manifest["arguments"]
    if arguments.get("context") == "pretrained":
        arguments = {**arguments, "context": "scratch"}
    network = getattr(importlib.import_module(home), name)(**arguments)
    network.assemble(manifest["facts"], manifest["context"])
    load_into(network, tensors, str(path))
    return network.eval()
