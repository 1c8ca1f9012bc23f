"""`kuleshov extract`: event features of any videos. Importing this module does not import torch."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kuleshov.core.errors import FormatError, KuleshovError, MissingDataError, UsageError
from kuleshov.core.files import sha256_file
from kuleshov.core.progress import progress_bar
from kuleshov.features.store_index import Dtype, Summary
from kuleshov.video.video_file import Video

if TYPE_CHECKING:
    import torch

    from kuleshov.features.movie_clips import Grid
    from kuleshov.features.store_writer import StoreWriter

Accelerator = Literal["auto", "cpu", "cuda"]
Decoder = Literal["auto", "decord", "pyav"]


def extract_command(
    output: Path,
    videos: list[str] | None = None,
    data: str | None = None,
    root: Path | None = None,
    npy: Path | None = None,
    **options: Any,
) -> Summary:
    """Extract event features of any videos into an event store.

    Args:
        output: folder of the event store.
        videos: files, folders, globs, or .txt/.csv lists of videos.
        data: instead of videos, a data set, with its folder in root.
        root: the data set's folder.
        npy: also write <id>.npy (N, D) of each movie into this folder.

    Raises:
        UsageError: neither videos nor a data set, both, or a data set without root.
    """
    if (videos is None) == (data is None):
        raise UsageError("what to extract features from? give one of --videos and --data")
    if videos is not None:
        from kuleshov.datasets.folder import find_videos

        found, absent = find_videos(videos), []
    elif root is None:
        raise UsageError(f"--data {data} needs --root: name the data set's folder")
    else:
        from kuleshov.datasets.registry import data_set

        found, absent = data_set(data).videos(root)
    summary = extract(videos=found, output=output, absent=absent, progress=True, **options)
    if npy is not None:
        from kuleshov.features.npy import export_features

        export_features(output, npy)
    return summary


def extract(
    weights: Path | None = None,
    videos: Sequence[Video] = (),
    output: Path = Path("events"),
    window: float = 2.0,
    stride: float = 1.0,
    dtype: Dtype = "fp16",
    batch_size: int = 32,
    devices: int = 1,
    threads: int = 1,
    durations: Path | None = None,
    backend: Decoder = "auto",
    accelerator: Accelerator = "auto",
    absent: Sequence[str] = (),
    progress: bool = True,
    backbone: dict[str, Any] | str | None = None,
) -> Summary:
    """Write the event features of videos into a store; run again, it goes on after the last whole movie.

    Each movie is decoded once, in order. Movies that cannot be read, or are shorter than a window, are named in
    the manifest. Under torchrun every rank does its share; the store is the same whatever their number.

    Args:
        weights: a backbone's weights (.safetensors); their manifest says how clips are sampled.
        videos: ids must differ.
        output: folder of the event store.
        window: seconds of an event.
        stride: seconds between the beginnings of two events.
        dtype: precision on disk.
        batch_size: clips in a forward pass.
        devices: processes, each with its own device.
        threads: decoding threads of each process.
        durations: table (CSV) videoid,duration of the seconds to keep of a movie (drops trailing outros).
        backend: decoder.
        accelerator: where the backbone runs.
        absent: ids that belong to the data set and have no video; named in the manifest.
        progress: show progress on stderr.
        backbone: a backbone without weights of ours: its name, a YAML file, or {class_path, init_args}.

    Raises:
        KuleshovError: ids that repeat, no video at all, or none that gives features.
        StoreError: the folder holds another store or is being written, or there is no space left.
    """
    from kuleshov.backbones import resolve_backbone
    from kuleshov.features.movie_clips import Grid

    _check_ids(videos)
    network = resolve_backbone(weights, backbone)
    grid = Grid(window, stride, read_durations(durations) if durations else {})
    settings = {"backbone": backbone_facts(network), "trim": sha256_file(durations) if durations else None}
    job = _Job(network, Path(output), grid, dtype, settings, batch_size, threads, backend, accelerator, progress)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return job.lead(videos, absent, partial(_on_devices, job, devices))
    import torch.distributed as dist

    if not dist.is_initialized():
        # the ranks only meet at the ends, which may be days apart
        dist.init_process_group("gloo", timeout=timedelta(days=30))
    share = partial(_share_work, job, rank, world)
    summary = [job.lead(videos, absent, share) if rank == 0 else share(None)]
    dist.broadcast_object_list(summary)
    return summary[0]


def backbone_facts(network: Any) -> dict[str, Any]:
    """What stores say of the backbone that made them: class path, arguments, clip format, sha256."""
    named = {name: network.manifest.get(name) for name in ("class_path", "init_args", "sha256")}
    return {**named, "clip": network.clip.to_dict()}


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

    network: Any
    output: Path
    grid: "Grid"
    dtype: Dtype
    settings: dict[str, Any]
    batch_size: int
    threads: int
    backend: Decoder
    accelerator: Accelerator
    progress: bool

    def writer(self, lock: bool) -> "StoreWriter":
        """Open the store; one process owns it."""
        from kuleshov.features.store_writer import StoreWriter

        width, grid = self.network.feature_width, self.grid
        return StoreWriter(self.output, width, grid.window, grid.stride, self.dtype, self.settings, lock=lock)

    def lead(self, videos: Sequence[Video], absent: Sequence[str], work: Callable[[list[Video]], None]) -> Summary:
        """Own the store: let `work` do the movies that are still to do, then pack them."""
        from kuleshov.video.reader import reader_version

        with self.writer(lock=True) as writer:
            waiting = set(writer.begin([*(video.id for video in videos), *absent]))
            work([video for video in videos if video.id in waiting])
            missing = [{"id": name, "reason": "there is no such video"} for name in absent]
            manifest = writer.finish({"decoder": reader_version(self.backend)}, missing)
        return Summary.of_store(self.output, manifest)

    def run(self, rank: int, world: int, waiting: Sequence[Video]) -> None:
        """Do every world-th of the movies that are still to do."""
        from kuleshov.features.clip_encoding import extract_movies

        share = waiting[rank::world]
        with progress_bar("extract", len(share), shown=self.progress and rank == 0) as advance:
            extract_movies(
                self.writer(lock=False),
                self.network,
                share,
                self.grid,
                self.batch_size,
                device_of(self.accelerator, rank),
                self.threads,
                self.backend,
                advance,
            )


def _on_devices(job: _Job, devices: int, waiting: list[Video]) -> None:
    """Work in one process, or in one for each device."""
    if devices == 1 and waiting:
        job.run(0, 1, waiting)
    elif waiting:
        import torch.multiprocessing as multiprocessing

        multiprocessing.spawn(_spawned, (job, devices, waiting), devices)


def _spawned(rank: int, job: _Job, world: int, waiting: list[Video]) -> None:
    job.run(rank, world, waiting)


def _share_work(job: _Job, rank: int, world: int, waiting: list[Video] | None) -> None:
    """A rank's work under torchrun: rank 0 says which movies are still to do, so that all see one list."""
    import torch.distributed as dist

    shared = [waiting]
    dist.broadcast_object_list(shared)
    job.run(rank, world, shared[0])
    dist.barrier()


def device_of(accelerator: Accelerator, rank: int = 0) -> "torch.device":
    """A process's device: the one of its rank on this machine, the CPU where there is none.

    Raises:
        KuleshovError: cuda was asked for, and there is none.
    """
    import torch

    if accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise KuleshovError("no CUDA device here: use --accelerator cpu")
    return torch.device(f"cuda:{int(os.environ.get('LOCAL_RANK', rank)) % torch.cuda.device_count()}")


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
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not name.strip() or not seconds > 0:
            raise FormatError(path, f"expected an id and seconds above 0, found {line!r}", record=number)
        table[name.strip()] = seconds
    return table
