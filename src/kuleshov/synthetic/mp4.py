"""Encoding: frames to MP4 bytes, the same bytes for the same frames.

H.264 with one thread, constant quantiser, no B-frames and a key frame at every event, so that what is
decoded for one event depends on no other event.
"""

import io
from collections.abc import Iterable

import av
import numpy as np

from kuleshov.synthetic.counts import EVENT_FRAMES, FPS, SIDE

QUANTISER = 24
_X264 = f"keyint={EVENT_FRAMES}:min-keyint={EVENT_FRAMES}:scenecut=0:bframes=0:threads=1:sync-lookahead=0"


def mp4(events: Iterable[np.ndarray]) -> bytes:
    """The bytes of an MP4 file at 8 frames a second.

    Args:
        events: per event, frames (T, H, W, 3) uint8 RGB.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        options = {"preset": "ultrafast", "qp": str(QUANTISER), "x264-params": _X264}
        video = container.add_stream("libx264", rate=FPS, options=options)
        video.width = video.height = SIDE
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        time = 0
        for frames in events:
            for image in frames:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = time
                time += 1
                container.mux(video.encode(frame))
        container.mux(video.encode())
    return buffer.getvalue()
