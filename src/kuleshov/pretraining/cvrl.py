"""CVRL: two clips of a video are alike, clips of different videos are not.

Qian et al., Spatiotemporal Contrastive Video Representation Learning, CVPR 2021; figures from the published
code (tensorflow/models, official/projects/video_ssl).
"""

from typing import Any

import torch
from torch import Tensor

from kuleshov.core.distributed import gather_with_gradient
from kuleshov.pretraining import representation_health as health
from kuleshov.pretraining.contrastive_losses import pair_chance_loss, pair_info_nce
from kuleshov.pretraining.pretraining_module import Optimizer, Pretraining
from kuleshov.pretraining.projection_head import ProjectionHead


class CVRL(Pretraining):
    """Contrastive pretraining of a video backbone from pairs of clips.

    Args:
        backbone: name of the network.
        width: channels of its stem; full size (64) when null.
        backbone_weights: exported weights to start from (a second phase); from scratch when null.
        zero_init_final_gamma: start residual blocks as their shortcuts.
        hidden_width: width of the projection head's hidden layers.
        hidden_layers: number of its hidden layers.
        embedding_width: width of the embedding.
        temperature: of InfoNCE.
        lr: learning rate for a global batch of `lr_batch`; scaled in proportion to the batch used.
        lr_batch: the batch that `lr` is meant for.
        momentum: of SGD.
        nesterov: Nesterov's form of it.
        optimizer: sgd, as published, or adamw, which small networks learn faster with.
        weight_decay: L2 decay of kernels.
        warmup_epochs: epochs of linear warm-up.
        sync_batchnorm: batch norm over all processes.
        channels_last: channels-last memory layout.
        compile: compile the backbone with torch.compile.
        recompute_stages: residual stages, 0 to 4, whose activations the backward pass computes again.
        health_every: steps between two measurements of the representation.
        probe_neighbors: neighbors that vote in the k-NN probe.
    """

    method = "cvrl"

    def __init__(
        self,
        backbone: str = "slow_d_r50",
        width: int | None = None,
        backbone_weights: str | None = None,
        zero_init_final_gamma: bool = True,
        hidden_width: int = 2048,
        hidden_layers: int = 3,
        embedding_width: int = 128,
        temperature: float = 0.1,
        lr: float = 0.32,
        lr_batch: int = 1024,
        momentum: float = 0.9,
        nesterov: bool = False,
        optimizer: Optimizer = "sgd",
        weight_decay: float = 1e-6,
        warmup_epochs: float = 5,
        sync_batchnorm: bool = True,
        channels_last: bool = True,
        compile: bool = False,
        recompute_stages: int = 0,
        health_every: int = 50,
        probe_neighbors: int = 20,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.backbone = self._prepare(zero_init_final_gamma)
        self.head = ProjectionHead(
            self.backbone.feature_width, hidden_width, embedding_width, hidden_layers, batch_norm=True
        )

    def embed(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (B, E) of both views' clips (B, 3, T, H, W), and their features (2B, D).

        Both views go through together, so that batch norm sees 2B clips.
        """
        features = self.backbone(self.laid_out(torch.cat([first, second])))
        one, other = self.head(features).chunk(2)
        return one, other, features

    def loss(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """InfoNCE over the global batch, with both views' global embeddings and the local features.

        Every process returns the loss of the whole batch, so averaging gradients over them, as DDP does,
        gives that loss's gradient.
        """
        one, other, features = self.embed(first, second)
        one, other = gather_with_gradient(one), gather_with_gradient(other)
        return pair_info_nce(one, other, self.hparams.temperature), one, other, features

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on {clip_a, clip_b}, augmented and normalized."""
        loss, one, other, features = self.loss(batch["clip_a"], batch["clip_b"])
        self.record(loss, {})
        if self.due(batch_idx):
            measures = {
                "alignment": health.alignment(one, other),
                "uniformity": health.uniformity(one),
                "embed_std": health.embedding_std(one.detach()),
                "contrast_top1": health.contrast_top1(one, other),
            }
            self.record_health(measures, features)
        self.show_pairs(batch["clip_a"], batch["clip_b"], batch_idx)
        return loss

    def chance_loss(self) -> float:
        """2 log(2B - 1) for the global batch."""
        return pair_chance_loss(self.trainer.datamodule.global_batch)

    def exports(self) -> dict[str, tuple[Any, dict]]:
        """The backbone; the head has done its work."""
        return {"backbone": (self.backbone, self.exported(self.backbone))}
