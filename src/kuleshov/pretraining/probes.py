"""What labels frozen features tell apart: a k-NN and a linear probe, and the features that they are given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from kuleshov.backbones.protocol import build_backbone
from kuleshov.core.errors import KuleshovError
from kuleshov.core.files import sha256_ids
from kuleshov.core.plugins import import_named
from kuleshov.core.results import TRIVIAL, Result
from kuleshov.video.augmentation import crop_view
from kuleshov.video.clip_datasets import LabeledClip
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.frame_source import FrameSource
from kuleshov.video.video_file import Video

LINEAR, KNN, STILL = "linear probe", "k-NN", "linear probe, still frames"
# strengths of the linear probe that are tried, as multiples of the features' mean energy per sample
STRENGTHS = tuple(10.0**power for power in (-5, -4, -3, -2, -1, 0))
QUERIES = 1 << 40  # the place of the first query, after all of the bank
Untrained = Literal["default", "zero-gamma"]


@torch.no_grad()
def knn_predict(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, neighbors: int = 20, temperature: float = 0.07
) -> Tensor:
    """Labels (B,) of queries (B, D) by a vote of the nearest features by cosine, weighing exp(cosine / temperature).

    The bank's features (M, D) have labels (M,); all vote, where it holds fewer than `neighbors`; ties go to the lowest.
    Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018.
    """
    if bank.shape[0] == 0 or bank.shape[0] != bank_labels.shape[0]:
        raise KuleshovError(f"k-NN needs labeled features, got {bank.shape[0]} and {bank_labels.shape[0]} labels")
    cosines = F.normalize(queries.float(), dim=1) @ F.normalize(bank.float(), dim=1).T  # (B, M)
    nearest, places = cosines.topk(min(neighbors, bank.shape[0]), dim=1)  # (B, k)
    votes = cosines.new_zeros(queries.shape[0], int(bank_labels.max()) + 1)
    votes.scatter_add_(1, bank_labels[places], ((nearest - 1) / temperature).exp())
    return votes.argmax(dim=1)


def majority_accuracy(bank_labels: Tensor, labels: Tensor) -> float:
    """Accuracy of always answering the bank's most frequent label."""
    return float((labels == bank_labels.mode().values).float().mean())


def knn_scores(places: Tensor, answers: Tensor, neighbors: int = 20) -> dict[str, float]:
    """`knn_top1`, `trivial` (the bank's most frequent label) and `n` queries; nothing without a bank or queries.

    For `metrics.answers.Answers`: see `knn_answers` for what it collects.
    """
    features, labels, asked = answers[:, :-1], answers[:, -1].long(), places >= QUERIES
    if asked.all() or not asked.any():
        return {}
    predicted = knn_predict(features[~asked], labels[~asked], features[asked], neighbors)
    return {
        "knn_top1": float((predicted == labels[asked]).float().mean()),
        "trivial": majority_accuracy(labels[~asked], labels[asked]),
        "n": int(asked.sum()),
    }


def knn_answers(features: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Places (B,) and features with labels (B, D + 1) of a batch {label, part (0 bank, 1 queries), index}."""
    columns = [features.float(), batch["label"].float().unsqueeze(1)]
    return batch["part"] * QUERIES + batch["index"], torch.cat(columns, dim=1)


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe, and the leave-one-out accuracy that its strength of regularization was chosen by."""

    mean: Tensor  # (D,) of the features it was fitted on
    scale: Tensor  # (D,) their standard deviations
    weight: Tensor  # (D, V)
    bias: Tensor  # (V,)
    strength: float
    accuracy: float

    def predict(self, features: Tensor) -> Tensor:
        """Labels (B,) of features (B, D)."""
        scores = ((features.double() - self.mean) / self.scale) @ self.weight + self.bias
        return scores.argmax(dim=1)


@torch.no_grad()
def fit_linear(features: Tensor, labels: Tensor, strengths: tuple[float, ...] = STRENGTHS) -> LinearProbe:
    """Ridge regression onto one-hot labels, its strength chosen by leave-one-out accuracy; ties go to the greater.

    Features (M, D) are standardized by their own mean and deviation; strengths are multiples of M. The leave-one-out
    scores are exact: the residual of each sample over one minus its leverage.
    """
    count = features.shape[0]
    if count < 2 or count != labels.shape[0]:
        raise KuleshovError(f"a linear probe needs labeled features, got {count} and {labels.shape[0]} labels")
    x = features.double()
    mean, scale = x.mean(dim=0), x.std(dim=0)
    # a unit that never changes carries nothing
    scale = torch.where(scale > 1e-8 * scale.max().clamp(min=1e-300), scale, torch.inf)
    x = (x - mean) / scale
    targets = F.one_hot(labels, int(labels.max()) + 1).double()
    bias = targets.mean(dim=0)
    energies, basis = torch.linalg.eigh(x.T @ x)  # (D,), (D, D)
    turned = x @ basis  # (M, D)
    towards = turned.T @ (targets - bias)  # (D, V)
    best: tuple[float, float, Tensor] | None = None
    for strength in sorted(strengths):
        shrink = 1 / (energies.clamp(min=0) + strength * count)
        fitted = turned @ (shrink[:, None] * towards) + bias
        leverage = 1 / count + (turned.square() * shrink).sum(dim=1, keepdim=True)
        left_out = targets - (targets - fitted) / (1 - leverage).clamp(min=1e-9)
        accuracy = float((left_out.argmax(dim=1) == labels).double().mean())
        if best is None or accuracy >= best[0]:
            best = (accuracy, strength, basis @ (shrink[:, None] * towards))
    accuracy, strength, weight = best
    return LinearProbe(mean, scale, weight, bias, strength, accuracy)


@dataclass(frozen=True)
class LabeledFeatures:
    """Features (M, D) of labeled clips, of their still middle frames, and their labels (M,) and ids."""

    features: Tensor
    still: Tensor
    labels: Tensor
    ids: list[str]

    def part(self, classes: Sequence[int]) -> "LabeledFeatures":
        """Those of some classes."""
        keep = torch.isin(self.labels, torch.tensor(list(classes))).nonzero().flatten().tolist()
        chosen = (self.features[keep], self.still[keep], self.labels[keep])
        return LabeledFeatures(*chosen, [self.ids[place] for place in keep])


def untrained(like: nn.Module, kind: Untrained, seed: int) -> nn.Module:
    """A network of the same class and arguments with random weights, reading the same clips; seeded.

    `zero-gamma` is a 3-D ResNet whose residual blocks start as their shortcuts, `default` one whose blocks do not.
    """
    arguments = dict(like.spec["init_args"])
    if "zero_init_final_gamma" in signature(import_named(like.spec["class_path"], by_user=True)).parameters:
        arguments["zero_init_final_gamma"] = kind == "zero-gamma"
    elif kind == "zero-gamma":
        raise KuleshovError(f"{like.spec['class_path']} has no zero_init_final_gamma: use --untrained default")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_backbone({**like.spec, "init_args": arguments})
    network.clip = like.clip
    return network


def take_statistics(network: nn.Module, loader: DataLoader, device: torch.device) -> None:
    """Give an untrained network the batch-norm statistics of some clips, averaged over the batches."""
    update_bn((network.clip.normalize(batch["clip"].to(device)) for batch in loader), network)


def center_clips(videos: list[Video], clip: ClipFormat, batch_size: int, workers: int) -> DataLoader:
    """The center clip of each labeled video, in order."""
    source = FrameSource([video.path for video in videos], clip.decoded_side)
    clips = LabeledClip(videos, source, crop_view(clip.crop_size), clip, train=False)
    return DataLoader(clips, batch_size=batch_size, num_workers=workers)


@torch.no_grad()
def labeled_features(
    network: nn.Module, loader: DataLoader, device: torch.device, advance: Callable[[], None]
) -> LabeledFeatures:
    """Features of the loader's clips, and of their middle frames held still; `advance` is called after each batch."""
    network.eval()
    found: list[tuple[Tensor, ...]] = []
    for batch in loader:
        clips = network.clip.normalize(batch["clip"].to(device))
        middle = clips.shape[2] // 2
        held = clips[:, :, middle : middle + 1].expand_as(clips)
        moving, still = (
            network(one.contiguous(memory_format=torch.channels_last_3d)).float().cpu() for one in (clips, held)
        )
        found.append((moving, still, batch["label"]))
        advance()
    moving, still, labels = (torch.cat(column) for column in zip(*found, strict=True))
    return LabeledFeatures(moving, still, labels, [video.id for video in loader.dataset.videos])


def probe_scores(
    bank: LabeledFeatures, queries: LabeledFeatures, groups: Mapping[str, Sequence[int]], neighbors: int
) -> list[Result]:
    """k-NN and linear accuracies in per cent: of all queries, of each group of classes, of still frames.

    Both are fitted on all of the bank; a group only chooses the queries that are counted. The linear probe's
    strength is chosen on the bank. Rows named "trivial" answer the bank's most frequent label.
    """
    linear, linear_still = fit_linear(bank.features, bank.labels), fit_linear(bank.still, bank.labels)
    results: list[Result] = []
    for name, classes in {"": None, **groups}.items():
        part = queries if classes is None else queries.part(classes)
        if not part.ids:
            raise KuleshovError(f"group {name}: no query is of its classes: check --group")
        answers = {
            LINEAR: linear.predict(part.features),
            KNN: knn_predict(bank.features, bank.labels, part.features, neighbors),
        }
        if classes is None:
            answers[STILL] = linear_still.predict(part.still)
        trivial = majority_accuracy(bank.labels, part.labels)
        facts = {"metric": "top1", "split": "val", "n": len(part.ids), "of": len(part.ids)}
        facts["sample_ids_sha256"] = sha256_ids(part.ids)
        for kind, answer in answers.items():
            task = f"{kind} {name}".strip()
            rule = f"{neighbors} neighbors" if kind == KNN else "ridge, chosen on the bank"
            hits = float((answer == part.labels).float().mean())
            results.append(Result(value=100 * hits, task=task, selection=rule, **facts))
            results.append(Result(value=100 * trivial, task=task, row=TRIVIAL, **facts))
    return results
