"""What all ways of pretraining a backbone share: the network, watching it, the probe, handing it on."""

from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.utilities import rank_zero_warn
from safetensors.torch import save_file
from torch import Tensor, nn

from kuleshov.backbones.backbone_spec import BackboneSpec, phases_of
from kuleshov.backbones.protocol import (
    backbone_manifest,
    build_backbone,
    check_clips,
    load_backbone_weights,
    set_recompute,
)
from kuleshov.core.distributed import world_size
from kuleshov.core.files import write_through
from kuleshov.core.results import Report
from kuleshov.datasets.registry import data_set
from kuleshov.metrics.answers import Answers
from kuleshov.pretraining.batch_norm import share_batch_norm
from kuleshov.pretraining.probes import knn_answers, knn_scores
from kuleshov.pretraining.representation_health import collapse_reason, effective_rank
from kuleshov.training.callbacks import BadFilesMonitor
from kuleshov.training.optimization import OptimizedModule
from kuleshov.video.clip_format import ClipFormat


class BackbonePretraining(OptimizedModule):
    """Base of the pretraining methods; a method adds its heads, its arguments, `training_step` and `exports`.

    Its datamodule is a `PretrainingClips`.

    Args:
        backbone: the network: a name, or class_path and init_args.
        backbone_weights: exported weights to start from (a second phase); from scratch when null.
        sync_batchnorm: batch norm over all processes.
        channels_last: channels-last memory layout.
        compile: compile the backbone with torch.compile.
        recompute_stages: first stages of the backbone (residual stages, 0 to 4) whose activations the backward pass
            computes again.
        health_every: steps between two measurements of the representation.
        probe_neighbors: neighbors that vote in the k-NN probe.
    """

    method = ""

    def __init__(
        self,
        *,
        backbone: BackboneSpec = "slow_d_r50",
        backbone_weights: str | None = None,
        sync_batchnorm: bool = True,
        channels_last: bool = True,
        compile: bool = False,
        recompute_stages: int = 0,
        health_every: int = 50,
        probe_neighbors: int = 20,
        **optimization,
    ) -> None:
        super().__init__(**optimization)
        self.backbone = build_backbone(backbone)
        self.trained: list[str] = []  # what the weights have been through that this training starts from
        if backbone_weights is not None:
            self.trained = phases_of(load_backbone_weights(self.backbone, backbone_weights))
        set_recompute(self.backbone, recompute_stages)
        if channels_last:
            self.backbone = self.backbone.to(memory_format=torch.channels_last_3d)
        if compile:
            # sizes are few and fixed; torch 2.13 fails to compile 3-D ResNets for sizes left open
            self.backbone.compile(dynamic=False)
        self.knn, self.report = Answers(partial(knn_scores, neighbors=probe_neighbors)), None
        self._losses: list[Tensor] = []
        self._health: dict[str, float] = {}

    def forward(self, clips: Tensor) -> Tensor:
        """Features (B, D) of clips (B, 3, T, H, W), in the memory layout that the backbone runs fastest with."""
        return self.backbone(self.arranged(clips))

    def arranged(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) in the memory layout of the networks."""
        return clips.contiguous(memory_format=torch.channels_last_3d) if self.hparams.channels_last else clips

    def configure_model(self) -> None:
        """Check that the clips fit, and let batch norm work over all processes, before Lightning wraps the module."""
        check_clips(self.backbone, self.trainer.datamodule.clip_format)
        if self.hparams.sync_batchnorm:
            share_batch_norm(self, self.trainer.strategy.root_device.type)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Watch for unreadable files, wherever the training runs."""
        return [BadFilesMonitor()]

    def on_train_epoch_start(self) -> None:
        """Choose the clips' epoch, and forget the last one's losses."""
        self.trainer.datamodule.set_epoch(self.current_epoch)
        self._losses = []

    def record(self, loss: Tensor, parts: dict[str, Tensor]) -> None:
        """Log a step's loss and its parts, and keep the loss for the epoch's end."""
        self._losses.append(loss.detach())
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.log_dict({f"train/{name}": value.detach() for name, value in parts.items()})

    def due(self, batch_idx: int) -> bool:
        """Whether this step measures the representation's health: the first and every n-th after it."""
        return batch_idx % self.hparams.health_every == 0

    def record_health(self, measures: dict[str, Tensor], features: Tensor) -> None:
        """Log measures of the embeddings, and the effective rank of the features (B, D)."""
        measures = {**measures, "eff_rank": effective_rank(features.detach())}
        self._health = {name: float(value) for name, value in measures.items()}
        self.log_dict({f"ssl/{name}": value for name, value in self._health.items()})

    def show_pairs(
        self, first: Tensor, second: Tensor, batch_idx: int, name: str = "clips", motion: bool = False
    ) -> None:
        """Once an epoch, log a picture of the first pairs of clips (B, 3, T, H, W), normalized; motion is in [0, 1]."""
        board = getattr(self.logger, "experiment", None)
        if batch_idx or not self.trainer.is_global_zero or not hasattr(board, "add_image"):
            return
        shown = self.trainer.datamodule.shown
        below = second[:4] if motion else shown(second[:4])
        board.add_image(f"pairs/{name}", paired_filmstrip(shown(first[:4]), below), self.global_step)

    def chance_loss(self) -> float:
        """The loss of embeddings that are all the same; 0 where the method has none."""
        return 0.0

    def on_train_epoch_end(self) -> None:
        """One line of alarm where the representation has collapsed or the loss is at chance."""
        warm = self.current_epoch + 1 > self.hparams.warmup_epochs
        if not self._losses or not warm or "embed_std" not in self._health:
            return
        loss = float(torch.stack(self._losses).mean())
        reason = collapse_reason(loss, self.chance_loss(), self._health["embed_std"])
        if reason is not None:
            rank_zero_warn(f"{self.method}, epoch {self.current_epoch}: the representation {reason}")

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Collect features of labeled clips for the k-NN probe; returns them."""
        features = self(batch["clip"]).float()
        self.knn.update(*knn_answers(features, batch))
        return features

    def on_validation_epoch_end(self) -> None:
        """Log `val/knn_top1`: accuracy of the nearest labeled features, each sample counted once."""
        found = self.knn.compute()
        self.knn.reset()
        if "knn_top1" in found:
            self.log("val/knn_top1", found["knn_top1"], prog_bar=True)
            ids = self.trainer.datamodule.probe_ids()
            figures, trivial = {"knn_top1": found["knn_top1"]}, {"knn_top1": found["trivial"]}
            counts = {"knn_top1": found["n"]}
            self.report = Report("probe", "val", self.method, figures, trivial, ids, len(ids), counts)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Features (D,) of the clips' videos, by the videos' ids."""
        videos, features = self.trainer.datamodule.videos, self(batch["clip"]).float().cpu()
        return {videos[place].id: row.clone() for place, row in zip(batch["index"].tolist(), features, strict=True)}

    def write_predictions(self, folder: Path, predictions: dict[str, Tensor]) -> None:
        """Write features by video as `features.safetensors`."""
        write_through(Path(folder) / "features.safetensors", lambda path: save_file(predictions, path))

    def exported(self, network: nn.Module, clip: ClipFormat | None = None, **facts: Any) -> dict[str, Any]:
        """The manifest of an exported network: its clips, the method, the data, what it started from."""
        data = self.trainer.datamodule
        facts = {"method": self.method, "data": data.describe(), "processes": world_size(), **facts}
        facts["trained"] = [*self.trained, f"{self.method}-{data_set(data.kind).name}"]
        facts["started_from"] = self.hparams.backbone_weights
        return backbone_manifest(network, clip or data.clip_format, **facts)


def paired_filmstrip(first: Tensor, second: Tensor, max_frames: int = 8) -> Tensor:
    """Two batches of clips (N, 3, T, H, W) as a picture (3, 2 N H, frames * W): a row a clip, pairs in turn.

    Values are cut to [0, 1], frames evenly chosen; the second batch is brought to the first's frames and pixels.
    """
    first, second = first.float(), second.float()
    if first.shape != second.shape:
        second = F.interpolate(second, size=first.shape[2:])
    clips = torch.stack([first, second], dim=1).flatten(0, 1).detach().cpu()
    chosen = torch.linspace(0, clips.shape[2] - 1, min(max_frames, clips.shape[2])).round().long()
    return clips[:, :, chosen].clamp(0, 1).permute(1, 0, 3, 2, 4).flatten(3).flatten(1, 2)
