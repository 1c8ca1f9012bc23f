"""What an epoch of masked-event pretraining over LVU's 10,000 movies costs, by processes and by where the features are.

    python benchmarks/bench_txe_lvu.py [--movies 10000] [--full]

- processes: seconds an epoch of `kuleshov fit` with 1, 2 and 4 processes (DDP) over a store read from memory; with
  --full TxE at the paper's size, else at a quarter of it. More processes than cores gain nothing.
- larger: a step over a mapped store that is not in memory, within a control group that has room for half of it, against
  the same step with all of it in memory; aim: within 10 %. And reading alone, windows a second. Needs root; skipped
  with a line elsewhere.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from bench_txe import FULL, MOVIE_EVENTS, QUARTER, make_step
from lines import Line, finish

from kuleshov.features.store_writer import StoreWriter
from kuleshov.txe.window_data import EventWindows

WIDTH = 2048
BATCH = 256
EPOCHS = 3
CONFIG = "configs/pretrain-txe/masked-event.yaml"


def write_store(folder: Path, movies: int) -> Path:
    """Random features as a Slow-D's: 60 events a movie, 2,048 numbers each, float16."""
    writer, drawn = StoreWriter(folder, WIDTH, 2.0, 2.0, "fp16"), torch.rand(MOVIE_EVENTS, WIDTH)
    for number in range(movies):
        writer.add(f"m{number:05d}", drawn.roll(number, 1))
    writer.finish()
    return folder


def epoch_seconds(store: Path, processes: int, size: dict) -> float:
    """Mean seconds of the epochs after the first one."""
    sizes = {name: size[name] for name in ("hidden", "heads", "feedforward")} | {"queue_size": size["queue"]}
    with tempfile.TemporaryDirectory() as run:
        words = [f"--data.init_args.stores=[{store}]", "--data.init_args.val_fraction=0", "--trainer.accelerator=cpu"]
        words += [f"--model.init_args.{name}={value}" for name, value in sizes.items()]
        words += [f"--trainer.devices={processes}", f"--trainer.strategy={'ddp' if processes > 1 else 'auto'}"]
        words += [f"--trainer.max_epochs={EPOCHS}", f"--trainer.default_root_dir={run}", "--trainer.callbacks=[]"]
        threads = str(max(1, (os.cpu_count() or 1) // processes))
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "passive"}
        call = [sys.executable, "-m", "kuleshov", "fit", "-c", CONFIG, *words]
        done = subprocess.run(call, capture_output=True, text=True, env=environment, check=True)
    ends = [int(seconds) for seconds in re.findall(rf"^epoch \d+/{EPOCHS}  (\d+) s", done.stderr, re.M)]
    return (ends[-1] - ends[0]) / (len(ends) - 1)


@contextmanager
def memory_limit(limit: int) -> Iterator[Path | None]:
    """A control group that has at most so many bytes, the page cache's included; None where none can be made."""
    places = (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max"))
    group = None
    for place, name in places:
        if (Path(place) / "cgroup.procs").is_file():
            folder = Path(place) / f"bench-{os.getpid()}"
            try:
                folder.mkdir()
                (folder / name).write_text(str(limit))
            except OSError:
                continue
            group = folder
            break
    try:
        yield group
    finally:
        if group is not None:
            group.rmdir()


def measure(store: Path, size: dict, steps: int) -> dict[str, float]:
    """Windows a second: of reading alone and of whole steps, over a mapped store; other windows each time."""
    data = EventWindows([str(store)], batch_size=BATCH, val_fraction=0.0, placement="mmap")
    data.setup("fit")
    _, step = make_step({**size, "width": WIDTH}, data)
    found = {}
    for name, run in (("read", lambda batch: data.on_after_batch_transfer(batch, 0)), ("step", None)):
        run = run or (lambda batch: step(data.on_after_batch_transfer(batch, 0)))
        began, count = time.perf_counter(), 0
        data.train_windows.set_epoch(len(found))
        for batch in data.train_dataloader():
            run(batch)
            count += 1
            if count == steps:
                break
        found[name] = count * BATCH / (time.perf_counter() - began)
    return found


def in_group(group: Path | None, store: Path, size: dict, steps: int) -> dict[str, float]:
    """`measure` in a process of its own, which joins a control group first: there nothing of the store is in memory."""
    for path in store.rglob("*.*"):
        with path.open("rb") as file:
            if group is None:
                while file.read(2**24):
                    pass
            else:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    code = (
        "import json, os; from pathlib import Path\n"
        f"group = {str(group) if group else None!r}\n"
        "if group: Path(group, 'cgroup.procs').write_text(str(os.getpid()))\n"
        f"from bench_txe_lvu import measure\nprint(json.dumps(measure(Path({str(store)!r}), {size!r}, {steps})))"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    return json.loads(done.stdout.splitlines()[-1])


def larger(store: Path, size: dict, steps: int, rounds: int) -> list[Line]:
    """Steps, and reading alone, with memory for half of the store against those with memory for all."""
    whole = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    least = 2**30  # what the process itself takes
    with memory_limit(least + whole // 2) as group:
        if group is None:
            print("a store larger than memory: skipped, a control group takes root", file=sys.stderr)
            return []
        found = [(in_group(group, store, size, steps), in_group(None, store, size, steps)) for _ in range(rounds)]
    lines = []
    for name, job, aim in (("step", "steps of masked events", 0.9), ("read", "windows read alone", 0.0)):
        limited, free = ([pair[place][name] for pair in found] for place in range(2))
        job = f"{job}, memory for half of a store of {whole / 2**30:.1f} GiB"
        lines.append(Line(job, "windows/s", limited, "memory for all", free, aim=aim))
    return lines


def main() -> int:
    """Run the measurements; 1 where the aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--movies", type=int, default=10_000)
    parser.add_argument("--full", action="store_true", help="TxE at the paper's size")
    parser.add_argument("--steps", type=int, default=30, help="of the comparison with a store larger than memory")
    parser.add_argument("--rounds", type=int, default=3, help="of that comparison")
    parser.add_argument("--lines", type=Path, help="write them here instead")
    arguments = parser.parse_args()
    size, lines = FULL if arguments.full else QUARTER, []
    print(f"{os.cpu_count()} cores, {arguments.movies} movies, sizes {size}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder) / "store", arguments.movies)
        for processes in (1, 2, 4):
            taken = epoch_seconds(store, processes, size)
            print(f"an epoch with {processes} processes takes {taken:.0f} s", file=sys.stderr, flush=True)
            job = f"an epoch of masked events over {arguments.movies} movies, {processes} processes"
            lines.append(Line(job, "windows/s", [arguments.movies / taken]))
        lines += larger(store, size, arguments.steps, arguments.rounds)
    return finish(lines, arguments.lines)


if __name__ == "__main__":
    sys.exit(main())
