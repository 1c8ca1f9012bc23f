"""`kuleshov motion`: the motion input of MoDist for the videos of a data set, computed once."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kuleshov.core.errors import KuleshovError, UsageError, require_positive, require_workers
from kuleshov.datasets.registry import data_set

if TYPE_CHECKING:
    from kuleshov.video.optical_flow import MotionSummary

_NAMED = 5


@dataclass(frozen=True)
class MotionResult:
    """What was written into `output`."""

    summary: "MotionSummary"
    output: Path

    def to_dict(self) -> dict[str, Any]:
        """Numbers of files `written` and `present`, and the reasons of those that `failed`."""
        found = self.summary
        return {"written": len(found.written), "present": len(found.present), "failed": found.failed}

    def __str__(self) -> str:
        """The numbers, and the first videos that failed."""
        found = self.summary
        lines = [f"left out {name}: {reason}" for name, reason in list(found.failed.items())[:_NAMED]]
        counts = f"{len(found.present)} were there, {len(found.failed)} failed"
        return "\n".join([*lines, f"{len(found.written)} videos' motion written to {self.output}, {counts}"])


def motion_command(
    root: Path,
    output: Path,
    data: str = "kinetics",
    split: str = "train",
    fps: float = 30.0,
    short_side: int = 256,
    maximum: float = 2.0,
    workers: int = 2,
) -> MotionResult:
    """Compute the motion input of MoDist once: edges of the optical flow, one lossless video a movie.

    Without it MoDist computes the flow while it loads clips. Killed and run again, it goes on where it stopped.

    Args:
        root: the data set's folder, or a list of videos.
        output: folder of the motion files.
        data: data set: k400, vidsitu, lvu or folder.
        split: split of k400, vidsitu or lvu.
        fps: flow steps a second.
        short_side: pixels of the frames' shorter side.
        maximum: gradient of the flow that is stored as 255.
        workers: processes.

    Raises:
        KuleshovError: the data set is not there, or none of its videos can be read.
    """
    from kuleshov.video.optical_flow import MotionSettings, precompute

    require_positive(fps=fps, short_side=short_side, maximum=maximum)
    require_workers(workers)
    if Path(root).resolve() == Path(output).resolve():
        raise UsageError(f"--output is --root ({root}): name another folder")
    videos, _ = data_set(data).videos(root, [split])
    summary = precompute(videos, output, MotionSettings(fps, short_side, maximum), workers)
    if not summary.written and not summary.present:
        name, reason = next(iter(summary.failed.items()))
        raise KuleshovError(f"no motion of {len(summary.failed)} videos, the first {name}: {reason}")
    return MotionResult(summary, output)
