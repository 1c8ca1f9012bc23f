"""MoDist: a visual network learns from motion.

Xiao et al., MoDist: Motion Distillation for Self-supervised Video Representation Learning, arXiv 2106.09703;
defaults from the public code (amazon-science/self-supervised-maclr), which lacks the training itself.
"""

from typing import Any

import torch
from torch import Tensor, nn

from kuleshov.backbones import build
from kuleshov.core.distributed import gather_rows, rank
from kuleshov.core.errors import KuleshovError
from kuleshov.pretraining import representation_health as health
from kuleshov.pretraining.contrastive_losses import queue_chance_loss, queue_info_nce
from kuleshov.pretraining.momentum_encoder import key_encoder, update
from kuleshov.pretraining.pretraining_module import Optimizer, Pretraining
from kuleshov.pretraining.projection_head import ProjectionHead
from kuleshov.training.feature_queue import FeatureQueue


class MoDist(Pretraining):
    """Contrast between clips, and between clips and their motion, with key encoders and queues.

    loss = visual_weight * (visual to visual key)
         + cross_weight * (visual to motion key + motion to visual key)
         + motion_weight * (motion to motion key)

    each an InfoNCE against the queue of the keys' kind. The visual key belongs to another clip of the video
    than the visual query; the motion belongs to the query's.

    Args:
        backbone: name of the visual network.
        width: channels of its stem; full size (64) when null.
        motion_width: channels of the motion network's stem; full size (8) when null.
        backbone_weights: exported weights of the visual network to start from; from scratch when null.
        zero_init_final_gamma: start residual blocks as their shortcuts.
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
        lr: learning rate for a global batch of `lr_batch`; scaled in proportion to the batch used.
        lr_batch: the batch that `lr` is meant for.
        momentum: of SGD.
        nesterov: Nesterov's form of it.
        optimizer: sgd, as published, or adamw, which small networks learn faster with.
        weight_decay: L2 decay of kernels.
        warmup_epochs: epochs of linear warm-up.
        sync_batchnorm: batch norm over all processes.
        channels_last: channels-last memory layout.
        compile: compile the visual network with torch.compile.
        recompute_stages: residual stages, 0 to 4, of the visual network whose activations are computed again.
        health_every: steps between two measurements of the representation.
        probe_neighbors: neighbors that vote in the k-NN probe.

    Raises:
        KuleshovError: a weight below 0, or none above.
    """

    method = "modist"

    def __init__(
        self,
        backbone: str = "slow_d_r50",
        width: int | None = None,
        motion_width: int | None = None,
        backbone_weights: str | None = None,
        zero_init_final_gamma: bool = True,
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
        lr: float = 0.4,
        lr_batch: int = 512,
        momentum: float = 0.9,
        nesterov: bool = False,
        optimizer: Optimizer = "sgd",
        weight_decay: float = 1e-4,
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
        self._check_weights()
        self.backbone = self._prepare(zero_init_final_gamma)
        self.motion = build("motion_2d", motion_width, zero_init_final_gamma)
        self.visual_head = self._head(self.backbone)
        self.motion_head = self._head(self.motion)
        self.keys = nn.ModuleDict({name: key_encoder(network) for name, network in self._followed().items()})
        self.visual_queue = FeatureQueue(queue_size, embedding_width)
        self.motion_queue = FeatureQueue(queue_size, embedding_width)
        if cross_weight == motion_weight == 0:
            # networks without a part in the loss would stall DDP
            self.motion.requires_grad_(False)
            self.motion_head.requires_grad_(False)

    def _check_weights(self) -> None:
        names = ("visual_weight", "cross_weight", "motion_weight")
        weights = {name: self.hparams[name] for name in names}
        if min(weights.values()) < 0 or max(weights.values()) == 0:
            raise KuleshovError(f"MoDist's weights must be 0 or more and one above 0, got {weights}")

    def _head(self, network: nn.Module) -> ProjectionHead:
        chosen = self.hparams
        widths = (network.feature_width, chosen.hidden_width, chosen.embedding_width)
        return ProjectionHead(*widths, hidden_layers=1, batch_norm=chosen.head_batch_norm)

    def _followed(self) -> dict[str, nn.Module]:
        return {
            "backbone": self.backbone,
            "visual_head": self.visual_head,
            "motion": self.motion,
            "motion_head": self.motion_head,
        }

    @torch.no_grad()
    def key_embeddings(self, clips: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Move the key encoders one step, then embed clips and motion (B, 3, T, H, W) with them: (B, E) each."""
        for name, network in self._followed().items():
            update(self.keys[name], network, self.hparams.key_momentum)
        visual = self.keys["visual_head"](self.keys["backbone"](self.laid_out(clips)))
        moving = self.keys["motion_head"](self.keys["motion"](self.laid_out(motion)))
        return visual, moving

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, ...]]:
        """The weighted sum of this process's terms; afterwards all processes' keys have joined the queues.

        Args:
            batch: {clip_a, clip_b, motion_a, motion_b}, each (B, 3, T, H, W); queries are made of the a's,
                keys of the b's.

        Returns:
            The loss; its terms by name; visual queries and keys (B, E), the visual queue as the queries met
            it (K, E), and the features (B, D).
        """
        chosen = self.hparams
        visual_key, motion_key = self.key_embeddings(batch["clip_b"], batch["motion_b"])
        # copies: the queues move on before the backward pass
        seen, moved = self.visual_queue.filled().clone(), self.motion_queue.filled().clone()
        features = self.backbone(self.laid_out(batch["clip_a"]))
        visual = self.visual_head(features)
        terms = {}
        if chosen.visual_weight:
            terms["visual_visual"] = self._contrast(visual, visual_key, seen)
        if chosen.cross_weight or chosen.motion_weight:
            moving = self.motion_head(self.motion(self.laid_out(batch["motion_a"])))
        if chosen.cross_weight:
            terms["visual_motion"] = self._contrast(visual, motion_key, moved)
            terms["motion_visual"] = self._contrast(moving, visual_key, seen)
        if chosen.motion_weight:
            terms["motion_motion"] = self._contrast(moving, motion_key, moved)
        total = torch.stack([self._weight(name) * term for name, term in terms.items()]).sum()
        self.visual_queue.enqueue(visual_key)
        self.motion_queue.enqueue(motion_key)
        return total, terms, (visual.detach(), visual_key, seen, features.detach())

    def _contrast(self, queries: Tensor, keys: Tensor, queue: Tensor) -> Tensor:
        if not self.hparams.batch_negatives:
            return queue_info_nce(queries, keys, queue, self.hparams.temperature)
        first = rank() * len(keys)
        return queue_info_nce(queries, keys, queue, self.hparams.temperature, gather_rows(keys), first)

    def _weight(self, term: str) -> float:
        if term == "visual_visual":
            return self.hparams.visual_weight
        return self.hparams.motion_weight if term == "motion_motion" else self.hparams.cross_weight

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on {clip_a, clip_b, motion_a, motion_b}, augmented and normalized."""
        loss, terms, (visual, visual_key, seen, features) = self.loss(batch)
        self.record(loss, terms)
        if self.due(batch_idx):
            measures = {
                "alignment": health.alignment(visual, visual_key),
                "uniformity": health.uniformity(visual),
                "embed_std": health.embedding_std(visual),
            }
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
        filled = int(self.visual_queue.fill)
        if filled < self.trainer.datamodule.global_batch:
            return 0.0
        chosen = self.hparams
        total = chosen.visual_weight + 2 * chosen.cross_weight + chosen.motion_weight
        others = self.trainer.datamodule.global_batch - 1 if chosen.batch_negatives else 0
        return total * queue_chance_loss(filled + others)

    def exports(self) -> dict[str, tuple[Any, dict]]:
        """The visual network, and the motion network beside it."""
        return {
            "backbone": (self.backbone, self.exported(self.backbone)),
            "motion": (self.motion, self.exported(self.motion, self.trainer.datamodule.motion_format)),
        }
