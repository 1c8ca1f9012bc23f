"""What a frozen backbone's features tell apart: k-NN and a linear probe on labeled clips."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kuleshov.backbones import build
from kuleshov.backbones.resnet3d import ResNet3d
from kuleshov.core.files import sha256_ids
from kuleshov.core.results import Result
from kuleshov.pretraining.knn import knn_predict, majority_accuracy
from kuleshov.pretraining.linear_probe import fit_linear
from kuleshov.video.augmentation import crop_view
from kuleshov.video.clip_datasets import LabeledClip
from kuleshov.video.clip_format import ClipFormat
from kuleshov.video.frame_source import FrameSource
from kuleshov.video.video_file import Video

LINEAR, KNN, STILL = "linear probe", "k-NN", "linear probe, still frames"
Untrained = Literal["default", "zero-gamma"]


@dataclass(frozen=True)
class Labeled:
    """Features (M, D) of labeled clips, of their still middle frames, and their labels (M,) and ids."""

    features: Tensor
    still: Tensor
    labels: Tensor
    ids: list[str]

    def part(self, classes: Sequence[int]) -> "Labeled":
        """Those of some classes."""
        keep = torch.isin(self.labels, torch.tensor(list(classes))).nonzero().flatten().tolist()
        chosen = (self.features[keep], self.still[keep], self.labels[keep])
        return Labeled(*chosen, [self.ids[place] for place in keep])


def untrained(like: ResNet3d, kind: Untrained, seed: int) -> ResNet3d:
    """A network of the same shape with random weights, reading the same clips; seeded.

    Args:
        like: made by `backbones.load`.
        kind: `default`, or `zero-gamma` whose residual blocks start as their shortcuts.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(like.architecture, like.width, kind == "zero-gamma")
    network.clip = like.clip
    return network


def _loader(network: ResNet3d, videos: list[Video], batch_size: int, workers: int) -> DataLoader:
    clip = network.clip
    source = FrameSource([video.path for video in videos], clip.short_side)
    shape = ClipFormat(clip.num_frames, clip.frame_stride, clip.frame_rate)
    clips = LabeledClip(videos, source, crop_view(clip.crop_size), shape, train=False)
    return DataLoader(clips, batch_size=batch_size, num_workers=workers)


@torch.no_grad()
def take_statistics(network: ResNet3d, loader: DataLoader, device: torch.device) -> None:
    """Give an untrained network the batch-norm statistics of some clips, averaged over the batches."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    for batch in loader:
        network(network.clip.normalize(batch["clip"].to(device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


@torch.no_grad()
def labeled_features(
    network: ResNet3d, loader: DataLoader, device: torch.device, advance: Callable[[], None]
) -> Labeled:
    """Features of the center clip of each video, and of its middle frame held still."""
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
    return Labeled(moving, still, labels, [video.id for video in loader.dataset.videos])


def scores(bank: Labeled, queries: Labeled, groups: Mapping[str, Sequence[int]], neighbors: int) -> list[Result]:
    """k-NN and linear accuracies in per cent: of all queries, of each group of classes, of still frames.

    Both are fitted on all of the bank; a group only chooses the queries that are counted. The linear probe's
    strength is chosen on the bank. Rows named "trivial" answer the bank's most frequent label.
    """
    linear, linear_still = fit_linear(bank.features, bank.labels), fit_linear(bank.still, bank.labels)
    results: list[Result] = []
    for name, classes in {"": None, **groups}.items():
        part = queries if classes is None else queries.part(classes)
        if not part.ids:
            continue
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
            results.append(Result(value=100 * trivial, task=task, row="trivial", **facts))
    return results


def probe(
    network: ResNet3d,
    bank: list[Video],
    queries: list[Video],
    groups: Mapping[str, Sequence[int]],
    *,
    random: bool = False,
    neighbors: int = 20,
    batch_size: int = 32,
    workers: int = 0,
    device: str = "cpu",
    advance: Callable[[], None] = lambda: None,
) -> list[Result]:
    """Score a frozen backbone on labeled videos; see `scores`.

    Args:
        network: with a `.clip`.
        bank: labeled videos that the probes are fitted on.
        queries: labeled videos whose labels they guess.
        groups: name -> classes that are also scored by themselves.
        random: whether the network is untrained and needs batch-norm statistics; the bank gives them.
        neighbors: that vote in the k-NN probe.
        batch_size: clips in a batch.
        workers: loader processes.
        device: to compute on.
        advance: called after each batch that is done.
    """
    target = torch.device(device)
    network = network.to(target, memory_format=torch.channels_last_3d)
    loaders = [_loader(network, videos, batch_size, workers) for videos in (bank, queries)]
    if random:
        take_statistics(network, loaders[0], target)
    network.eval()
    known, asked = (labeled_features(network, loader, target, advance) for loader in loaders)
    return scores(known, asked, groups, neighbors)
