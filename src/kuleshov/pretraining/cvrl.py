"""CVRL: two clips of a video are alike, clips of different videos are not.

Qian et al., Spatiotemporal Contrastive Video Representation Learning, CVPR 2021; figures from the published
code (tensorflow/models, official/projects/video_ssl).
"""

import math
from typing import Any

import torch
from torch import Tensor

from kuleshov.core.distributed import gather_with_gradient
from kuleshov.pretraining import representation_health as health
from kuleshov.pretraining.backbone_pretraining import BackbonePretraining
from kuleshov.pretraining.contrastive_losses import ProjectionHead, pair_info_nce


class CVRL(BackbonePretraining):
    """Contrastive pretraining of a video backbone from pairs of clips.

    Args:
        hidden_width: width of the projection head's hidden layers.
        hidden_layers: number of its hidden layers.
        embedding_width: width of the embedding.
        temperature: of InfoNCE.
    """

    method = "cvrl"

    def __init__(
        self,
        *,
        hidden_width: int = 2048,
        hidden_layers: int = 3,
        embedding_width: int = 128,
        temperature: float = 0.1,
        **shared,
    ) -> None:
        super().__init__(**shared)
        self.head = ProjectionHead(
            self.backbone.feature_width, hidden_width, embedding_width, hidden_layers, batch_norm=True
        )

    def loss(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """InfoNCE over the global batch, with both views' global embeddings and the local features.

        Both views' clips (B, 3, T, H, W) go through together, so that batch norm sees 2B clips. Every process returns
        the loss of the whole batch, so averaging gradients over them, as DDP does, gives that loss's gradient.
        """
        features = self(torch.cat([first, second]))
        one, other = (gather_with_gradient(part) for part in self.head(features).chunk(2))
        return pair_info_nce(one, other, self.hparams.temperature), one, other, features

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on {clip_a, clip_b}, augmented and normalized."""
        loss, one, other, features = self.loss(batch["clip_a"], batch["clip_b"])
        self.record(loss, {})
        if self.due(batch_idx):
            top1 = {"contrast_top1": health.contrast_top1(one, other)}
            self.record_health(health.embedding_measures(one.detach(), other.detach()) | top1, features)
        self.show_pairs(batch["clip_a"], batch["clip_b"], batch_idx)
        return loss

    def chance_loss(self) -> float:
        """That of the global batch."""
        return 2 * math.log(2 * self.trainer.datamodule.batch_size - 1)

    def exports(self) -> dict[str, tuple[Any, dict]]:
        """The backbone; the head has done its work."""
        return {"backbone": (self.backbone, self.exported(self.backbone))}
