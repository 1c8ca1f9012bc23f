"""Pretraining the Object Transformer: what hidden instances do, and which spans are of one movie.

Wu and Krahenbuhl, CVPR 2021. Masked instances: the original feature goes through a classifier to soft labels;
per class a binary KL divergence on the chosen tokens, weight 80. Compatibility: two spans of a movie are a
positive pair among all spans of the batch, temperature 0.2, weight 1.
"""

from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from kuleshov.core.distributed import gather_with_gradient
from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.results import global_seed
from kuleshov.core.weights import load_weights
from kuleshov.features.instance_store import InstanceStore
from kuleshov.tasks.lvu.lr_schedule import linear_or_cosine
from kuleshov.tasks.lvu.lvu_data import EpochSampler, RandomSpans
from kuleshov.tasks.lvu.movie_samples import SampleMaker, collate, open_movie, region_rows
from kuleshov.tasks.lvu.object_transformer import ObjectTransformerEncoder, initialize
from kuleshov.training.optimization import parameter_groups
from kuleshov.txe.feature_normalizer import Normalization


def soft_label_divergence(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over tokens and classes of KL(label || sigmoid(logit)) of two Bernoullis; 0 without tokens.

    Args:
        logits: (n, K) predictions.
        labels: (n, K) probabilities, no gradient.
    """
    if not len(logits):
        return logits.sum() * 0.0
    cross = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    entropy = -torch.xlogy(labels, labels) - torch.xlogy(1 - labels, 1 - labels)
    return (cross - entropy).mean()


def compatibility_loss(first: Tensor, second: Tensor, temperature: float = 0.2) -> Tensor:
    """Cross-entropy of finding a span's partner among all other spans; the vectors are not normalized.

    Args:
        first: (B, K) one span of each movie.
        second: (B, K) another one.
        temperature: divides the dot products.
    """
    both = torch.cat([gather_with_gradient(first), gather_with_gradient(second)])  # (2B, K)
    count = len(both) // 2
    itself = torch.eye(2 * count, dtype=torch.bool, device=both.device)
    logits = (both @ both.T / temperature).masked_fill(itself, float("-inf"))
    partner = torch.arange(2 * count, device=both.device).roll(count)
    return F.cross_entropy(logits, partner)


def dense_head(hidden: int, outputs: int) -> nn.Sequential:
    """Linear, GELU, LayerNorm, Linear: (..., H) -> (..., K)."""
    head = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.LayerNorm(hidden), nn.Linear(hidden, outputs))
    return head.apply(initialize)


class SoftLabels(nn.Module):
    """The fixed classifier that turns region features (n, F) into soft labels (n, K) in 0..1.

    Args:
        width: F.
        weights: `.safetensors` with a linear classifier (`weight` (K, F) and `bias` (K,), under any prefix,
            e.g. a backbone's own head); null draws a fixed random one, which names no class but asks for the
            feature all the same.
        classes: K of the random one.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, width: int, weights: str | None = None, classes: int = 80) -> None:
        super().__init__()
        if weights is None:
            generator = torch.Generator().manual_seed(0)
            weight, bias = torch.randn(classes, width, generator=generator) / width**0.5, torch.zeros(classes)
        else:
            weight, bias = read_classifier(weights, width)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, features: Tensor) -> Tensor:
        """Sigmoids of the classifier's logits."""
        return torch.sigmoid(F.linear(features, self.weight, self.bias))


def read_classifier(path: str, width: int) -> tuple[Tensor, Tensor]:
    """The last linear layer over features of this width in a weights file.

    Raises:
        WeightsError: there is none.
    """
    tensors, _ = load_weights(path)
    for name in reversed(list(tensors)):
        bias = f"{name.removesuffix('weight')}bias"
        fits = name.endswith("weight") and tensors[name].ndim == 2 and tensors[name].shape[1] == width
        if fits and bias in tensors:
            return tensors[name].float(), tensors[bias].float()
    raise WeightsError(f"{path} holds no linear classifier over features of width {width}: name another file")


class InstanceSpans(pl.LightningDataModule):
    """Two random spans of each movie of an instance store, some tracks masked in each.

    Args:
        instances: the store; movies without instances do not occur in it.
        batch_size: movies a batch (of each process).
        span: seconds of a span.
        limit: most instances in a span.
        mask_share: probability that a track is masked.
        mask_draws: 2 replaces twice, as the official code does.
        num_workers: processes that load data.
        seed: of everything drawn; null takes `--seed_everything`.
    """

    def __init__(
        self,
        instances: str,
        batch_size: int = 8,
        span: int = 60,
        limit: int = 254,
        mask_share: float = 0.15,
        mask_draws: int = 1,
        num_workers: int = 0,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 < mask_share < 1:
            raise KuleshovError(f"mask_share must lie between 0 and 1, not {mask_share}")
        self.folder, self.batch_size, self.num_workers, self.span = instances, batch_size, num_workers, span
        self.limit, self.mask_share, self.mask_draws = limit, mask_share, mask_draws
        self.seed = seed if seed is not None else (global_seed() or 0)
        self.store: InstanceStore | None = None

    def setup(self, stage: str | None = None) -> None:
        """Open the store, once."""
        if self.store is None:
            self.store = InstanceStore(self.folder)
            opened = [open_movie(name, 0.0, None, self.store, self.span, 1) for name in self.store]
            self.movies = [movie for movie in opened if movie is not None]

    @property
    def instance_width(self) -> int:
        """F of the region features."""
        return self.store.width

    def training_instances(self) -> Tensor:
        """Region features of some movies, (M, F)."""
        return region_rows(self.movies, self.store)

    def train_dataloader(self) -> DataLoader:
        """Pairs of spans."""
        maker = SampleMaker(
            None, self.store, self.span, self.limit, mask_share=self.mask_share, mask_draws=self.mask_draws
        )
        data = RandomSpans(self.movies, maker, self.seed, "movie", spans=2)
        return DataLoader(
            data,
            self.batch_size,
            sampler=EpochSampler(len(data), self.seed),
            num_workers=self.num_workers,
            collate_fn=collate,
        )


class InstancePretraining(pl.LightningModule):
    """Learns an Object Transformer from masked instances and compatible spans; exports `object-transformer`.

    Args:
        classifier_weights: the soft labels' classifier; null draws a fixed random one.
        soft_label_classes: classes of the random one.
        hidden: width.
        layers: number of layers.
        heads: attention heads.
        feedforward: width of the feed-forward part.
        dropout: in the transformer.
        normalize: statistics of the region features that are applied to them: none, center, standardize.
        mask_weight: weight of the masked instances' loss.
        compatibility_weight: weight of the compatibility loss; 0 leaves it out.
        temperature: of the compatibility loss.
        lr: learning rate.
        weight_decay: of kernels.
        schedule: the rate falls to 0 `linear`ly or by a `cosine`.
        warmup_share: share of the steps over which the rate rises.
    """

    def __init__(
        self,
        classifier_weights: str | None = None,
        soft_label_classes: int = 80,
        hidden: int = 768,
        layers: int = 3,
        heads: int = 12,
        feedforward: int = 3072,
        dropout: float = 0.1,
        normalize: Normalization = "none",
        mask_weight: float = 80.0,
        compatibility_weight: float = 1.0,
        temperature: float = 0.2,
        lr: float = 1e-4,
        weight_decay: float = 0.01,
        schedule: Literal["linear", "cosine"] = "linear",
        warmup_share: float = 0.1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.classifier_weights, self.soft_label_classes = classifier_weights, soft_label_classes
        self.sizes = {"hidden": hidden, "layers": layers, "heads": heads, "feedforward": feedforward}
        self.dropout, self.normalize, self.temperature = dropout, normalize, temperature
        self.mask_weight, self.compatibility_weight = mask_weight, compatibility_weight
        self.lr, self.weight_decay, self.schedule, self.warmup_share = (lr, weight_decay, schedule, warmup_share)
        self.encoder: ObjectTransformerEncoder | None = None

    def configure_model(self) -> None:
        """Build the transformer, the classifier and the two heads for the store's features."""
        if self.encoder is not None:
            return
        width = self.trainer.datamodule.instance_width
        self.encoder = ObjectTransformerEncoder(
            width, None, dropout=self.dropout, normalize=self.normalize, **self.sizes
        )
        if self.normalize != "none":
            self.encoder.normalizer.fit(self.trainer.datamodule.training_instances())
        self.soft_labels = SoftLabels(width, self.classifier_weights, self.soft_label_classes)
        self.class_head = dense_head(self.encoder.hidden, len(self.soft_labels.bias))
        if self.compatibility_weight:
            self.compatibility_head = dense_head(self.encoder.hidden, 128)
        else:
            self.encoder.pooler.requires_grad_(False)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The two losses, without their weights."""
        states, pooled = self.encoder(batch)
        tokens = batch["row"].shape[1]
        chosen = batch["chosen"]
        told = self.class_head(states[:, 2 : 2 + tokens][chosen])  # (n, K)
        with torch.no_grad():
            labels = self.soft_labels(batch["features"][batch["row"][chosen]])
        found = {"mask": soft_label_divergence(told, labels)}
        if self.compatibility_weight:
            vectors = self.compatibility_head(pooled)
            first, second = vectors[batch["turn"] == 0], vectors[batch["turn"] == 1]
            found["compatibility"] = compatibility_loss(first, second, self.temperature)
        return found

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step's weighted loss."""
        found = self.losses(batch)
        loss = self.mask_weight * found["mask"]
        if "compatibility" in found:
            loss = loss + self.compatibility_weight * found["compatibility"]
        size = len(batch["label"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=size)
        for name, value in found.items():
            self.log(f"train/{name}", value, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def exports(self) -> dict[str, tuple[nn.Module, dict[str, Any]]]:
        """The transformer, for `instance_weights` of the LVU tasks."""
        manifest = {
            "architecture": "object_transformer",
            "arguments": dict(self.encoder.arguments),
            "method": "masked instances and compatibility",
            "instances": self.trainer.datamodule.folder,
        }
        return {"object-transformer": (self.encoder, manifest)}

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with the rate's rise and fall."""
        optimizer = torch.optim.AdamW(parameter_groups(self, self.weight_decay), lr=self.lr, eps=1e-8)
        total = int(self.trainer.estimated_stepping_batches)
        schedule = linear_or_cosine(optimizer, self.schedule, round(self.warmup_share * total), total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
