"""`kuleshov extract`: event features of any videos. Importing this module does not import torch."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError, UsageError
from kuleshov.core.files import code_version, sha256_file
from kuleshov.core.progress import progress_bar
from kuleshov.features.event_store_format import BYTES, Dtype
from kuleshov.video.video_file import Video

if TYPE_CHECKING:
    from kuleshov.features.event_store_writer import StoreWriter
    from kuleshov.features.movie_clips import Grid

SHOWN_REASONS = 5


@dataclass(frozen=True)
class Summary:
    """What an extraction did.

    Attributes:
        movies: movies in the store.
        of: movies asked for, now or before.
        events: events in the store.
        missing: {"id", "reason"} of each movie that was asked for now and is not there.
    """

    movies: int
    of: int
    events: int
    missing: list[dict[str, str]]


def extract(
    weights: str | Path,
    videos: Sequence[Video],
    output: str | Path,
    window: float = 2.0,
    stride: float = 1.0,
    dtype: Dtype = "fp16",
    batch_size: int = 32,
    devices: int = 1,
    threads: int = 1,
    durations: str | Path | None = None,
    backend: str = "auto",
    accelerator: str = "auto",
    absent: Sequence[str] = (),
    progress: bool = True,
) -> Summary:
    """Write the event features of videos into a store; run again, it goes on after the last whole movie.

    Each movie is decoded once, in order. Movies that cannot be read, or are shorter than a window, are named in
    the manifest. Under torchrun every rank does its share; the store is the same whatever their number.

    Args:
        weights: a backbone's `.safetensors`; its manifest says how clips are sampled.
        videos: ids must differ.
        output: the store's folder.
        window: seconds of an event.
        stride: seconds between the beginnings of two events.
        dtype: precision on disk: fp32, fp16 or bf16.
        batch_size: clips in a forward pass.
        devices: processes, each with its own device.
        threads: decoding threads of each process.
        durations: CSV `videoid,duration`: seconds to keep of a movie (drops trailing outros).
        backend: auto, decord or pyav.
        accelerator: auto, cpu or cuda.
        absent: ids that belong to the data set and have no video; named in the manifest.
        progress: show progress on stderr.

    Raises:
        KuleshovError: ids that repeat, or no video at all.
        StoreError: the folder holds another store, or there is no space left.
    """
    from kuleshov.features.movie_clips import Grid

    _check_ids(videos)
    trim = read_durations(durations) if durations else {}
    grid = Grid(window, stride, trim)
    settings = {"trim": sha256_file(durations) if durations else None}
    job = _Job(
        Path(weights), Path(output), grid, dtype, settings, tuple(absent), batch_size, threads, backend, accelerator
    )
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world > 1:
        return _run_under_torchrun(job, list(videos), rank, world, progress)
    writer = job.open_writer()
    _forget_failures(writer)
    waiting = [video for video in videos if video.id not in writer.done]
    if devices > 1 and waiting:
        import torch.multiprocessing as multiprocessing

        multiprocessing.spawn(_run_rank, (job, waiting, devices, progress), devices)
        writer = job.open_writer()
    elif waiting:
        job.run(0, 1, waiting, writer, progress)
    return job.finish(writer, videos)


def _check_ids(videos: Sequence[Video]) -> None:
    if not videos:
        raise KuleshovError("no videos to extract features from: check --videos")
    seen: set[str] = set()
    for video in videos:
        if video.id in seen:
            raise KuleshovError(f"two videos have the id {video.id}: rename one of the files")
        seen.add(video.id)


@dataclass(frozen=True)
class _Job:
    """All that the processes of one extraction share; picklable."""

    weights: Path
    output: Path
    grid: "Grid"
    dtype: Dtype
    settings: dict[str, Any]
    absent: tuple[str, ...]
    batch_size: int
    threads: int
    backend: str
    accelerator: str

    def open_writer(self) -> "StoreWriter":
        """Open the store, or make it."""
        from kuleshov.backbones import load
        from kuleshov.features.event_store_writer import StoreWriter

        facts = load(self.weights).manifest
        backbone = {name: facts.get(name) for name in ("sha256", "architecture", "arguments", "clip")}
        settings = {"backbone": backbone, **self.settings}
        width = int(facts["feature_width"])
        return StoreWriter(self.output, width, self.grid.window, self.grid.stride, self.dtype, settings)

    def run(self, rank: int, world: int, videos: Sequence[Video], writer: "StoreWriter", progress: bool) -> None:
        """Do the share of one rank."""
        from kuleshov.features.clip_encoding import extract_share

        share = videos[rank::world]
        with progress_bar("extract", len(share), shown=progress and rank == 0) as advance:
            extract_share(
                rank,
                writer,
                self.weights,
                share,
                self.grid,
                self.batch_size,
                _device(self.accelerator, rank),
                self.threads,
                self.backend,
                advance,
            )

    def finish(self, writer: "StoreWriter", videos: Sequence[Video]) -> Summary:
        """Pack the store and say what is in it."""
        from kuleshov.features.event_store_writer import read_failures
        from kuleshov.video.reader import reader_version

        missing = read_failures(writer.pending)
        missing += [{"id": name, "reason": "there is no such video"} for name in self.absent]
        missing.sort(key=lambda failure: failure["id"])
        of = len(writer.done.union((video.id for video in videos), self.absent))
        if not writer.done:
            reason = missing[0]["reason"] if missing else "nothing was done"
            raise KuleshovError(f"none of {of} videos gave features (first: {reason}): check the files")
        facts = {"movies": len(writer.done), "of": of, "missing": missing, "code_version": code_version()}
        index = writer.finish({**facts, "decoder": reader_version(self.backend)})
        events = sum(movie.events for movie in index.movies.values())
        return Summary(len(index.movies), of, events, missing)


def _run_rank(rank: int, job: _Job, videos: list[Video], world: int, progress: bool) -> None:
    job.run(rank, world, videos, job.open_writer(), progress)


def _run_under_torchrun(job: _Job, videos: list[Video], rank: int, world: int, progress: bool) -> Summary:
    """One rank of `torchrun`: rank 0 makes the store, all fill it, rank 0 packs it."""
    import torch.distributed as dist

    if not dist.is_initialized():
        # the ranks only meet at the ends, which may be days apart
        dist.init_process_group("gloo", timeout=timedelta(days=30))
    if rank == 0:
        _forget_failures(job.open_writer())
    dist.barrier()
    writer = job.open_writer()
    job.run(rank, world, [video for video in videos if video.id not in writer.done], writer, progress)
    dist.barrier()
    summary = [job.finish(job.open_writer(), videos)] if rank == 0 else [None]
    dist.broadcast_object_list(summary)
    return summary[0]


def _forget_failures(writer: "StoreWriter") -> None:
    for path in writer.pending.glob("rank-*.json"):
        path.unlink()


def _device(accelerator: str, rank: int) -> str:
    import torch

    if accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise KuleshovError("no CUDA device here: use --accelerator cpu")
    return f"cuda:{int(os.environ.get('LOCAL_RANK', rank)) % torch.cuda.device_count()}"


def read_durations(path: str | Path) -> dict[str, float]:
    """Read a table `videoid,duration` with a header line: seconds to keep of each movie.

    Raises:
        MissingDataError: the file is not there.
        FormatError: a line that is not an id and a positive number, by its number.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError("durations table", path.absolute(), "a CSV with the header videoid,duration")
    table: dict[str, float] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()[1:], 2):
        if not line.strip():
            continue
        name, _, value = line.rpartition(",")
        try:
            table[name.strip()] = float(value)
        except ValueError:
            raise FormatError(path, f"expected videoid,duration, found {line!r}", record=number) from None
        if not name or not table[name.strip()] > 0:
            raise FormatError(path, f"expected an id and seconds above 0, found {line!r}", record=number)
    return table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `kuleshov extract`'s arguments."""
    add = parser.add_argument
    add("--weights", required=True, type=Path, metavar="W", help="backbone weights (.safetensors)")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--videos", nargs="+", metavar="PATH", help="files, folders, globs, or .txt/.csv lists of videos"
    )
    source.add_argument("--data", help="a data set, with --root: vidsitu, lvu, k400 or folder")
    add("--root", type=Path, metavar="DIR", help="the data set's folder")
    add("--output", required=True, type=Path, metavar="DIR", help="folder of the event store")
    add("--window", type=float, default=2.0, help="seconds of an event")
    add("--stride", type=float, default=1.0, help="seconds between the beginnings of two events")
    add("--dtype", choices=sorted(BYTES), default="fp16", help="precision on disk")
    add("--batch-size", type=int, default=32, help="clips in a forward pass")
    add("--devices", type=int, default=1, help="processes, each with its own device")
    add("--threads", type=int, default=1, help="decoding threads of each process")
    add("--durations", type=Path, metavar="CSV", help="table videoid,duration: seconds to keep of a movie")
    add("--backend", choices=("auto", "decord", "pyav"), default="auto", help="decoder")
    add("--accelerator", choices=("auto", "cpu", "cuda"), default="auto", help="where the backbone runs")
    add("--npy", type=Path, metavar="DIR", help="also write <id>.npy (N, D) for each movie there")
    add("--json", action="store_true", help="print the summary as JSON")


def main(args: argparse.Namespace) -> int:
    """Run `kuleshov extract`; prints the summary and returns the exit status."""
    videos, absent = _videos(args)
    summary = extract(
        args.weights,
        videos,
        args.output,
        window=args.window,
        stride=args.stride,
        dtype=args.dtype,
        batch_size=args.batch_size,
        devices=args.devices,
        threads=args.threads,
        durations=args.durations,
        backend=args.backend,
        accelerator=args.accelerator,
        absent=absent,
    )
    if args.npy is not None:
        from kuleshov.features.event_store import EventStore
        from kuleshov.features.npy import export_npy

        export_npy(EventStore(args.output), args.npy)
    for failure in summary.missing[:SHOWN_REASONS]:
        print(f"left out {failure['id']}: {failure['reason']}", file=sys.stderr)
    if len(summary.missing) > SHOWN_REASONS:
        print(f"and {len(summary.missing) - SHOWN_REASONS} more, see manifest.json", file=sys.stderr)
    if args.json:
        print(json.dumps(asdict(summary)))
    else:
        print(f"{summary.events} events of {summary.movies} of {summary.of} movies in {args.output}")
    return 0


def _videos(args: argparse.Namespace) -> tuple[list[Video], list[str]]:
    if args.videos:
        from kuleshov.datasets.folder import find_videos

        return find_videos(args.videos), []
    if args.root is None:
        raise UsageError(f"--data {args.data} needs --root: name the data set's folder")
    from kuleshov.features.dataset_videos import dataset_videos

    return dataset_videos(args.data, args.root)
