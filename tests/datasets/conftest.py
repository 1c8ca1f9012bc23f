"""Small real videos for the tests that open them."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest


@pytest.fixture(scope="session")
def write_clip() -> Callable[[Path, float], None]:
    """A function that writes a gray video of so many seconds, 8 frames a second."""

    def write(path: Path, seconds: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=8)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for number in range(round(8 * seconds)):
                image = np.full((32, 32, 3), number % 256, dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))

    return write
