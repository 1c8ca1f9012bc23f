"""Opening files in a process of its own, so that one that crashes its decoder only costs its own process.

`python -m kuleshov.datasets.examine` reads a JSON list of paths and writes one JSON line a file.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from kuleshov.core.errors import KuleshovError, VideoError, one_line
from kuleshov.core.files import sha256_file

_COMMAND = (sys.executable, "-P", "-m", "kuleshov.datasets.examine")


@dataclass(frozen=True)
class Examined:
    """What was found of one file.

    Attributes:
        path: the file.
        reason: why it cannot be read; None if it can.
        seconds: its length, 0 where it cannot be read.
        sha256: of its content, in hex; empty where it is no file.
    """

    path: str
    reason: str | None
    seconds: float
    sha256: str


def examine(path: str) -> Examined:
    """Decode a file's first, middle and last frame, in this process; what lies between is not looked at."""
    # PyAV is loaded in the process that examines, not by those who only look for files
    from kuleshov.video.metadata import probe
    from kuleshov.video.reader import VideoReader

    content = sha256_file(path) if Path(path).is_file() else ""
    try:
        info = probe(path)
        VideoReader("pyav").read(path, [0.0, info.duration / 2, info.duration])
    except VideoError as error:
        return Examined(path, error.reason, 0.0, content)
    return Examined(path, None, info.duration, content)


def examine_all(paths: Sequence[str], workers: int = 2) -> list[Examined]:
    """Examine files in `workers` processes; a file on which the process dies is told as crashing.

    Raises:
        KuleshovError: the processes fail for another reason than a file.
    """
    shares = [list(paths[start :: max(1, workers)]) for start in range(max(1, workers))]
    with ThreadPoolExecutor(len(shares)) as threads:
        found = [one for share in threads.map(lambda s: list(_examine_share(s)), shares) for one in share]
    return sorted(found, key=lambda one: one.path)


def _examine_share(left: list[str]) -> Iterator[Examined]:
    while left:
        process = subprocess.run(_COMMAND, input=json.dumps(left), capture_output=True, text=True)
        lines = [line for line in process.stdout.splitlines(keepends=True) if line.endswith("\n")]
        yield from (Examined(**json.loads(line)) for line in lines)
        left = left[len(lines) :]
        if process.returncode < 0 and left:
            # killed by a signal: it is the next file's doing
            yield Examined(left[0], "it crashes the decoder", 0.0, sha256_file(left[0]))
            left = left[1:]
        elif left:
            last = one_line((process.stderr.strip().splitlines() or ["no message"])[-1])
            raise KuleshovError(f"the process that examines videos failed before {left[0]}: {last}")


if __name__ == "__main__":
    for path in json.load(sys.stdin):
        print(json.dumps(asdict(examine(path))), flush=True)
