"""Videos packed into tar shards in WebDataset's layout (`key.mp4`, `key.cls`), with an index of where each one lies.

The index makes a shard's videos as addressable as files: any order, the same on any number of ranks, resumable in
mid-epoch. A video is fetched alone (`video/shard_member.py`), so that nothing has to fit on a disk.
"""

import csv
import io
import logging
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from kuleshov.core.errors import (
    FormatError,
    KuleshovError,
    MissingDataError,
    UsageError,
    VideoError,
    message,
    require_positive,
)
from kuleshov.core.files import make_folder, read_json, sha256_ids, write_atomic, write_json, write_through
from kuleshov.core.progress import progress_bar
from kuleshov.datasets.file_check import check_files
from kuleshov.datasets.sample import link_videos, varied
from kuleshov.video.shard_member import as_url, member_path
from kuleshov.video.video_file import Video, is_video

log = logging.getLogger(__name__)
SHARD_SPLITS = ("train", "val", "test")
SETTINGS = "packed.json"
_COLUMNS = ("shard", "offset", "size", "id", "label", "suffix")
_NAMED = 5


def find(root: str | Path, split: str = "train", video_root: Path | None = None) -> tuple[list[Video], list[str]]:
    """The videos of a split's index, `<root>/<split>.shards.csv`, and the names of those whose shards are not there.

    Args:
        root: folder or URL of the shards.
        split: train, val or test; what was packed without splits is train.
        video_root: where the shards lie, if not beside the index.
    """
    base, rows = as_url(video_root or root), list(_index(root, split))
    # of a remote store that would be a request for each
    absent = {} if "://" in base else {shard for shard in {row[0] for row in rows} if not Path(base, shard).is_file()}
    videos, missing = [], []
    for shard, offset, size, name, label, suffix in rows:
        if shard in absent:
            missing.append(name)
            continue
        path = member_path(f"{base}/{shard}", int(offset), int(size), f"{quote(name, safe='')}{suffix}")
        videos.append(Video(name, path, label=int(label) if label else None))
    return videos, missing


def check(root: str | Path, least_seconds: float = 2.0, workers: int = 2) -> dict[str, Any]:
    """Which of the packed videos can be read; see `check_files`.

    Raises:
        MissingDataError: there is no index.
    """
    found, last = {}, None
    for split in SHARD_SPLITS:
        try:
            found[split] = find(root, split)
        except MissingDataError as error:
            last = error
    if not found:
        raise last
    return check_files(found, least_seconds, workers)


def sample(root: str | Path, output: Path, count: int) -> dict[str, int]:
    """Write indexes of a few videos of each split, of different labels, with links to their shards; numbers by split.

    Raises:
        UsageError: the shards lie behind a URL.
    """
    if "://" in as_url(root):
        raise UsageError(f"{as_url(root)}: shards behind a URL cannot be linked: sample a folder of them")
    taken = {}
    for split in SHARD_SPLITS:
        try:
            chosen = varied(((row[4], row) for row in _index(root, split)), count)
        except MissingDataError:
            continue
        link_videos([Path(root, shard) for shard in {row[0] for row in chosen}], output)
        _write_index(output, split, chosen)
        taken[split] = len(chosen)
    return taken


@dataclass(frozen=True)
class Packed:
    """What lies in `output`: by split the shards, the videos in them and their bytes; and id -> why it was left out."""

    output: str
    splits: dict[str, dict[str, int]]
    failed: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """A line a split, after the first videos that were left out."""
        lines = [f"left out {name}: {reason}" for name, reason in list(self.failed.items())[:_NAMED]]
        lines += [f"and {len(self.failed) - _NAMED} more"] if len(self.failed) > _NAMED else []
        for split, one in self.splits.items():
            counts = f"{one['videos']} videos in {one['shards']} shards, {one['bytes'] / 1e6:.1f} MB"
            lines.append(f"{self.output}: {split}: {counts}")
        return "\n".join(lines)


def pack_command(
    output: Path, data: str = "k400", root: Path | None = None, megabytes: int = 1000, progress: bool = True
) -> Packed:
    """Pack a data set's videos into tar shards in WebDataset's layout and index them, or index shards that are there.

    Killed and run again, it goes on after the last whole shard.

    Args:
        output: folder of the shards; `kind: shards` reads it, or a copy of it behind any URL that fsspec opens
        data: data set whose videos are whole files: k400, lvu, folder
        root: the data set's folder (null: pack nothing, index the .tar files in --output)
        megabytes: of a shard, at least; its last video goes over
        progress: show progress on stderr

    Raises:
        UsageError: a data set of segments of files, or no size.
        MissingDataError: no videos, or no shards.
        KuleshovError: the folder holds shards of other videos or another size.
    """
    require_positive(megabytes=megabytes)
    failed: dict[str, str] = {}
    if root is not None:
        failed = _pack(output, data, root, megabytes * 10**6, progress)
    splits = {}
    for split, shards in _shards(output).items():
        rows = [row for shard in shards for row in _members(shard)]
        _write_index(output, split, rows)
        splits[split] = {"shards": len(shards), "videos": len(rows), "bytes": sum(int(row[2]) for row in rows)}
    if not splits:
        raise MissingDataError("tar shards", output.absolute(), "name the data set's folder with --root to pack it")
    return Packed(str(output), splits, failed)


def _write_index(folder: Path, split: str, rows: Iterable[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows])
    write_atomic(folder / f"{split}.shards.csv", text.getvalue())


def _index(root: str | Path, split: str) -> Iterator[list[str]]:
    import fsspec

    place = f"{as_url(root)}/{split}.shards.csv"
    try:
        with fsspec.open(place, "rt", encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
    except FileNotFoundError:
        raise MissingDataError("index of shards", place, "make it with `kuleshov pack`") from None
    except Exception as error:  # each file system has errors of its own
        raise KuleshovError(f"{place} cannot be read ({message(error)[:120]})") from error
    if not lines or tuple(lines[0]) != _COLUMNS:
        raise FormatError(place, f"expected the columns {','.join(_COLUMNS)}: make it again with `kuleshov pack`", 1)
    for number, row in enumerate(lines[1:], 2):
        if len(row) != len(_COLUMNS) or not all(cell.isdigit() for cell in (*row[1:3], row[4] or "0")):
            raise FormatError(place, f"expected {','.join(_COLUMNS)}, got {','.join(row)!r}", number)
        yield row


def _pack(output: Path, data: str, root: Path, size: int, progress: bool) -> dict[str, str]:
    from kuleshov.datasets.registry import data_set

    entry = data_set(data)
    splits: dict[str, list[Video]] = {}
    for split in entry.splits:
        try:
            found, _ = entry.videos(root, (split,))
            splits[split if split in SHARD_SPLITS else SHARD_SPLITS[0]] = found
        except MissingDataError as error:
            log.warning("%s is left out: %s", split, error)
    if not splits:
        raise MissingDataError(f"data set {data}", root.absolute(), entry.missing)
    if any(video.start is not None for videos in splits.values() for video in videos):
        raise UsageError(f"pack writes whole files, and {data}'s videos are parts of them: choose k400, lvu or folder")
    make_folder(output)
    settings = {split: sha256_ids(video.id for video in videos) for split, videos in splits.items()}
    settings = {"data": data, "bytes": size, "ids": settings}
    if (output / SETTINGS).exists() and read_json(output / SETTINGS) != settings:
        raise KuleshovError(f"{output / SETTINGS} says other videos or sizes: choose another folder or the same")
    write_json(output / SETTINGS, settings)
    failed: dict[str, str] = {}
    total = sum(map(len, splits.values()))
    with progress_bar("pack", total, 0, progress) as advance:
        for split, videos in splits.items():
            for number, part in enumerate(_parts(videos, size, failed)):
                shard = output / f"{split}-{number:05d}.tar"
                if not shard.exists():
                    write_through(shard, lambda temporary, part=part: _write_shard(temporary, part))
                for _ in part:
                    advance()
    return failed


def _parts(videos: Iterable[Video], size: int, failed: dict[str, str]) -> Iterator[list[Video]]:
    """Videos in a row that make a shard of `size` bytes."""
    part, filled = [], 0
    for video in videos:
        try:
            filled += video.path.stat().st_size
            part.append(video)
        except OSError as error:
            failed[video.id] = message(error)
        if filled >= size:
            yield part
            part, filled = [], 0
    if part:
        yield part


def _write_shard(path: Path, videos: Iterable[Video]) -> None:
    with tarfile.open(path, "w") as tar:
        for video in videos:
            # WebDataset's keys end at the first dot
            key = quote(video.id).replace(".", "%2E")
            try:
                contents = {video.path.suffix.lower(): video.path.read_bytes()}
            except OSError as error:
                raise VideoError(video.path, f"it cannot be packed ({message(error)})") from error
            if video.label is not None:
                contents[".cls"] = str(video.label).encode()
            for suffix, content in contents.items():
                member = tarfile.TarInfo(key + suffix)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _shards(folder: Path) -> dict[str, list[Path]]:
    """The folder's shards by split: the one that their names begin with, else `train`."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.tar")):
        split = next((split for split in SHARD_SPLITS if path.name.startswith(f"{split}-")), "train")
        found.setdefault(split, []).append(path)
    return found


def _members(shard: Path) -> list[tuple[str, ...]]:
    """Rows of the index: the videos of a shard with the labels that stand beside them."""
    rows, labels = [], {}
    try:
        with tarfile.open(shard) as tar:
            for member in filter(tarfile.TarInfo.isfile, tar):
                folder, slash, name = member.name.rpartition("/")
                key, _, suffix = name.partition(".")
                key = f"{folder}{slash}{key}"
                if suffix == "cls":
                    labels[key] = tar.extractfile(member).read().decode("ascii").strip()
                elif is_video(f"video.{suffix}"):
                    rows.append((shard.name, str(member.offset_data), str(member.size), key, f".{suffix}"))
    except (tarfile.TarError, OSError, UnicodeDecodeError) as error:
        raise FormatError(shard, f"it is no whole tar file ({message(error)})") from error
    return [(*row[:3], unquote(row[3]), labels.get(row[3], ""), row[4]) for row in rows]
