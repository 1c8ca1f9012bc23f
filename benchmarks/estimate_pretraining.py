"""Time and memory of the paper's pretrainings on several GPUs: computed, not measured on GPUs.

Counted: floating-point operations of the networks and bytes of the activations that the backward pass keeps, on
shapes alone. Measured here: the share of this machine's matrix product that a training step reaches, and how many
videos a second one core reads. Assumed: the GPUs' peak and the share of it that a step reaches there.

    python benchmarks/estimate_pretraining.py
    python benchmarks/estimate_pretraining.py --gpus 16 --gpu h100 --share 0.35 --videos 240000
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import torch
import yaml
from bench_backbone import Setting, peak_flops, seconds, training_step
from bench_video import SETTINGS as VIDEO_SETTINGS
from bench_video import compare, our_reading, write_videos
from torch.utils.flop_counter import FlopCounterMode

from kuleshov.backbones import build_backbone

ROOT = Path(__file__).resolve().parents[1]
# dense bf16 operations a second, and gigabytes, by the makers' data sheets
GPUS = {"a100": (312e12, 80), "h100": (989e12, 80), "h200": (989e12, 141)}


@dataclass(frozen=True)
class Method:
    """What a step does to a sample: clips with a backward pass, clips without, visual and motion."""

    name: str
    trained: int
    embedded: int
    motion: bool = False


METHODS = (Method("cvrl", 2, 0), Method("modist", 1, 1, True), Method("supervised", 1, 0))


def operations(name: str, backward: bool) -> float:
    """Floating-point operations of one clip of 16 x 224 x 224 through a network, a multiply-add being two."""
    with torch.device("meta"):
        network, clip = build_backbone(name), torch.empty(1, 3, 16, 224, 224)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        features = network(clip)
        if backward:
            features.sum().backward()
    return float(counter.get_total_flops())


def stage_operations(name: str, stages: int) -> float:
    """Floating-point operations of the first residual stages alone, forward, of one clip."""
    with torch.device("meta"):
        network, clip = build_backbone(name), torch.empty(1, 3, 16, 224, 224)
    with FlopCounterMode(display=False, depth=2) as counter:
        network(clip)
    counted = counter.get_flop_counts()
    names = [f"{type(network).__name__}.s{number + 2}" for number in range(stages)]
    return float(sum(sum(counted[name].values()) for name in names))


def kept_bytes(name: str, recomputed: int) -> float:
    """Bytes that the forward pass of one clip keeps for the backward pass, in bf16.

    Args:
        name: of the network.
        recomputed: stages whose blocks keep their inputs alone.
    """
    held: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        return tensor

    with torch.device("meta"):
        network, clip = build_backbone(name), torch.empty(1, 3, 16, 224, 224)
    network.recompute(recomputed)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(clip)
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in held}
    return sum(size for place, size in storages.items() if place not in weights) / 2


def settings(method: str) -> tuple[int, int, int]:
    """Global batch, epochs and stages computed again, of the paper-scale configuration."""
    chosen: dict[str, int] = {}
    for name in (f"{method}.yaml", f"{method}.paper.yaml"):
        values = yaml.safe_load((ROOT / "configs" / "pretrain-backbone" / name).read_text(encoding="utf-8"))
        chosen |= {"batch": values.get("data", {}).get("init_args", {}).get("batch_size") or chosen["batch"]}
        chosen |= {"epochs": values.get("trainer", {}).get("max_epochs") or chosen["epochs"]}
        chosen |= {"again": values["model"]["init_args"].get("recompute_stages", chosen.get("again"))}
    return chosen["batch"], chosen["epochs"], chosen["again"]


def estimate(method: Method, arguments: argparse.Namespace) -> dict[str, float | str]:
    """One line of the table."""
    batch, epochs, again = settings(method.name)
    peak, memory = GPUS[arguments.gpu]
    sample = method.trained * operations("slow_d_r50", True) + method.embedded * operations("slow_d_r50", False)
    sample += method.trained * stage_operations("slow_d_r50", again)
    if method.motion:
        sample += operations("motion_2d", True) + operations("motion_2d", False)
    steps = epochs * (arguments.videos // batch)
    seconds = steps * batch * sample / (arguments.gpus * peak * arguments.share)
    activations = method.trained * kept_bytes("slow_d_r50", again) + method.motion * kept_bytes("motion_2d", 0)
    # weights, gradients and momentum in float32; a key encoder's weights beside them
    fixed = sum(p.numel() for p in build_backbone("slow_d_r50").parameters()) * 4 * (3 + method.motion)
    return {
        "method": method.name,
        "batch": batch,
        "epochs": epochs,
        "steps": steps,
        "tflop_a_sample": sample / 1e12,
        "hours": seconds / 3600,
        "gb_a_gpu": (activations * batch / arguments.gpus + fixed) / 1e9,
        "gb_there": memory,
        "videos_a_second": steps * batch / seconds,
    }


def measured_here(rounds: int) -> dict[str, float]:
    """This CPU's share of its matrix product in a training step, and the videos a core reads a second."""
    setting = Setting("Slow-D, 16x4", "slow_d_r50", 64, 1, 16, 112)
    network = setting.network().to(memory_format=torch.channels_last_3d)
    clips = torch.randn(1, 3, 16, 112, 112).contiguous(memory_format=torch.channels_last_3d)
    taken = statistics.median(seconds({"step": training_step(network, clips, False)}, rounds)["step"])
    with FlopCounterMode(display=False) as counter:
        network(clips).sum().backward()
    share = counter.get_total_flops() / taken / peak_flops(torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_videos(Path(folder), VIDEO_SETTINGS[0], 3)
        loader = our_reading(VIDEO_SETTINGS[0], paths, "auto", 0, device_part=False)
        rate = median(compare({"ours": loader}, paths, rounds)["ours"])
    return {"share_of_product": share, "videos_a_second_a_core": rate}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gpus", type=int, default=8, help="GPUs in all")
    parser.add_argument("--gpu", default="a100", choices=sorted(GPUS), help="their kind")
    parser.add_argument("--share", type=float, default=0.4, help="assumed share of the bf16 peak")
    parser.add_argument("--videos", type=int, default=240000, help="videos of the training list")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of which medians are taken")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    here = measured_here(arguments.rounds)
    lines = [estimate(method, arguments) for method in METHODS]
    if arguments.json:
        print(json.dumps({"measured": here, "computed": lines}))
        return 0
    share, rate = here["share_of_product"], here["videos_a_second_a_core"]
    print(f"measured here: a training step runs at {share:.0%} of a matrix product; a core reads {rate:.1f} videos/s")
    print(f"computed for {arguments.gpus} x {arguments.gpu} at an assumed {arguments.share:.0%} of their bf16 peak:")
    for line in lines:
        cores = line["videos_a_second"] / rate
        print(
            f"{line['method']:<11} batch {line['batch']:>4}  {line['epochs']} epochs  {line['steps']:>7} steps  "
            f"{line['tflop_a_sample']:.2f} TFLOP a sample  {line['hours']:5.1f} h  {line['gb_a_gpu']:5.1f} of "
            f"{line['gb_there']} GB a GPU  loaders: {line['videos_a_second']:.0f} videos/s, {cores:.0f} such cores"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
