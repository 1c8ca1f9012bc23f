"""What all ways of pretraining a backbone share: the network, the optimizer, watching it, handing it on."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from kuleshov.backbones import build, load, manifest
from kuleshov.backbones.resnet3d import ResNet3d
from kuleshov.core.distributed import gather_rows, world_size
from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.files import sha256_ids
from kuleshov.core.results import Result, append_results, global_seed
from kuleshov.pretraining.batch_norm import share_batch_norm
from kuleshov.pretraining.clip_images import filmstrip, paired_rows
from kuleshov.pretraining.knn import knn_predict, majority_accuracy
from kuleshov.pretraining.representation_health import collapse_reason, effective_rank
from kuleshov.training.callbacks import BadFilesMonitor
from kuleshov.training.optimization import parameter_groups, warmup_cosine
from kuleshov.video.clip_format import ClipFormat

Optimizer = Literal["sgd", "adamw"]


class Pretraining(pl.LightningModule):
    """Base of the pretraining methods; a method adds its networks, `training_step` and `exports`.

    Reads from its datamodule: `global_batch`, `clips_per_sample`, `clip_format`, `describe()` and, for the
    k-NN probe, a validation loader of labeled clips {clip, label, part (0 bank, 1 queries), index}.
    """

    method = ""

    def _prepare(self, zero_init_final_gamma: bool, network: str | None = None) -> ResNet3d:
        """Build the backbone that the hyper-parameters name, with earlier weights where they name some."""
        chosen = self.hparams
        backbone = build(network or chosen.backbone, chosen.width, zero_init_final_gamma)
        if chosen.backbone_weights is not None and network is None:
            start_from(backbone, chosen.backbone_weights)
        if network is None:
            backbone.recompute(chosen.recompute_stages)
        if chosen.channels_last:
            backbone = backbone.to(memory_format=torch.channels_last_3d)
        if chosen.compile:
            # sizes are few and fixed; torch 2.13 fails to compile these networks for sizes left open
            backbone.compile(dynamic=False)
        self._losses: list[Tensor] = []
        self._probe: list[tuple[Tensor, ...]] = []
        self._health: dict[str, float] = {}
        self._knn: dict[str, float] = {}
        return backbone

    def laid_out(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) in the memory layout that the backbone runs fastest with."""
        return clips.contiguous(memory_format=torch.channels_last_3d) if self.hparams.channels_last else clips

    def configure_model(self) -> None:
        """Let batch norm work over all processes; Lightning calls this before it wraps the module."""
        if self.hparams.sync_batchnorm:
            share_batch_norm(self, self.trainer.strategy.root_device.type)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Watch the speed and the unreadable files, wherever the training runs."""
        return [BadFilesMonitor()]

    def configure_optimizers(self) -> dict[str, Any]:
        """Decay on kernels only, linear warm-up, then half a cosine to zero, every step."""
        chosen = self.hparams
        batch = self.trainer.datamodule.global_batch * self.trainer.accumulate_grad_batches
        groups, rate = parameter_groups(self, chosen.weight_decay), chosen.lr * batch / chosen.lr_batch
        if chosen.optimizer == "adamw":
            optimizer = torch.optim.AdamW(groups, lr=rate)
        else:
            optimizer = torch.optim.SGD(groups, rate, momentum=chosen.momentum, nesterov=chosen.nesterov)
        total = self.trainer.estimated_stepping_batches
        if total == float("inf"):
            raise KuleshovError("the schedule needs an end: set trainer.max_epochs or trainer.max_steps")
        steps = total / max(1, self.trainer.max_epochs or 1) if self.trainer.max_epochs != -1 else 0
        warmup = min(round(chosen.warmup_epochs * steps), int(total))
        schedule = warmup_cosine(optimizer, warmup, int(total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Tell the clips which epoch it is, and forget the last one's losses."""
        self.trainer.datamodule.set_epoch(self.current_epoch)
        self._losses = []

    def record(self, loss: Tensor, parts: dict[str, Tensor]) -> None:
        """Log a step's loss and its parts, and keep the loss for the epoch's end."""
        self._losses.append(loss.detach())
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.log("train/lr", self.optimizers().param_groups[0]["lr"])
        for name, value in parts.items():
            self.log(f"train/{name}", value.detach())

    def due(self, batch_idx: int) -> bool:
        """Whether this step measures the representation's health: the first and every n-th after it."""
        return batch_idx % self.hparams.health_every == 0

    def record_health(self, measures: dict[str, Tensor], features: Tensor) -> None:
        """Log measures of the embeddings, and the effective rank of the features (B, D)."""
        measures = {**measures, "eff_rank": effective_rank(features.detach())}
        self._health = {name: float(value) for name, value in measures.items()}
        for name, value in self._health.items():
            self.log(f"ssl/{name}", value)

    def show_pairs(
        self, first: Tensor, second: Tensor, batch_idx: int, name: str = "clips", motion: bool = False
    ) -> None:
        """Once an epoch, put the first few pairs of clips into the log as filmstrips.

        Args:
            first: clips (B, 3, T, H, W), normalized.
            second: clips, or their motion, which is in [0, 1].
            batch_idx: only the first batch is shown.
            name: the picture's name in the log.
            motion: whether `second` is motion.
        """
        board = getattr(self.logger, "experiment", None)
        if batch_idx or not self.trainer.is_global_zero or not hasattr(board, "add_image"):
            return
        shown = self.trainer.datamodule.shown
        below = second[:4] if motion else shown(second[:4])
        board.add_image(f"pairs/{name}", filmstrip(paired_rows(shown(first[:4]), below)), self.global_step)

    def chance_loss(self) -> float:
        """The loss of embeddings that are all the same; 0 where the method has none."""
        return 0.0

    def on_train_epoch_end(self) -> None:
        """One line of alarm where the representation has collapsed or the loss sits at chance."""
        warm = self.current_epoch + 1 > self.hparams.warmup_epochs
        if not self._losses or not warm or "embed_std" not in self._health:
            return
        loss = float(torch.stack(self._losses).mean())
        reason = collapse_reason(loss, self.chance_loss(), self._health["embed_std"])
        if reason is not None:
            rank_zero_warn(f"{self.method}, epoch {self.current_epoch}: the representation {reason}")

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Collect features of labeled clips for the k-NN probe."""
        features = self.backbone(self.laid_out(batch["clip"]))
        self._probe.append((features.float(), batch["label"], batch["part"], batch["index"]))

    def on_validation_epoch_end(self) -> None:
        """Log `val/knn_top1`: accuracy of the nearest labeled features, each sample counted once."""
        if not self._probe:
            return
        columns = [gather_rows(torch.cat(column)) for column in zip(*self._probe, strict=True)]
        self._probe = []
        features, labels, part, index = (column.cpu() for column in columns)
        # a distributed loader may repeat samples to make the shares even
        keep = _first_places(part * (1 << 40) + index)
        features, labels, part = features[keep], labels[keep], part[keep]
        bank, asked = part == 0, part == 1
        if not bank.any() or not asked.any():
            return
        predicted = knn_predict(features[bank], labels[bank], features[asked], self.hparams.probe_neighbors)
        self._knn = {
            "knn_top1": float((predicted == labels[asked]).float().mean()),
            "trivial": majority_accuracy(labels[bank], labels[asked]),
            "n": int(asked.sum()),
        }
        self.log("val/knn_top1", self._knn["knn_top1"], prog_bar=True)

    def on_fit_end(self) -> None:
        """Write the last k-NN accuracy, and the most frequent class's, to the run's results."""
        if not self._knn or not self.trainer.is_global_zero or self.trainer.fast_dev_run:
            return
        data = self.trainer.datamodule
        ids = data.probe_ids()
        facts = {
            "metric": "knn_top1",
            "task": "probe",
            "split": "val",
            "n": int(self._knn["n"]),
            "of": len(ids),
            "sample_ids_sha256": sha256_ids(ids),
            "selection": "last epoch",
        }
        results = [
            Result(value=self._knn["knn_top1"], row=self.method, seed=global_seed(), **facts),
            Result(value=self._knn["trivial"], row="trivial", **facts),
        ]
        append_results(Path(self.trainer.default_root_dir) / "results.jsonl", results)

    def exported(self, network: ResNet3d, clip: ClipFormat | None = None, **facts: Any) -> dict[str, Any]:
        """The manifest of an exported network: its clips, the method, the data, what it started from."""
        data = self.trainer.datamodule
        facts = {"method": self.method, "data": data.describe(), "processes": world_size(), **facts}
        facts["started_from"] = self.hparams.backbone_weights
        return manifest(network, clip or data.clip_format, **facts)


def start_from(backbone: ResNet3d, path: str) -> None:
    """Load exported weights into a backbone of the same architecture and width.

    Raises:
        WeightsError: the weights are another network's.
    """
    weights = load(path)
    if (weights.architecture, weights.width) != (backbone.architecture, backbone.width):
        raise WeightsError(
            f"{path} holds {weights.architecture} of width {weights.width}, but the training asks for "
            f"{backbone.architecture} of width {backbone.width}: make them the same"
        )
    backbone.load_state_dict(weights.state_dict())


def _first_places(keys: Tensor) -> Tensor:
    """Where each different key stands first, in order."""
    return torch.from_numpy(np.sort(np.unique(keys.numpy(), return_index=True)[1]))
