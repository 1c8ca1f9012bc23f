"""The same frames give the same bytes, and an event's decoded frames depend on no other event."""

import io

import av
import numpy as np

from kuleshov.synthetic.render import encode_mp4, event_frames
from kuleshov.synthetic.story import LVU, STYLES, write_story


def decoded(data: bytes) -> tuple[np.ndarray, float, int]:
    with av.open(io.BytesIO(data)) as container:
        rate = float(container.streams.video[0].average_rate)
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    return frames, rate, len(frames)


def events() -> list[np.ndarray]:
    story = write_story(0, LVU, 0, dict.fromkeys(STYLES, 2), 5)
    return [event_frames(story, index) for index in range(3)]


def test_same_frames_same_bytes():
    assert encode_mp4(events()) == encode_mp4(events())


def test_eight_frames_a_second_and_close_to_the_picture():
    frames, rate, count = decoded(encode_mp4(events()))
    assert rate == 8 and count == 48
    error = np.abs(frames.astype(int) - np.concatenate(events())).mean()
    assert error < 8


def test_decoded_event_does_not_depend_on_the_others():
    first, second, third = events()
    plain, _, _ = decoded(encode_mp4([first, second, third]))
    other, _, _ = decoded(encode_mp4([third[::-1], second, first]))
    assert np.array_equal(plain[16:32], other[16:32])
