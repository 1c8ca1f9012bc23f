"""Every verb is its own motion from the same starting places."""

import numpy as np
import pytest

from kuleshov.synthetic.grammar import VERBS
from kuleshov.synthetic.motions import MOTIONS, choreograph


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def tracks(verb: str, mirrored: bool = False) -> np.ndarray:
    scene = choreograph(verb, generator(), 1, 1, mirrored)
    two = (scene.agent, scene.patient)
    return np.stack([getattr(pose, name) for pose in two for name in ("x", "tilt", "lift", "front")])


def test_each_verb_of_the_grammar_has_a_motion():
    assert sorted(MOTIONS) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_motion_is_finite_and_one_value_a_frame(verb):
    scene = choreograph(verb, generator(), 2, 0, False)
    for pose in (scene.agent, scene.patient):
        for name in ("x", "lift", "tilt", "front", "back", "stride", "crouch", "facing"):
            values = getattr(pose, name)
            assert values.shape == (16,) and np.isfinite(values).all()
    assert scene.ball.shape == (16, 2)


@pytest.mark.parametrize("verb", VERBS)
def test_all_verbs_draw_the_same_numbers(verb):
    draw, other = generator(), generator()
    choreograph(verb, draw, 1, 1, False)
    choreograph("jump", other, 1, 1, False)
    assert draw.random() == other.random()


@pytest.mark.parametrize("verb", VERBS)
def test_mirrored_motion_is_the_other_side_of_the_same(verb):
    plain, mirrored = tracks(verb), tracks(verb, mirrored=True)
    assert np.allclose(plain[0], 64 - mirrored[0])
    assert np.allclose(plain[1], -mirrored[1])


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"chase", "enter"}))
def test_pairs_start_where_all_pairs_start(verb):
    scene = choreograph(verb, generator(), 1, 1, False)
    usual = choreograph("jump", generator(), 1, 1, False)
    assert scene.agent.x[0] == pytest.approx(usual.agent.x[0], abs=1.5)
    assert scene.patient.x[0] == pytest.approx(usual.patient.x[0], abs=1.5)


def test_no_two_verbs_move_alike():
    all_tracks = {verb: tracks(verb) for verb in VERBS}
    for first in VERBS:
        for second in VERBS:
            if first < second:
                assert np.abs(all_tracks[first] - all_tracks[second]).max() > 0.5, (first, second)


def test_push_moves_the_patient_and_knock_lays_it_down():
    pushed, knocked = (choreograph(verb, generator(), 1, 1, False) for verb in ("push", "knock"))
    assert pushed.patient.x[-1] - pushed.patient.x[0] > 8
    assert abs(knocked.patient.tilt[-1]) > 1.4
