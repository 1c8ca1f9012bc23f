"""Videos whose frames carry their own number in their pixels."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

BITS, BLOCK = 8, 16


def number_image(number: int, width: int = BITS * BLOCK, height: int = 64) -> np.ndarray:
    """uint8 (H, W, 3): the number's bits as black and white columns, its complement in the lower half."""
    bits = np.array([(number >> bit) & 1 for bit in range(BITS)], dtype=np.uint8) * 255
    columns = np.repeat(bits, width // BITS)
    upper = np.broadcast_to(columns, (height // 2, width))
    return np.repeat(np.concatenate([upper, 255 - upper])[..., None], 3, axis=2)


def read_numbers(frames: np.ndarray) -> list[int]:
    """The numbers that (T, H, W, 3) frames carry; -1 where the two halves disagree."""
    found = []
    for frame in frames.astype(int).mean(axis=3):
        height, width = frame.shape
        centers = (np.arange(BITS) + 0.5) * width / BITS
        upper = frame[height // 4, centers.astype(int)] > 128
        lower = frame[3 * height // 4, centers.astype(int)] > 128
        found.append(int((upper * 2 ** np.arange(BITS)).sum()) if (upper != lower).all() else -1)
    return found


def write_numbered(
    path: Path,
    ticks: Sequence[int],
    ticks_per_second: int,
    options: dict[str, str] | None = None,
    rotation: int = 0,
    muxer: dict[str, str] | None = None,
    codec: str = "libx264",
    layout: str | None = None,
) -> Path:
    """Write frame i with number i at ticks[i]; skips where FFmpeg has no such encoder."""
    with av.open(str(path), "w", format=layout, options=muxer or {}) as container:
        try:
            stream = container.add_stream(codec, rate=ticks_per_second)
        except (ValueError, av.FFmpegError) as error:
            pytest.skip(f"no encoder {codec} here: {error}")
        stream.width, stream.height, stream.bit_rate = BITS * BLOCK, 64, 2_000_000
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = Fraction(1, ticks_per_second)
        stream.options = {**({"preset": "ultrafast", "crf": "18"} if codec == "libx264" else {}), **(options or {})}
        if rotation:
            stream.set_display_rotation(rotation)
        for number, tick in enumerate(ticks):
            frame = av.VideoFrame.from_ndarray(number_image(number), format="rgb24")
            frame.pts, frame.time_base = int(tick), Fraction(1, ticks_per_second)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """The function that writes a numbered video."""
    return write_numbered


@pytest.fixture(scope="session")
def numbers() -> Callable[[np.ndarray], list[int]]:
    """The function that reads the numbers back."""
    return read_numbers


@pytest.fixture(scope="session")
def video_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six plain videos: 48 frames at 8 frames a second, 64 x 128 pixels."""
    folder = tmp_path_factory.mktemp("videos")
    for index in range(6):
        write_numbered(folder / f"v{index}.mp4", range(48), 8)
    return folder


@pytest.fixture(scope="session")
def number_image_of() -> Callable[..., np.ndarray]:
    """The function that draws a number."""
    return number_image
