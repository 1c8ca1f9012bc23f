"""MoDist: a visual network learns from motion.

Xiao et al., MoDist: Motion Distillation for Self-supervised Video Representation Learning, arXiv 2106.09703;
defaults from the public code (amazon-science/self-supervised-maclr), which lacks the training itself.
"""

import copy
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kuleshov.backbones.backbone_spec import BackboneSpec
from kuleshov.backbones.protocol import build_backbone, check_clips
from kuleshov.core.distributed import gather_rows, rank
from kuleshov.core.errors import KuleshovError
from kuleshov.pretraining import representation_health as health
from kuleshov.pretraining.backbone_pretraining import BackbonePretraining
from kuleshov.pretraining.contrastive_losses import ProjectionHead, queue_info_nce
from kuleshov.training.feature_queue import FeatureQueue

# the terms of the loss, with the argument that weighs each
TERMS = {
    "visual_visual": "visual_weight",
    "visual_motion": "cross_weight",
    "motion_visual": "cross_weight",
    "motion_motion": "motion_weight",
}
# the networks that key encoders, copies without gradient, follow slowly
FOLLOWED = ("backbone", "visual_head", "motion", "motion_head")


class MoDist(BackbonePretraining):
    """Contrast between clips, and between clips and their motion, with key encoders and queues.

    loss = visual_weight * (visual to visual key)
         + cross_weight * (visual to motion key + motion to visual key)
         + motion_weight * (motion to motion key)

    each an InfoNCE against the queue of the keys' kind. The visual key belongs to another moment of the video than the
    visual query; so does the motion key with `motion_of` other, with `same` it belongs to the query's own moment, as
    the motion query then does to that of the visual key.

    Args:
        motion_backbone: the motion network, as `backbone`.
        hidden_width: width of the projection heads' hidden layer.
        embedding_width: width of the embedding.
        head_batch_norm: batch norm in the heads' hidden layer, as CVRL's have; without it a small network
            with a high learning rate collapses.
        temperature: of InfoNCE.
        queue_size: rows of each of the two queues.
        key_momentum: share of a key encoder that stays at each step.
        batch_negatives: the keys of the batch's other samples are negatives too, beside the queue's.
        visual_weight: weight of the visual-visual term.
        cross_weight: weight of the two visual-motion terms.
        motion_weight: weight of the motion-motion term.
        motion_of: whether a clip is to be told by the motion of the `same` moment or of the `other`.

    Raises:
        KuleshovError: a weight below 0, or none above.
    """

    method = "modist"

    def __init__(
        self,
        *,
        motion_backbone: BackboneSpec = "motion_2d",
        hidden_width: int = 2048,
        embedding_width: int = 128,
        head_batch_norm: bool = False,
        temperature: float = 0.1,
        queue_size: int = 65536,
        key_momentum: float = 0.999,
        batch_negatives: bool = False,
        visual_weight: float = 1.0,
        cross_weight: float = 1.0,
        motion_weight: float = 0.0,
        motion_of: Literal["same", "other"] = "other",
        **shared,
    ) -> None:
        weights = {"visual_weight": visual_weight, "cross_weight": cross_weight, "motion_weight": motion_weight}
        if min(weights.values()) < 0 or max(weights.values()) == 0:
            raise KuleshovError(f"MoDist's weights must be 0 or more and one above 0, got {weights}")
        super().__init__(**shared)
        self.motion = build_backbone(motion_backbone)
        self.visual_head = self._head(self.backbone)
        self.motion_head = self._head(self.motion)
        self.keys = nn.ModuleDict({name: copy.deepcopy(getattr(self, name)) for name in FOLLOWED}).requires_grad_(False)
        self.visual_queue = FeatureQueue(queue_size, embedding_width)
        self.motion_queue = FeatureQueue(queue_size, embedding_width)
        if cross_weight == motion_weight == 0:
            # networks without a part in the loss would stall DDP
            self.motion.requires_grad_(False)
            self.motion_head.requires_grad_(False)

    def _head(self, network: nn.Module) -> ProjectionHead:
        given = self.hparams
        widths = (network.feature_width, given.hidden_width, given.embedding_width)
        return ProjectionHead(*widths, hidden_layers=1, batch_norm=given.head_batch_norm)

    def configure_model(self) -> None:
        """Check the motion's clips too."""
        check_clips(self.motion, self.trainer.datamodule.motion_format)
        super().configure_model()

    @torch.no_grad()
    def key_embeddings(self, clips: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Move the key encoders one step, then embed clips and motion (B, 3, T, H, W) with them: (B, E) each."""
        for name, key in self.keys.items():
            follow(key, getattr(self, name), self.hparams.key_momentum)
        visual = self.keys["visual_head"](self.keys["backbone"](self.arranged(clips)))
        moving = self.keys["motion_head"](self.keys["motion"](self.arranged(motion)))
        return visual, moving

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, ...]]:
        """The weighted sum of this process's terms; afterwards all processes' keys have joined the queues.

        Args:
            batch: {clip_a, clip_b, motion_a, motion_b}, each (B, 3, T, H, W); visual queries are made of clip_a,
                visual keys of clip_b, those of motion as `motion_of` says.

        Returns:
            The loss; its terms by name; visual queries and keys (B, E), the visual queue as the queries met
            it (K, E), and the features (B, D).
        """
        given = self.hparams
        asked, told = ("motion_b", "motion_a") if given.motion_of == "same" else ("motion_a", "motion_b")
        visual_key, motion_key = self.key_embeddings(batch["clip_b"], batch[told])
        # copies: the queues move on before the backward pass
        seen, moved = self.visual_queue.filled().clone(), self.motion_queue.filled().clone()
        features = self(batch["clip_a"])
        queries = {"visual": self.visual_head(features)}
        if given.cross_weight or given.motion_weight:
            queries["motion"] = self.motion_head(self.motion(self.arranged(batch[asked])))
        keys = {"visual": (visual_key, seen), "motion": (motion_key, moved)}
        terms = {}
        for name in (name for name, weight in TERMS.items() if given[weight]):
            query, _, kind = name.partition("_")
            key, queue = keys[kind]
            others = gather_rows(key) if given.batch_negatives else None
            terms[name] = queue_info_nce(queries[query], key, queue, given.temperature, others, rank() * len(key))
        total = torch.stack([given[TERMS[name]] * term for name, term in terms.items()]).sum()
        self.visual_queue.enqueue(visual_key)
        self.motion_queue.enqueue(motion_key)
        return total, terms, (queries["visual"].detach(), visual_key, seen, features.detach())

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on {clip_a, clip_b, motion_a, motion_b}, augmented and normalized."""
        loss, terms, (visual, visual_key, seen, features) = self.loss(batch)
        self.record(loss, terms)
        if self.due(batch_idx):
            measures = health.embedding_measures(visual, visual_key)
            if len(seen):
                measures["contrast_top1"] = health.queue_top1(visual, visual_key, seen)
            self.record_health(measures, features)
            self.log("queue/fill", float(self.visual_queue.fill))
            self.log("queue/mean_age", self.visual_queue.mean_age())
        self.show_pairs(batch["clip_a"], batch["clip_b"], batch_idx)
        self.show_pairs(batch["clip_a"], batch["motion_a"], batch_idx, "motion", motion=True)
        return loss

    def chance_loss(self) -> float:
        """Each term's log(1 + K) for the rows that the queue holds, weighted; 0 before it holds enough."""
        filled, batch = int(self.visual_queue.fill), self.trainer.datamodule.batch_size
        if filled < batch:
            return 0.0
        total = sum(self.hparams[weight] for weight in TERMS.values())
        return total * math.log(1 + filled + (batch - 1 if self.hparams.batch_negatives else 0))

    def exports(self) -> dict[str, tuple[Any, dict]]:
        """The visual network, and the motion network beside it."""
        motion = self.exported(self.motion, self.trainer.datamodule.motion_format)
        return {"backbone": (self.backbone, self.exported(self.backbone)), "motion": (self.motion, motion)}


@torch.no_grad()
def follow(key: nn.Module, network: nn.Module, momentum: float) -> None:
    """Move the key encoder's parameters towards the network's: key = m * key + (1 - m) * network.

    Only parameters are averaged; batch-norm statistics are the key encoder's own (as in MoCo). All ranks
    hold the same parameters after a step of DDP, so the copies stay the same on all of them.
    """
    for follower, leader in zip(key.parameters(), network.parameters(), strict=True):
        follower.lerp_(leader, 1 - momentum)
