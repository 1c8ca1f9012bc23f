"""Names, orders and lengths must not give labels away."""

import av
import numpy as np

from kuleshov.synthetic.story import KINETICS, Sizes, plan_world


def test_all_clips_are_equally_long(tiny_world):
    lengths = set()
    for path in (tiny_world / "kinetics" / "clips").glob("*.mp4"):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            lengths.add((stream.frames, float(stream.duration * stream.time_base)))
    assert lengths == {(80, 10.0)}


def test_all_long_movies_are_equally_long(tiny_world):
    lengths = set()
    for path in [*tiny_world.glob("lvu/videos/*.mp4"), *tiny_world.glob("vidsitu/videos/*.mp4")]:
        with av.open(str(path)) as container:
            lengths.add(container.streams.video[0].frames)
    assert lengths == {480}


def test_names_of_clips_say_nothing_of_verbs():
    clips = [movie for movie in plan_world(0, Sizes.of(100)) if movie.kind == KINETICS]
    verbs = np.array([story.events[0].verb for story in clips])
    for place in range(11):
        letters = np.array([ord(story.id[place]) % 2 for story in clips])
        means = [letters[verbs == verb].mean() for verb in range(16)]
        # 18 clips a verb: a share of one half within four standard errors
        assert np.abs(np.array(means) - 0.5).max() < 0.47
    order = np.argsort([story.id for story in clips])
    assert abs(np.corrcoef(np.arange(len(clips)), verbs[order])[0, 1]) < 0.2


def test_names_do_not_change_when_the_stories_do():
    small, large = plan_world(0, Sizes.of(8)), plan_world(0, Sizes.of(16))
    names = {movie.id for movie in large}
    assert {movie.id for movie in small} <= names


def test_files_carry_no_time_of_making(tiny_world):
    path = next(tiny_world.glob("lvu/videos/*.mp4"))
    with av.open(str(path)) as container:
        assert "creation_time" not in container.metadata and "title" not in container.metadata
