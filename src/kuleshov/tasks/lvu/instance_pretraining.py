"""Pretraining the Object Transformer: predict hidden instances, and find the spans that are of one movie.

Wu and Krahenbuhl, CVPR 2021. Masked instances: the original feature goes through a classifier to soft labels;
per class a binary KL divergence on the chosen tokens, weight 80. Compatibility: two spans of a movie are a
positive pair among all spans of the batch, temperature 0.2, weight 1.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from kuleshov.core.distributed import gather_with_gradient
from kuleshov.core.errors import KuleshovError, WeightsError
from kuleshov.core.files import write_through
from kuleshov.core.weights import load_weights
from kuleshov.features.feature_store import InstanceStore
from kuleshov.tasks.lvu.lvu_data import AllSpans, RandomSpans, SpanData
from kuleshov.tasks.lvu.movie_samples import open_movie
from kuleshov.tasks.lvu.object_transformer import INSTANCE_METHOD, ObjectTransformerEncoder, initialize
from kuleshov.training.optimization import OptimizedModule, parameter_groups
from kuleshov.txe.feature_normalizer import Normalization


def soft_label_divergence(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of KL(label || sigmoid(logit)) of Bernoullis: logits (n, K), labels (n, K) without gradient; 0 for n = 0."""
    if not len(logits):
        return logits.sum() * 0.0
    cross = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    entropy = -torch.xlogy(labels, labels) - torch.xlogy(1 - labels, 1 - labels)
    return (cross - entropy).mean()


def compatibility_loss(first: Tensor, second: Tensor, temperature: float = 0.2) -> Tensor:
    """Cross-entropy of finding a span's partner among all others, of two spans (B, K) of each movie, not normalized."""
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


def soft_label_classifier(width: int, weights: str | None = None, classes: int = 80) -> nn.Linear:
    """The fixed linear classifier whose sigmoids are the soft labels (n, K) of region features (n, F).

    It is read from `weights`; null draws a fixed random one: it names no class but asks for the feature all the same.
    """
    if weights is None:
        generator = torch.Generator().manual_seed(0)
        weight, bias = torch.randn(classes, width, generator=generator) / width**0.5, torch.zeros(classes)
    else:
        weight, bias = read_classifier(weights, width)
    classifier = nn.utils.skip_init(nn.Linear, width, len(bias))
    classifier.load_state_dict({"weight": weight, "bias": bias})
    return classifier.requires_grad_(False)


def read_classifier(path: str, width: int) -> tuple[Tensor, Tensor]:
    """`weight` (K, F) and `bias` (K,) of the last linear layer over features of width F in a weights file.

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


def check_classifier(path: str, backbone_sha256: str | None) -> None:
    """Refuse a backbone's own classifier over the features of another backbone.

    Raises:
        WeightsError: the weights are of another backbone than the one that made the features.
    """
    manifest = load_weights(path)[1]
    if "class_path" in manifest and backbone_sha256 not in (None, manifest["sha256"]):
        raise WeightsError(
            f"{path} ({manifest['sha256'][:8]}) did not make the instances, {backbone_sha256[:8]} did: "
            "give both, --use instances=STORE and --use ot.supervised=WEIGHTS, or neither"
        )


class InstanceSpans(SpanData):
    """Two random spans of each movie of an instance store, some tracks masked in each.

    Args:
        instances: the store; movies without instances do not occur in it.
        mask_share: probability that a track is masked.
        mask_draws: 2 replaces twice, as the official code does.
    """

    def __init__(self, instances: str, mask_share: float = 0.15, mask_draws: int = 1, **shared) -> None:
        super().__init__(**shared)
        if not 0 < mask_share < 1:
            raise KuleshovError(f"mask_share must lie between 0 and 1, not {mask_share}")
        self.folder, self.masking = instances, {"mask_share": mask_share, "mask_draws": mask_draws}

    def setup(self, stage: str | None = None) -> None:
        if self.instances is None:
            self.instances = InstanceStore(self.folder)
            opened = [open_movie(name, 0.0, None, self.instances, self.span, 1) for name in self.instances]
            self.movies["train"] = [movie for movie in opened if movie is not None]

    def train_dataloader(self) -> DataLoader:
        maker = self.maker(**self.masking)
        return self.loader(RandomSpans(self.movies["train"], maker, self.seed, "movie", spans=2))

    def predict_dataloader(self) -> DataLoader:
        """All spans of all movies, nothing masked."""
        return self.loader(AllSpans(self.movies["train"], self.maker(), self.seed))


class InstancePretraining(OptimizedModule):
    """Learns an Object Transformer from masked instances and compatible spans; exports `object-transformer`.

    Args:
        classifier_weights: the soft labels' classifier; null draws a fixed random one.
        soft_label_classes: classes of the random one.
        hidden: width.
        layers: number of layers.
        heads: attention heads.
        feedforward: width of the feed-forward part.
        dropout: in the transformer.
        instance_normalization: statistics of the region features that are applied to them.
        mask_weight: weight of the masked instances' loss.
        compatibility_weight: weight of the compatibility loss; 0 leaves it out.
        temperature: of the compatibility loss.
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
        instance_normalization: Normalization = "none",
        mask_weight: float = 80.0,
        compatibility_weight: float = 1.0,
        temperature: float = 0.2,
        **optimization,
    ) -> None:
        super().__init__(**optimization)
        self.encoder: ObjectTransformerEncoder | None = None

    def configure_model(self) -> None:
        """Build the transformer, the classifier and the two heads for the store's features."""
        if self.encoder is not None:
            return
        given, data = self.hparams, self.trainer.datamodule
        names = ("hidden", "layers", "heads", "feedforward", "dropout", "instance_normalization")
        width = data.instances.width
        self.encoder = ObjectTransformerEncoder(width, **{name: given[name] for name in names})
        if given.instance_normalization != "none":
            self.encoder.normalizer.fit(data.training_instances())
        if given.classifier_weights is not None:
            check_classifier(given.classifier_weights, data.instances.backbone_sha256)
        self.soft_labels = soft_label_classifier(width, given.classifier_weights, given.soft_label_classes)
        self.class_head = dense_head(given.hidden, self.soft_labels.out_features)
        if given.compatibility_weight:
            self.compatibility_head = dense_head(given.hidden, 128)
        else:
            self.encoder.pooler.requires_grad_(False)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One pair of groups for the whole network."""
        return [{**group, "lr": self.hparams.lr} for group in parameter_groups(self, self.hparams.weight_decay)]

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The two losses, without their weights."""
        states, pooled = self.encoder(batch)
        chosen = batch["chosen"]
        logits = self.class_head(states[:, 2 : 2 + chosen.shape[1]][chosen])  # (n, K)
        with torch.no_grad():
            labels = self.soft_labels(batch["features"][batch["row"][chosen]]).sigmoid()
        found = {"mask": soft_label_divergence(logits, labels)}
        if self.hparams.compatibility_weight:
            vectors = self.compatibility_head(pooled)
            first, second = vectors[batch["turn"] == 0], vectors[batch["turn"] == 1]
            found["compatibility"] = compatibility_loss(first, second, self.hparams.temperature)
        return found

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        found = self.losses(batch)
        loss = self.hparams.mask_weight * found["mask"]
        if "compatibility" in found:
            loss = loss + self.hparams.compatibility_weight * found["compatibility"]
        for name, value in {"loss": loss, **found}.items():
            self.log(f"train/{name}", value, on_step=False, on_epoch=True, batch_size=len(batch["label"]))
        return loss

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """The pooled states of each movie's spans, float32 (spans, H), by movie."""
        _, pooled = self.encoder(batch, spans_per_pass=64)
        movies, place = self.trainer.datamodule.movies["train"], batch["place"].tolist()
        parts = pooled.float().cpu().split(batch["movie"].bincount(minlength=len(place)).tolist())
        return {movies[number].id: part for number, part in zip(place, parts, strict=True)}

    def write_predictions(self, folder: Path, predictions: dict[str, Tensor]) -> None:
        """Write `spans.safetensors`: a tensor (spans, H) a movie."""
        tensors = {name: part.contiguous().clone() for name, part in predictions.items()}
        write_through(Path(folder) / "spans.safetensors", lambda path: save_file(tensors, path))

    def exports(self) -> dict[str, tuple[nn.Module, dict[str, Any]]]:
        """The transformer, for `instance_weights` of the LVU tasks."""
        manifest = {
            "architecture": "object_transformer",
            "arguments": dict(self.encoder.arguments),
            "method": INSTANCE_METHOD,
            "instances": self.trainer.datamodule.folder,
        }
        return {"object-transformer": (self.encoder, manifest)}
