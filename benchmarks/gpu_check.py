"""A minute of a stage of each kind on this machine's GPU: samples a second, share of the chip's rate, waiting, memory.

Every stage runs as `kuleshov run --scale gpu` runs it, in a process of its own, on a generated world; what it hands
on is taken by the next. Beside them one training step on resident clips of Slow R50, 8 x 8 at 224: this package's
network, pytorchvideo's, and Hugging Face's VideoMAE (base, 16 frames), the last two where they are installed. The
chip's rate is that of a large matrix product in the same run.

    make gpu-check                                     # writes docs/gpu.md
    python benchmarks/gpu_check.py --tiny              # two steps of tiny networks on the CPU, to see that it runs
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pytorch_lightning as pl
import torch
from bench_backbone import CUDA, DEVICE, PEER, Peer, Setting, peak_flops, seconds, training_step
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kuleshov.pipeline.plan import Job, Planned, Request, make_plan
from kuleshov.pipeline.runner import WITH_DEVICES
from kuleshov.synthetic.build import build_world
from kuleshov.synthetic.story import Sizes

COST = "step-cost.json"
# what is planned: the stage, and which of its data sets and methods; each with all that it needs
KINDS = (
    ("pretrain-backbone", "k400", "cvrl"),
    ("pretrain-backbone", "k400", "modist"),
    ("pretrain-txe", "lvu", ""),
    ("train-verbs", "vidsitu", ""),
    ("train-relations", "vidsitu", ""),
    ("train-roles", "vidsitu", ""),
    ("train-lvu", "lvu", ""),
    ("pretrain-instances", "lvu", ""),
)
VERSIONS = ("torch", "pytorch-lightning", "numpy", "av")


class StepCost(pl.Callback):
    """Measures a training's steps for some seconds, stops it, and writes `step-cost.json` into its folder.

    Args:
        seconds: measured, after the warm-up.
        warm_up: steps before, the first of which counts the floating-point operations.
    """

    def __init__(self, seconds: float = 60.0, warm_up: int = 5) -> None:
        self.seconds, self.warm_up = seconds, warm_up

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count."""
        self._steps, self._began, self._waited, self._flops = 0, time.perf_counter(), 0.0, 0.0
        self._ended = self._began
        self._counting = ExitStack()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        """Count the time since the last step; the first one runs uncompiled, so that its operations are seen."""
        self._waited += time.perf_counter() - self._ended
        if self._steps == 0:
            self._counting.enter_context(torch.compiler.set_stance("force_eager"))
            self._counter = self._counting.enter_context(FlopCounterMode(display=False))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Begin the measurement after the warm-up, end it after its time."""
        self._steps += 1
        if self._steps == 1:
            self._counting.close()
            self._flops = self._counter.get_total_flops()
        self._ended = time.perf_counter()
        if self._steps == self.warm_up:
            _finish()
            self._began = self._ended = time.perf_counter()
            self._waited = 0.0
            if CUDA:
                torch.cuda.reset_peak_memory_stats()
        elif self._steps > self.warm_up and self._ended - self._began >= self.seconds:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what was measured."""
        _finish()
        taken, steps = time.perf_counter() - self._began, self._steps - self.warm_up
        found = {
            "samples_per_s": steps * trainer.datamodule.batch_size / taken,
            "flops_per_s": steps * self._flops / taken,
            "waited": self._waited / taken,
            "peak_bytes": torch.cuda.max_memory_allocated() if CUDA else 0,
            "batch": trainer.datamodule.batch_size,
            "half": "bf16" in str(trainer.precision),
        }
        (Path(trainer.default_root_dir) / COST).write_text(json.dumps(found))


def _finish() -> None:
    if CUDA:
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Line:
    """One row of the page."""

    what: str
    per_second: float
    flops_per_second: float | None
    half: bool
    waited: float | None
    peak_bytes: int
    batch: int


def plans(folder: Path, tiny: bool) -> list[Planned]:
    """Every stage that the kinds need, once, in an order in which they can run."""
    merged: dict[Path, Planned] = {}
    given = {"project": Path.cwd(), "root": folder / "world", "runs": folder / "runs"}
    for stage, data, method in KINDS:
        request = Request(stage, data=data, method=method, scale="gpu", smoke=tiny, **given)
        for planned in make_plan(request).order():
            merged.setdefault(planned.folder, planned)
    return list(merged.values())


def measured(planned: Planned, job: Job, limit: float, tiny: bool) -> Line | None:
    """Run one job of a stage, a training for some seconds; None for one that neither trains nor extracts.

    Raises:
        SystemExit: the job failed; its last lines are shown.
    """
    words, trains = list(job.words), planned.stage.command == "fit"
    if trains:
        words += ["--trainer.callbacks+=gpu_check.StepCost", f"--trainer.callbacks.seconds={limit}"]
        words += [f"--trainer.callbacks.warm_up={0 if tiny else 5}"]
    job.folder.mkdir(parents=True, exist_ok=True)
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    call, began = [sys.executable, "-m", "kuleshov", *words], time.perf_counter()
    done = subprocess.run(call, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{planned.stage.name} failed: kuleshov {' '.join(words)}\n{done.stderr[-2000:]}")
    name = " ".join(filter(None, [planned.stage.name, planned.resolved["values"]["method"], job.row]))
    if planned.stage.command in WITH_DEVICES:
        # the first word of what it prints is the number of its rows
        rate = int(done.stdout.split()[0]) / (time.perf_counter() - began)
        return Line(f"{name} {planned.data}, with the process's start", rate, None, CUDA, None, 0, 0)
    if not trains:
        return None
    found = json.loads((job.folder / COST).read_text())
    figures = found["samples_per_s"], found["flops_per_s"], found["half"], found["waited"]
    return Line(name, *figures, found["peak_bytes"], found["batch"])


class VideoMae(nn.Module):
    """Hugging Face's VideoMAE with new weights, averaged over its tokens."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        from transformers import VideoMAEConfig, VideoMAEModel

        sizes = {"num_frames": setting.frames, "image_size": setting.size}
        if setting.width < 64:
            sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        self.network = VideoMAEModel(VideoMAEConfig(**sizes))

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) to (B, D)."""
        return self.network(clips.transpose(1, 2)).last_hidden_state.mean(1)


def peers(tiny: bool) -> list[Line]:
    """Training steps on resident clips, ours and the peers' that are installed."""
    batch, size, width = (2, 32, 8) if tiny else (64, 224, 64)
    slow, mae = Setting("Slow", "slow_r50", width, batch, 8, size), Setting("", "", width, batch // 2, 16, size)
    makers = {"Slow R50, 8 x 8": (slow, slow.network)}
    if PEER:
        makers["Slow R50, 8 x 8, pytorchvideo"] = (slow, lambda: Peer(slow))
    if importlib.util.find_spec("transformers"):
        makers["VideoMAE base, 16 frames, Hugging Face"] = (mae, lambda: VideoMae(mae))
    lines = []
    for name, (setting, make) in makers.items():
        network, layout = make(), torch.channels_last_3d
        network = network.to(DEVICE) if isinstance(network, VideoMae) else network.to(DEVICE, memory_format=layout)
        clips = torch.randn(setting.batch, 3, setting.frames, setting.size, setting.size, device=DEVICE)
        step = training_step(network, clips.contiguous(memory_format=layout), CUDA)
        with FlopCounterMode(display=False) as counter:
            step()
        if CUDA:
            network.compile(dynamic=False)
            torch.cuda.reset_peak_memory_stats()
        taken = statistics.median(seconds({name: step}, 3 if tiny else 20)[name])
        peak = torch.cuda.max_memory_allocated() if CUDA else 0
        rate = setting.batch / taken, counter.get_total_flops() / taken
        lines.append(Line(name, *rate, CUDA, None, peak, setting.batch))
    return lines


def page(lines: list[Line], command: str) -> str:
    """The page, in Markdown."""
    chip = torch.cuda.get_device_name() if CUDA else "CPU"
    rates = {half: peak_flops(torch.bfloat16 if half else torch.float32) for half in {line.half for line in lines}}
    rows = []
    for line in lines:
        waited = "" if line.waited is None else f"{line.waited:.0%}"
        share = "" if line.flops_per_second is None else f"{line.flops_per_second / rates[line.half]:.1%}"
        figures = f"{line.per_second:,.1f}", share, waited
        rows.append((line.what, str(line.batch or ""), "bf16" if line.half else "fp32", *figures))
        rows[-1] += (f"{line.peak_bytes / 2**30:.1f}" if line.peak_bytes else "",)
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS)
    products = ", ".join(f"{rate / 1e12:.1f} in {'bf16' if half else 'fp32'}" for half, rate in sorted(rates.items()))
    head = ("job", "batch", "format", "samples a second", "of the chip's rate", "waiting for data", "GiB")
    table = "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows))
    return (
        f"# On a GPU\n\n{chip}, {date.today()}, {versions}; a matrix product's 10^12 operations a second: {products}.\n"
        f"Written by `{command}`. A sample is a video, a window of events, a segment, a movie, an event or a box; "
        f"the lower rows are steps on resident clips.\n\n{table}\n"
    )


def main() -> int:
    """Run the stages and the peers, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each training, after its warm-up")
    parser.add_argument("--movies", type=int, default=1000, help="long movies of the generated world")
    parser.add_argument("--output", type=Path, help="page to write; printed where none is named")
    parser.add_argument("--tiny", action="store_true", help="two steps of tiny networks, on any machine")
    arguments = parser.parse_args()
    if not (CUDA or arguments.tiny):
        print("no CUDA device here: --tiny runs two steps of tiny networks on the CPU", file=sys.stderr)
        return 1
    lines = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sizes = Sizes.of(4, clips=32, events=10) if arguments.tiny else Sizes.of(arguments.movies)
        build_world(folder / "world", sizes)
        for planned in plans(folder, arguments.tiny):
            print(f"{planned.stage.name} {planned.data}", file=sys.stderr, flush=True)
            lines.append(measured(planned, planned.jobs[-1], arguments.seconds, arguments.tiny))
    written = page([line for line in [*lines, *peers(arguments.tiny)] if line is not None], "make gpu-check")
    if arguments.output is None:
        print(written, end="")
    else:
        arguments.output.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
