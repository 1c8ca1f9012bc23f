"""Which decoder is the faster one, by kind of file: two 16 x 4 clips read by `VideoReader` through PyAV and decord.

    python benchmarks/bench_decoders.py [--rounds 5]

Both give the same frames of files that `packet_index` finds no fault with, which is checked. Rates are of processor
time.
"""

import argparse
import os
import sys
import tempfile
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import cv2
import numpy as np
from lines import Line, finish, rounds

from kuleshov.video.decoders import import_decord
from kuleshov.video.metadata import packet_index
from kuleshov.video.reader import VideoReader

# name -> file name, width, height, codec, its options
KINDS = {
    "H.264, key frame every 250": ("a.mp4", 340, 256, "libx264", {}),
    "H.264, every 16": ("b.mp4", 340, 256, "libx264", {"g": "16"}),
    "H.264, every 16, no B-frames": ("c.mp4", 340, 256, "libx264", {"g": "16", "bf": "0"}),
    "H.264, key frames alone": ("d.mp4", 340, 256, "libx264", {"g": "1"}),
    "H.264 in Matroska": ("e.mkv", 340, 256, "libx264", {}),
    "H.264, 1280 x 720": ("f.mp4", 1280, 720, "libx264", {}),
    "H.264, 64 x 64": ("g.mp4", 64, 64, "libx264", {}),
    "HEVC": ("h.mp4", 340, 256, "libx265", {"x265-params": "log-level=none"}),
    "VP9": ("i.webm", 340, 256, "libvpx-vp9", {"speed": "8"}),
    "MPEG-4": ("j.mp4", 340, 256, "mpeg4", {}),
}
RATE, FRAMES = 30, 300


def write(path: Path, width: int, height: int, codec: str, options: dict[str, str]) -> Path:
    """Ten seconds of moving texture."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 8 + 40, width // 8 + 40, 3), dtype=np.uint8)
    texture = cv2.resize(noise, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(RATE))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {**({"preset": "veryfast"} if "x26" in codec else {}), **options}
        for step in range(FRAMES):
            image = np.ascontiguousarray(texture[step : step + height, step : step + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def reads(reader: VideoReader, path: Path, calls: list[np.ndarray]) -> float:
    """Calls a second of processor time."""
    started = time.process_time()
    for times in calls:
        reader.read(path, times)
    return len(calls) / (time.process_time() - started)


def main() -> int:
    """Measure and print; 1 where the frames differ, or decord is the faster one by more than a fifth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=Path, help="write them here instead")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if import_decord() is None:
        print("skipped: decord is not installed")
        return 0
    rng, wrong, lines = np.random.default_rng(1), False, []
    calls = [np.concatenate([start + np.arange(16) * 4 / RATE for start in rng.uniform(0, 7.8, 2)]) for _ in range(4)]
    with tempfile.TemporaryDirectory() as folder:
        for name, (file, *how) in KINDS.items():
            path = write(Path(folder) / file, *how)
            readers = {backend: VideoReader(backend) for backend in ("decord", "pyav")}
            ours, theirs = (readers[backend].read(path, calls[0]) for backend in ("pyav", "decord"))
            if np.abs(ours.astype(int) - theirs).mean() >= 1:
                fault = packet_index(path).fault
                print(f"{name}: decord gives other frames ({fault})", file=sys.stderr)
                wrong |= fault is None
            ways = {backend: partial(reads, reader, path, calls) for backend, reader in readers.items()}
            found = rounds(ways, args.rounds)
            line = Line(f"two 16 x 4 clips of {name}", "reads/s", found["pyav"], "decord", found["decord"], aim=0.8)
            lines.append(line)
    return finish(lines, args.lines) | int(wrong)


if __name__ == "__main__":
    sys.exit(main())
