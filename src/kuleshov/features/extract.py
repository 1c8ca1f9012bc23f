"""`kuleshov extract`: event features of any videos. Importing this module does not import torch."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kuleshov.core.devices import Accelerator, device_of
from kuleshov.core.errors import FormatError, KuleshovError, UsageError, require_positive
from kuleshov.core.files import read_csv, sha256_file, sha256_ids
from kuleshov.core.processes import end_with_parent
from kuleshov.core.progress import progress_bar
from kuleshov.features.store_index import Dtype, Summary, read_index, read_manifest
from kuleshov.video.video_file import Video

if TYPE_CHECKING:
    import torch

    from kuleshov.features.store_writer import StoreWriter

LEAST_STRIDE = 0.01  # seconds
Framing = Literal["crop", "squash"]
Decoder = Literal["auto", "decord", "pyav"]
Work = Callable[[list[Video]], None]


def extract_command(
    output: Path | str,
    weights: Path | str | None = None,
    backbone: dict[str, Any] | str | None = None,
    videos: list[Any] | Path | str | None = None,
    data: str | None = None,
    root: Path | str | None = None,
    window: float = 2.0,
    stride: float = 1.0,
    dtype: Dtype = "fp16",
    batch_size: int = 32,
    devices: int = 1,
    threads: int = 1,
    durations: Path | str | None = None,
    framing: Framing | None = None,
    backend: Decoder = "auto",
    accelerator: Accelerator = "auto",
    npy: Path | str | None = None,
    join: bool = False,
    progress: bool = True,
) -> Summary:
    """Write the event features of videos into an event store; run again, it goes on after the last whole movie.

    Each movie is decoded once, in order. Movies that cannot be read, or are shorter than a window, are named in
    the manifest, as are those whose last event is padded or whose file is cut off. Under torchrun every rank does its
    share; the store is the same whatever their number.

    Args:
        output: folder of the event store.
        weights: a backbone's weights (.safetensors); their manifest says how clips are sampled.
        backbone: a backbone's name, YAML file, or {class_path, init_args}; without weights, as its class starts.
        videos: files, folders, globs, or .txt/.csv lists of videos (in Python also `Video`s, with ids that differ).
        data: instead of videos, a data set, with its folder in root.
        root: the data set's folder.
        window: seconds of an event.
        stride: seconds between the beginnings of two events.
        dtype: precision on disk.
        batch_size: clips in a forward pass.
        devices: processes, each with its own device.
        threads: decoding threads of each process.
        durations: table (CSV) videoid,duration of the seconds to keep of a movie (drops trailing outros).
        framing: crop takes each frame's centered square, squash the whole frame pressed into one, as VidSitu's loader
            does; null: as the weights say.
        backend: decoder.
        accelerator: where the backbone runs.
        npy: also write <id>.npy (N, D) of each movie into this folder.
        join: work beside any number of processes with the same words, on any machine that shares the folder; they may
            come, go and die: what a dead one had begun another takes over, and the last one packs the store.
        progress: show progress on stderr.

    Raises:
        UsageError: neither videos nor a data set, both, or a data set without root.
        KuleshovError: ids that repeat, no video at all, or none that gives features; cuda where there is none.
        StoreError: the folder holds another store or is being written, or there is no space left.
    """
    from kuleshov.backbones import resolve_backbone
    from kuleshov.datasets.registry import data_set
    from kuleshov.features.clip_encoding import extract_movies
    from kuleshov.features.movie_clips import Grid
    from kuleshov.features.store_writer import StoreWriter

    require_positive(window=window, stride=stride, batch_size=batch_size, devices=devices, threads=threads)
    if stride < LEAST_STRIDE:
        raise UsageError(f"--stride has to be {LEAST_STRIDE} s or more, not {stride}: there are no frames between")
    device_of(accelerator)
    found, absent = named_videos(videos, data, root)
    network = resolve_backbone(weights, backbone)
    network.clip = replace(network.clip, framing=framing or network.clip.framing)
    grid = Grid(window, stride, read_durations(durations) if durations else {})
    settings = {"backbone": backbone_facts(network), "trim": sha256_file(durations) if durations else None}
    settings["data"] = data_set(data).name if data is not None else None
    open_store = partial(StoreWriter, output, network.feature_width, window, stride, dtype, settings)
    encode = partial(extract_movies, network, grid, batch_size, threads, backend)
    share = partial(_extract_share, open_store, encode, accelerator, progress)
    lead = partial(_lead, open_store, found, absent, backend)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if join:
        together = partial(_extract_together, output, open_store, encode, accelerator, progress, backend, found, absent)
        on_devices(together, devices, [*found, *absent])
        summary = Summary.of_store(output, read_manifest(output))
    elif world > 1:
        summary = _under_torchrun(lead, share, rank, world)
    else:
        summary = lead(lambda waiting: on_devices(share, devices, waiting))
    if npy is not None and rank == 0:
        from kuleshov.features.npy import export_features

        export_features(output, npy)
    return summary


def backbone_facts(network: Any) -> dict[str, Any]:
    """What a store's manifest records of its backbone: class path, arguments, sha256, training and clip format."""
    named = {name: network.manifest.get(name) for name in ("class_path", "init_args", "sha256")}
    named["trained"] = network.manifest.get("trained") or []
    return {**named, "clip": network.clip.to_dict()}


def named_videos(
    videos: Iterable[Any] | str | Path | None, data: str | None, root: str | Path | None
) -> tuple[list[Video], list[str]]:
    """The videos that `--videos`, or `--data` and `--root`, name, and the ids of those that the disk has not.

    Raises:
        UsageError: neither is given, both are, or a data set without its folder.
        KuleshovError: there are none, or their ids repeat.
    """
    if (videos is None) == (data is None):
        raise UsageError("which videos? give one of --videos and --data")
    if data is not None:
        if root is None:
            raise UsageError(f"--data {data} needs --root: name the data set's folder")
        from kuleshov.datasets.registry import data_set

        return data_set(data).videos(root)
    videos = videos if isinstance(videos, str | Path) else list(videos)
    if isinstance(videos, str | Path) or not all(isinstance(video, Video) for video in videos):
        from kuleshov.datasets.folder import find_videos

        videos = find_videos(videos)
    if not videos:
        raise KuleshovError("the list of videos is empty: check --videos")
    ids = sorted(video.id for video in videos)
    twice = [one for one, other in zip(ids, ids[1:], strict=False) if one == other]
    if twice:
        raise KuleshovError(f"two videos have the id {twice[0]}: rename one of the files")
    return list(videos), []


def _lead(
    open_store: "Callable[[], StoreWriter]", videos: list[Video], absent: list[str], backend: Decoder, work: Work
) -> Summary:
    """Own the store: let `work` do the movies that are still to do, then pack them."""
    from kuleshov.video.reader import reader_version

    with open_store() as writer:
        waiting = set(writer.begin([*(video.id for video in videos), *absent], sizes=_sizes(videos)))
        work([video for video in videos if video.id in waiting])
        missing = [{"id": name, "reason": "there is no such video"} for name in absent]
        manifest = writer.finish({"decoder": reader_version(backend)}, missing)
        return Summary.of_store(writer.folder, manifest)


def _sizes(videos: list[Video]) -> dict[str, int]:
    """Bytes of the videos' files, by which another file of the same name is known."""
    return {video.id: video.path.stat().st_size for video in videos if video.path.is_file()}


def _extract_share(
    open_store: "Callable[..., StoreWriter]",
    encode: "Callable[[list[Video], torch.device], Iterator[tuple[Video, torch.Tensor | str, str]]]",
    accelerator: Accelerator,
    progress: bool,
    rank: int,
    world: int,
    waiting: list[Video],
) -> None:
    """Do every world-th of the movies that are still to do, in one process."""
    writer, share = open_store(lock=False), waiting[rank::world]
    with progress_bar("extract", len(share), shown=progress and rank == 0) as advance:
        for video, outcome, remark in encode(share, device_of(accelerator, rank)):
            writer.record(video.id, outcome, remark)
            advance()


def _extract_together(
    folder: Path,
    open_store: "Callable[..., StoreWriter]",
    encode: "Callable[[Iterable[Video], torch.device], Iterator[tuple[Video, torch.Tensor | str, str]]]",
    accelerator: Accelerator,
    progress: bool,
    backend: Decoder,
    videos: list[Video],
    absent: list[str],
    rank: int,
    _world: int,
    _waiting: list[Any],
) -> None:
    """Do whatever movies no other process does, until all are done; then pack them, if no other process has."""
    from kuleshov.features.team import POLL_SECONDS, Team
    from kuleshov.video.reader import reader_version

    team, ids = Team(folder), [video.id for video in videos]
    asked = {*ids, *absent}
    with team.owning():
        writer = open_store(lock=False)
        if is_complete(folder, asked):
            writer.pending.rmdir()
            return
        writer.begin(asked, team.enter(sha256_ids(asked)), _sizes(videos))
    left = writer.left(ids)
    try:
        with progress_bar("extract", len(ids), len(ids) - len(left), progress and rank == 0) as advance:
            while not is_complete(folder, asked):
                waiting = [video for video in videos if video.id in left]
                claimed = team.claim(waiting, writer.is_done)
                if (first := next(claimed, None)) is not None:
                    for video, outcome, remark in encode(chain([first], claimed), device_of(accelerator, rank)):
                        writer.record(video.id, outcome, remark)
                        team.release(video.id)
                        advance()
                elif left:
                    time.sleep(POLL_SECONDS)
                if not (left := writer.left(ids)):
                    with team.owning():
                        if not is_complete(folder, asked):
                            missing = [{"id": name, "reason": "there is no such video"} for name in absent]
                            writer.finish({"decoder": reader_version(backend)}, missing)
                            team.dissolve()
                            return
    finally:
        team.leave()


def is_complete(folder: Path, asked: set[str]) -> bool:
    """Whether a store is packed and has each of the movies, or the reason why it has not."""
    manifest = read_manifest(folder)
    if not manifest.get("complete"):
        return False
    return asked <= read_index(folder, "events").movies.keys() | {one["id"] for one in manifest["missing"]}


def on_devices(share: Callable[..., None], devices: int, waiting: list[Any]) -> None:
    """Work in one process, or in one for each device."""
    if devices == 1 and waiting:
        share(0, 1, waiting)
    elif waiting:
        import torch.multiprocessing as multiprocessing

        try:
            multiprocessing.spawn(_spawned, (share, devices, waiting), devices)
        except multiprocessing.ProcessRaisedException as error:
            name, _, text = str(error).strip().splitlines()[-1].partition(": ")
            if name.startswith("kuleshov.core.errors."):
                raise KuleshovError(text) from error
            raise


def _spawned(rank: int, share: Callable[..., None], world: int, waiting: list[Any]) -> None:
    end_with_parent()
    share(rank, world, waiting)


def _under_torchrun(lead: Callable[[Work], Summary], share: Callable[..., None], rank: int, world: int) -> Summary:
    """One rank's work: rank 0 owns the store and says which movies are still to do, so that all have one list."""
    import torch.distributed as dist

    if not dist.is_initialized():
        # the ranks only meet at the ends, which may be days apart
        dist.init_process_group("gloo", timeout=timedelta(days=30))

    def work(waiting: list[Video] | None) -> None:
        shared = [waiting]
        dist.broadcast_object_list(shared)
        share(rank, world, shared[0])
        dist.barrier()

    summary = [lead(work) if rank == 0 else work(None)]
    dist.broadcast_object_list(summary)
    return summary[0]


def read_durations(path: str | Path) -> dict[str, float]:
    """Read a CSV `videoid,duration`, with or without that header: seconds to keep of each movie.

    Raises:
        MissingDataError: the file is not there.
        FormatError: a line that is not an id and a positive number, by its number.
    """
    table: dict[str, float] = {}
    for number, cells in read_csv(path, "durations table", "a CSV with the header videoid,duration"):
        if number == 1 and cells[1:] == ["duration"]:
            continue
        try:
            seconds = float(cells[1]) if len(cells) == 2 and cells[0] else 0.0
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            raise FormatError(path, f"expected an id and seconds above 0, found {','.join(cells)!r}", record=number)
        table[cells[0]] = seconds
    return table
