"""Nothing of the story may reach the frames of an event off screen; an event's video depends on no other event."""

import io
from dataclasses import replace

import av
import numpy as np
import pytest

from kuleshov.synthetic.render import BEHIND, BEHIND_OTHERWISE, BYSTANDER, encode_mp4, event_boxes, event_frames
from kuleshov.synthetic.story import AT_HOME, LVU, STYLES, Story, write_story

STYLE = {name: 1 for name in STYLES}


@pytest.fixture(scope="module")
def story() -> Story:
    return write_story(0, LVU, 2, STYLE, 30)


def retold(story: Story, index: int, **changes) -> Story:
    events = list(story.events)
    events[index] = replace(events[index], **changes)
    return replace(story, events=tuple(events))


def places(story: Story, off: bool) -> list[int]:
    return [i for i, event in enumerate(story.events) if event.off_screen == off]


def test_frames_have_the_promised_shape(story):
    frames = event_frames(story, 0)
    assert frames.shape == (16, 64, 64, 3) and frames.dtype == np.uint8
    assert np.array_equal(frames, event_frames(story, 0))


def test_off_screen_frames_are_the_same_under_any_other_story(story):
    for index in places(story, off=True):
        frames = event_frames(story, index)
        other = retold(story, index, verb=(story.events[index].verb + 5) % 16, agent=1, patient=0)
        assert np.array_equal(frames, event_frames(other, index))
        staged = retold(story, index, mirrored=not story.events[index].mirrored, speed=2, place=0)
        assert np.array_equal(frames, event_frames(staged, index))


def test_off_screen_frames_do_not_know_their_neighbors(story):
    index = places(story, off=True)[1]
    before = retold(story, index - 1, verb=3, off_screen=False)
    assert np.array_equal(event_frames(story, index), event_frames(before, index))


def test_off_screen_frames_do_not_know_who_the_main_characters_are(story):
    index = places(story, off=True)[0]
    swapped = replace(story, cast=(story.cast[1], story.cast[0], story.cast[2]))
    assert np.array_equal(event_frames(story, index), event_frames(swapped, index))


def test_on_screen_frames_show_the_verb(story):
    index = places(story, off=False)[0]
    other = retold(story, index, verb=(story.events[index].verb + 5) % 16)
    assert not np.array_equal(event_frames(story, index), event_frames(other, index))


def test_off_screen_shows_the_bystander_or_nobody(story):
    seen = [tuple(event_boxes(story, index)) for index in places(story, off=True)]
    assert set(seen) == {(), (BYSTANDER,)}


def test_on_screen_shows_the_two_main_characters(story):
    assert all(sorted(event_boxes(story, index)) == [0, 1] for index in places(story, off=False))


def test_boxes_hold_what_moves():
    quiet = {name: 0 for name in STYLES} | {"year": 8, "director": 0, "way_speaking": 2}
    story = retold(write_story(0, LVU, 0, quiet, 5), 0, off_screen=False, verb=13)
    frames, boxes = event_frames(story, 0).astype(int), event_boxes(story, 0)
    moved = np.abs(frames[2] - frames[6]).max(-1) > 60
    # the speech bubble above a head belongs to nobody's box
    moved[:36] = False
    inside = np.zeros((64, 64), bool)
    for box in boxes.values():
        for x1, y1, x2, y2 in box[[2, 6]].astype(int):
            inside[max(0, y1 - 1) : y2 + 2, max(0, x1 - 1) : x2 + 2] = True
    assert moved.sum() > 20
    assert (moved & inside).sum() > 0.9 * moved.sum()


@pytest.mark.parametrize("name", ["scene", "director", "year"])
def test_styles_are_visible(name, story):
    other = replace(story, style=story.style | {name: 3})
    if name == "scene":
        other = retold(other, 0, scene=3)
    assert not np.array_equal(event_frames(story, 0), event_frames(other, 0))


def test_way_of_speaking_is_visible_where_somebody_is(story):
    index = places(story, off=False)[0]
    frames = {
        speech: event_frames(replace(story, style=story.style | {"way_speaking": speech}), index) for speech in range(5)
    }
    assert len({value.tobytes() for value in frames.values()}) == 5


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


def distances(relationship: int, movies: int = 6) -> list[float]:
    """Of the couples' middles, an event each."""
    style, found = STYLE | {"relationship": relationship}, []
    for number in range(movies):
        film = write_story(0, LVU, number, style, 30, couple=True)
        for index in range(30):
            first, second = (event_boxes(film, index)[member][0] for member in BEHIND)
            found.append(abs(first[[0, 2]].mean() - second[[0, 2]].mean()))
    return found


def test_a_couple_s_distance_shows_the_relationship_mostly():
    far, near = (np.array(distances(relationship)) for relationship in (0, 2))
    # one event of five shows any of the four relationships, half of which are of the other distance
    share = BEHIND_OTHERWISE / 2
    for wrong in ((far < 14).mean(), (near > 14).mean()):
        assert abs(wrong - share) < 4 * (share * (1 - share) / 180) ** 0.5


def test_a_couple_is_small_and_in_every_event_and_hides_nothing_of_the_story(story):
    film = write_story(0, LVU, 2, STYLE, 30, couple=True)
    assert film.cast[:3] == story.cast and len(set(film.cast)) == 5
    assert [replace(event, scene=0) for event in film.events] == [replace(event, scene=0) for event in story.events]
    for index in range(30):
        boxes = event_boxes(film, index)
        assert {member for member in boxes if member not in BEHIND} == set(event_boxes(story, index))
        heights = {member: (box[:, 3] - box[:, 1]).mean() for member, box in boxes.items()}
        assert all(12 < heights[member] < 20 for member in BEHIND)
    index = places(film, off=True)[0]
    other = retold(film, index, verb=(film.events[index].verb + 5) % 16, agent=1, patient=0)
    assert np.array_equal(event_frames(film, index), event_frames(other, index))
    looked = replace(film, style=film.style | {"relationship": 3})
    assert any(not np.array_equal(event_frames(film, i), event_frames(looked, i)) for i in range(30))


def test_a_movie_with_a_couple_has_several_shots_a_minute():
    films = [write_story(0, LVU, number, STYLE, 30, couple=True) for number in range(50)]
    cuts = [sum(a.scene != b.scene for a, b in zip(film.events, film.events[1:], strict=False)) for film in films]
    assert np.mean(cuts) > 4
    home = [event.scene == STYLE["scene"] for film in films for event in film.events]
    assert abs(np.mean(home) - (AT_HOME + (1 - AT_HOME) / 6)) < 0.08
