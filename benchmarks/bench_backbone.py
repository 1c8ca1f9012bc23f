"""How fast a backbone trains and clips are augmented, against plain ways of doing it, as ratios of one run.

Peers: pytorchvideo's networks built with the same shapes, where pytorchvideo is installed (docs/backbones.md says
how), as its documentation builds them and in channels-last memory; torchvision's image transforms are no peer
(they draw anew for every frame): the plain way of augmenting is a loop over clips. The floor of a training step
is its floating-point operations over what a matrix product of this machine does in the same number format; the
floor of an augmentation is the bytes of the clips in and out over the memory's bandwidth.

    python benchmarks/bench_backbone.py            # table; exit status 1 where a ratio is missed
"""

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from lines import Line, finish
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kuleshov.backbones import build_backbone
from kuleshov.pretraining.batch_norm import exact_batch_norm
from kuleshov.video.augmentation import ClipAugmentation, cvrl_views, draw_view

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
PEER = importlib.util.find_spec("pytorchvideo") is not None


@dataclass(frozen=True)
class Setting:
    """A network and the clips it is trained on."""

    name: str
    architecture: str
    width: int
    batch: int
    frames: int
    size: int

    def network(self, **arguments) -> nn.Module:
        """The network with new weights."""
        return build_backbone({"class_path": self.architecture, "init_args": {"width": self.width, **arguments}})


SETTINGS = (
    Setting("Slow-D, demo", "slow_d_r50", 8, 16, 8, 48),
    Setting("Slow-D, 16x4", "slow_d_r50", 64, 64 if CUDA else 1, 16, 224 if CUDA else 112),
    Setting("Slow, 8x8", "slow_r50", 64, 64 if CUDA else 1, 8, 224 if CUDA else 112),
)


def seconds(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round; all ways take turns, so that a busy machine slows all alike."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        # back and forth: what runs before a way can slow it
        for name, run in list(ways.items())[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            run()
            if CUDA:
                torch.cuda.synchronize()
            if number:  # the first round warms up
                taken[name].append(time.perf_counter() - started)
    return taken


def peak_flops(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a large matrix product."""
    size = 8192 if CUDA else 768
    a, b = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
    return 2 * size**3 / statistics.median(seconds({"product": lambda: a @ b}, 7)["product"])


def bandwidth() -> float:
    """Bytes a second that a plain copy reads and writes."""
    block = torch.ones(2**27, dtype=torch.uint8, device=DEVICE)
    other = torch.empty_like(block)
    return 2 * len(block) / statistics.median(seconds({"copy": lambda: other.copy_(block)}, 5)["copy"])


def step_flops(setting: Setting) -> float:
    """Floating-point operations of a training step, forward and backward, counted on shapes alone."""
    with torch.device("meta"):
        network = setting.network()
        clips = torch.empty(setting.batch, 3, setting.frames, setting.size, setting.size)
    with FlopCounterMode(display=False) as counter:
        network(clips).sum().backward()
    return counter.get_total_flops()


def training_step(network: nn.Module, clips: Tensor, half: bool) -> Callable[[], None]:
    """A step of SGD on a mean of features: forward, backward, update."""
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16) if half else nullcontext():
            loss = network(clips).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


class Peer(nn.Module):
    """pytorchvideo's network without a head, averaged like ours."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        from pytorchvideo.models.resnet import create_resnet

        dense = setting.architecture == "slow_d_r50"
        self.network = create_resnet(
            model_depth=50,
            stem_dim_out=setting.width,
            stem_conv_kernel_size=(5 if dense else 1, 7, 7),
            stem_conv_stride=(2 if dense else 1, 2, 2),
            stage_conv_a_kernel_size=((1, 1, 1), (1, 1, 1), (3, 1, 1), (3, 1, 1)),
            head=None,
        )

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) to (B, D)."""
        return self.network(clips).mean(dim=(2, 3, 4))


def our_steps(setting: Setting, clips: Tensor) -> dict[str, Callable[[], None]]:
    """Steps of our network in both memory layouts and compiled, and with the batch norm of several processes."""
    last = clips.contiguous(memory_format=torch.channels_last_3d)

    def network() -> nn.Module:
        # as pytorchvideo's blocks start
        return setting.network(zero_init_final_gamma=False).to(DEVICE)

    turned = network().to(memory_format=torch.channels_last_3d)
    compiled = network().to(memory_format=torch.channels_last_3d)
    compiled.compile(dynamic=False)
    half = ", bf16" if CUDA else ""
    ways = {
        "ours: plain layout": training_step(network(), clips, CUDA),
        f"ours: channels last{half}": training_step(turned, last, CUDA),
        f"ours: channels last{half}, compiled": training_step(compiled, last, CUDA),
    }
    if not CUDA:
        shared = exact_batch_norm(network().to(memory_format=torch.channels_last_3d))
        ways["channels last, batch norm over processes"] = training_step(shared, last, False)
    return ways


def bench_training(setting: Setting, rounds: int) -> list[Line]:
    """Steps of ours and of the peer, where there is one; ratios are over the peer's faster layout."""
    shape = (setting.batch, 3, setting.frames, setting.size, setting.size)
    clips = torch.randn(shape, device=DEVICE)
    ways = our_steps(setting, clips)
    if PEER:
        last = clips.contiguous(memory_format=torch.channels_last_3d)
        turned = Peer(setting).to(DEVICE, memory_format=torch.channels_last_3d)
        ways["pytorchvideo"] = training_step(Peer(setting).to(DEVICE), clips, CUDA)
        ways["pytorchvideo: channels last"] = training_step(turned, last, CUDA)
    floor = peak_flops(torch.bfloat16 if CUDA else torch.float32) * setting.batch / step_flops(setting)
    rates = {way: [setting.batch / one for one in taken] for way, taken in seconds(ways, rounds).items()}
    # each side as it runs fastest
    fastest = sorted(rates, key=lambda way: -statistics.median(rates[way]))
    own = next(way for way in fastest if way.startswith("ours"))
    base = next((way for way in fastest if way.startswith("pytorchvideo")), "ours: plain layout")
    what = f"training step, {setting.name}, {setting.batch} x {setting.frames} x {setting.size}"
    least = (1.5 if CUDA else 1.0) if PEER else 0.0
    return [
        Line(f"{what}, {way}", "clips/s", found, base, rates[base], [floor] * rounds, least if way == own else 0.0)
        for way, found in rates.items()
        if not way.startswith("pytorchvideo")
    ]


def bench_augmentation(batch: int, frames: int, size: int, rounds: int, least: float) -> list[Line]:
    """The batched half of CVRL's augmentation against a loop over the clips."""
    policy = cvrl_views(size)[0]
    generator = np.random.default_rng(0)
    vectors = np.stack([draw_view(generator, size, size, policy).vector() for _ in range(batch)])
    parameters = torch.from_numpy(vectors).to(DEVICE)
    clips = torch.randint(0, 256, (batch, 3, frames, size, size), dtype=torch.uint8, device=DEVICE)
    augment = ClipAugmentation()

    def loop() -> None:
        for place in range(batch):
            augment(clips[place : place + 1], parameters[place : place + 1])

    plain = "a loop over clips"
    taken = seconds({plain: loop, "ours": lambda: augment(clips, parameters)}, rounds)
    ours, theirs = ([batch / one for one in taken[name]] for name in ("ours", plain))
    # uint8 in, float32 out
    floor = [batch * bandwidth() / (clips.numel() * 5)] * rounds
    return [Line(f"augmentation, {batch} x {frames} x {size}", "clips/s", ours, plain, theirs, floor, least)]


def main() -> int:
    """Measure and print; 1 where a ratio is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--lines", type=Path, help="write them here instead")
    arguments = parser.parse_args()
    lines = [line for setting in SETTINGS for line in bench_training(setting, arguments.rounds)]
    lines += bench_augmentation(128, 8, 48, arguments.rounds, 0.9)
    # on a CPU a clip of this size fits its cache and a batch does not: told, but no floor
    lines += bench_augmentation(64 if CUDA else 4, 16, 224, arguments.rounds, 1.0 if CUDA else 0.0)
    if not PEER:
        print("skipped: pytorchvideo is not installed (docs/backbones.md says how)", file=sys.stderr)
    return finish(lines, arguments.lines)


if __name__ == "__main__":
    sys.exit(main())
