"""`kuleshov prepare`: a data set's videos encoded once, so that loaders read them several times as fast."""

import hashlib
import json
import logging
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from kuleshov.core.errors import KuleshovError, MissingDataError, UsageError, VideoError, require_positive
from kuleshov.core.files import make_folder, read_json, write_atomic, write_json
from kuleshov.core.processes import map_in_processes
from kuleshov.core.progress import progress_bar
from kuleshov.datasets.kinetics import KINETICS_SPLITS, KineticsSplit, read_kinetics
from kuleshov.video.video_file import Video

if TYPE_CHECKING:
    from kuleshov.video.reencoding import Encoding

log = logging.getLogger(__name__)
SETTINGS, JOURNAL = "prepared.json", "prepared.jsonl"
_NAMED = 5


@dataclass(frozen=True)
class Prepared:
    """What lies in `output`: `videos` `of` those on disk, and why some are left out.

    Attributes:
        output: the new data set's folder.
        videos: how many were encoded, now or before.
        of: how many of those that are listed are on disk.
        missing: how many more are listed.
        before: bytes of the videos' old files.
        after: bytes of the new ones.
        psnr: dB of sampled frames, new against old: median of the videos.
        least_psnr: the same of the worst video.
        failed: id -> why it was left out.
    """

    output: str
    videos: int
    of: int
    missing: int
    before: int
    after: int
    psnr: float
    least_psnr: float
    failed: dict[str, str]

    def __str__(self) -> str:
        """Counts, size, quality, and the first videos that were left out."""
        lines = [f"left out {name}: {reason}" for name, reason in list(self.failed.items())[:_NAMED]]
        if len(self.failed) > _NAMED:
            lines.append(f"and {len(self.failed) - _NAMED} more")
        size = f"{self.after / 1e6:.1f} MB, {self.after / self.before:.2f} times the originals'"
        quality = f"PSNR of sampled frames {self.psnr:.1f} dB (least {self.least_psnr:.1f})"
        away = f", {self.missing} listed are not on disk" if self.missing else ""
        return "\n".join([*lines, f"{self.videos} of {self.of} videos in {self.output}{away}: {size}; {quality}"])


def prepare_command(
    data: str,
    root: Path,
    output: Path,
    short_side: int = 256,
    gop: int = 16,
    crf: int = 20,
    workers: int = 2,
    progress: bool = True,
) -> Prepared:
    """Encode a data set's videos anew, small and with many key frames, and write lists of them as PySlowFast does.

    H.264 in MP4, the frames at their old times, without sound; classes are numbered as before. Killed and run again, it
    goes on after the last whole video.

    Args:
        data: data set: k400, or what is laid out like it.
        root: the data set's folder.
        output: folder of the new data set.
        short_side: pixels of the shorter side, even; smaller videos keep their own.
        gop: frames from one key frame to the next.
        crf: x264's quality, less is better.
        workers: processes.
        progress: show progress on stderr.

    Raises:
        UsageError: another data set, or numbers out of range.
        MissingDataError: none of the splits is there.
        KuleshovError: the folder is being written, has other settings, or no video can be read.
    """
    from kuleshov.video.reencoding import Encoding

    if data not in ("k400", "kinetics"):
        raise UsageError(f"prepare writes lists of videos as k400 has them, {data} has none: choose k400")
    require_positive(short_side=short_side, gop=gop, crf=crf, workers=workers)
    if short_side % 2 or crf > 51:
        raise UsageError(f"--short-side has to be even and --crf has to be 51 at most, not {short_side} and {crf}")
    if root.resolve() == output.resolve():
        raise UsageError(f"--output is --root ({root}): name another folder")
    splits = _splits(root)
    encoding = Encoding(short_side, gop, crf)
    make_folder(output)
    try:
        with FileLock(output / ".lock", timeout=0):
            _settle(output, encoding)
            return _prepare(splits, output, encoding, workers, progress)
    except Timeout as error:
        raise KuleshovError(f"{output} is being written by another process: wait until it is done") from error


def _splits(root: Path) -> dict[str, KineticsSplit]:
    found, last = {}, None
    for split in KINETICS_SPLITS:
        try:
            found[split] = read_kinetics(root, split)
        except MissingDataError as error:
            log.warning("%s is left out: %s", split, error)
            last = error
    if not found:
        raise last
    return found


def _settle(output: Path, encoding: "Encoding") -> None:
    """Compare the settings with those of before."""
    path = output / SETTINGS
    if path.exists() and read_json(path, expected=dict) != asdict(encoding):
        raise KuleshovError(f"{path} was made with other settings: choose another folder or the same settings")
    write_json(path, asdict(encoding))


def _prepare(
    splits: dict[str, KineticsSplit], output: Path, encoding: "Encoding", workers: int, progress: bool
) -> Prepared:
    jobs = {_place(split, video): video for split, found in splits.items() for video in found.videos}
    done = {place: facts for place, facts in _journal(output) if place in jobs and (output / place).is_file()}
    failed: dict[str, str] = {}
    waiting = [(video.path, output, place, encoding) for place, video in jobs.items() if place not in done]
    unfinished = f"{output} is not complete, a process died: run the same command again"
    with (
        (output / JOURNAL).open("a", encoding="utf-8") as journal,
        progress_bar("prepare", len(jobs), len(done), progress) as advance,
    ):
        for place, outcome in map_in_processes(_encode, waiting, workers, unfinished):
            if isinstance(outcome, str):
                failed[jobs[place].id] = outcome
                log.warning("%s is left out: %s", jobs[place].path, outcome)
            else:
                done[place] = outcome
                # a leading line break ends what a killed run left
                journal.write("\n" + json.dumps({"path": place, **outcome}))
                journal.flush()
            advance()
    if not done:
        name, reason = next(iter(failed.items()))
        raise KuleshovError(f"none of {len(jobs)} videos can be read, the first {name}: {reason}")
    for split, found in splits.items():
        _write_list(output, split, found, done)
    # half written by a run that was killed, or by its processes, which end a moment after it
    for left in output.glob("*/*/.*.tmp"):
        left.unlink(missing_ok=True)
    ratios = [facts["psnr"] for facts in done.values()]
    sizes = (sum(facts[name] for facts in done.values()) for name in ("before", "after"))
    missing = sum(len(found.missing) for found in splits.values())
    counts = (str(output), len(done), len(jobs), missing)
    return Prepared(*counts, *sizes, statistics.median(ratios), min(ratios), dict(sorted(failed.items())))


def _place(split: str, video: Video) -> str:
    """A video's path in the new folder: safe for any id, and few files a folder."""
    digest = hashlib.sha256(video.id.encode("utf-8")).hexdigest()
    stem = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in Path(video.id).name)[:60]
    return f"{split}/{digest[:2]}/{stem}-{digest[2:10]}.mp4"


def _journal(output: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    path = output / JOURNAL
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            facts = json.loads(line)
        except json.JSONDecodeError:
            # of a run that was killed; the video is encoded again
            continue
        yield facts.pop("path"), facts


def _write_list(output: Path, split: str, found: KineticsSplit, done: dict[str, dict[str, Any]]) -> None:
    places = [(_place(split, video), video.label) for video in found.videos]
    lines = [place if label is None else f"{place} {label}" for place, label in places if place in done]
    write_atomic(output / f"{split}.csv", "".join(f"{line}\n" for line in lines))
    if found.classes:
        write_atomic(output / "classes.txt", "".join(f"{name}\n" for name in found.classes))


def _encode(source: Path, output: Path, place: str, encoding: "Encoding") -> tuple[str, dict[str, Any] | str]:
    from kuleshov.video.reencoding import reencode

    try:
        return place, asdict(reencode(source, output / place, encoding))
    except VideoError as error:
        return place, error.reason
