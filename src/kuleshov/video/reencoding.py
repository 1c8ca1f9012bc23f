"""Files encoded anew, so that a clip costs the frames that it shows and few more."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from kuleshov.core.files import write_through
from kuleshov.video.metadata import packet_index, probe
from kuleshov.video.reader import VideoReader

# the clock of the new files: whole at the usual rates
_CLOCK = Fraction(1, 90000)
# frames of a file whose pixels are compared
_SAMPLED = 5
# three frames of four that nothing leans on, and little work for a decoder
_STRUCTURE = {"preset": "medium", "tune": "fastdecode", "bf": "3"}
_X264 = "b-adapt=0:b-pyramid=none:ref=1:scenecut=0"


@dataclass(frozen=True)
class Encoding:
    """How files are encoded.

    Attributes:
        short_side: pixels of the shorter side; smaller files keep their own.
        gop: frames from one key frame to the next.
        crf: x264's quality, less is better.
    """

    short_side: int = 256
    gop: int = 16
    crf: int = 20


@dataclass(frozen=True)
class Reencoded:
    """A file encoded anew: bytes before and after, and the sampled frames' peak signal-to-noise ratio in dB."""

    before: int
    after: int
    psnr: float


def reencode(source: Path, target: Path, encoding: Encoding) -> Reencoded:
    """Write `source`'s frames, at their times and upright, as H.264 in MP4, without sound, by an atomic rename.

    The sampled frames are read back from the new file and compared with what `VideoReader` gives of the old one.

    Raises:
        VideoError: the source cannot be read to its end.
        OutputError: the target cannot be written.
    """
    info, times = probe(source), packet_index(source).times
    side = min(encoding.short_side, info.width, info.height)
    chosen = sorted(set(np.linspace(0, len(times) - 1, _SAMPLED).round().astype(int).tolist()))
    kept: list[np.ndarray] = []

    def write(temporary: Path) -> None:
        options = {**_STRUCTURE, "crf": str(encoding.crf), "g": str(encoding.gop), "x264-params": _X264}
        rate = Fraction(len(times) / packet_index(source).end).limit_denominator(1001)
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=rate, options=options)
            stream.pix_fmt, stream.codec_context.time_base = "yuv420p", _CLOCK
            stream.codec_context.thread_count = 1
            for number, frames in VideoReader().stream(source, ([time] for time in times), side):
                # 4:2:0 has no odd sides
                image = frames[0, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
                if number == 0:
                    stream.height, stream.width = image.shape[:2]
                if number in chosen:
                    kept.append(image)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame.pts, frame.time_base = round(times[number] / _CLOCK), _CLOCK
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))

    write_through(target, write)
    error = VideoReader().read(target, times[chosen]).astype(np.float32) - np.stack(kept)
    psnr = 10 * np.log10(255**2 / max(float(np.square(error).mean()), 1e-3))
    return Reencoded(source.stat().st_size, target.stat().st_size, float(psnr))
