"""Stories come from the seed alone, and ids from the seed without the story."""

from dataclasses import replace

import numpy as np
import pytest

from kuleshov.core.errors import KuleshovError
from kuleshov.synthetic.story import (
    LVU,
    MIN_ON_SCREEN,
    STYLES,
    VIDSITU,
    Sizes,
    balanced,
    off_screen,
    plan_world,
    video_id,
    write_clip,
    write_story,
)

STYLE = dict.fromkeys(STYLES, 0)


def test_same_seed_same_story_and_other_seed_other_story():
    assert write_story(3, LVU, 5, STYLE, 30) == write_story(3, LVU, 5, STYLE, 30)
    assert write_story(3, LVU, 5, STYLE, 30) != write_story(4, LVU, 5, STYLE, 30)


def test_ids_are_like_youtube_s_and_know_nothing_of_the_story():
    ids = [video_id(0, kind, number) for kind in (LVU, VIDSITU) for number in range(400)]
    assert len(set(ids)) == 800
    assert all(len(name) == 11 for name in ids)
    assert any("_" in name for name in ids) and any("-" in name for name in ids)
    other = dict.fromkeys(STYLES, 1)
    assert write_story(0, LVU, 7, STYLE, 30).id == write_story(0, LVU, 7, other, 30).id == ids[7]


def test_a_third_is_off_screen_and_two_of_five_are_always_seen():
    flags = np.array([off_screen(0, LVU, number, 30) for number in range(200)]).reshape(-1, 5)
    assert (~flags).sum(1).min() == MIN_ON_SCREEN
    assert flags.mean() == pytest.approx(0.35, abs=0.02)


def test_off_screen_does_not_depend_on_the_story():
    first = [event.off_screen for event in write_story(0, LVU, 3, STYLE, 30).events]
    second = [event.off_screen for event in write_story(0, LVU, 3, dict.fromkeys(STYLES, 1), 30).events]
    assert first == second


def test_relationship_shows_in_the_order_of_agents():
    def repeats(relationship: int) -> float:
        agents = np.array(
            [
                [event.agent for event in write_story(0, LVU, n, STYLE | {"relationship": relationship}, 30).events]
                for n in range(30)
            ]
        )
        return float((agents[:, 1:] == agents[:, :-1]).mean())

    friend, former, married, pair = (repeats(relationship) for relationship in range(4))
    assert friend < 0.15 < pair < married < 0.85 < former


def test_agent_and_patient_are_two_people():
    events = write_story(0, LVU, 0, STYLE, 30).events
    assert all({event.agent, event.patient} == {0, 1} for event in events)


def test_balanced_styles_are_even():
    assert np.bincount(balanced(0, "scene", LVU, 60)).tolist() == [10] * 6


def test_scene_changes_are_rare():
    stories = [write_story(0, LVU, number, STYLE, 30) for number in range(100)]
    away = np.mean([event.scene != 0 for story in stories for event in story.events])
    assert 0 < away < 0.05


def test_splits_are_disjoint_in_films_and_complete():
    movies = plan_world(0, Sizes.of(20))
    lvu = [movie for movie in movies if movie.kind == LVU]
    assert sorted({m.split: 0 for m in lvu}) == ["test", "train", "val"]
    assert len({movie.imdb_id for movie in movies}) == len(movies)
    assert [sum(m.split == s for m in lvu) for s in ("train", "val", "test")] == [12, 4, 4]


LOOKS = [{**STYLE, "year": year} for year in range(4)]


def test_a_clip_keeps_its_verb_and_changes_everything_else():
    clip = write_clip(0, 3, LOOKS, verb=5)
    assert [event.verb for event in clip.events] == [5] * 4
    assert len({event.scene for event in clip.events}) == 4
    assert [clip.look(shot)["year"] for shot in range(4)] == [0, 1, 2, 3]
    people = [clip.cast[member] for event in clip.events for member in (event.agent, event.patient)]
    assert len(set(people)) == 8
    assert not any(event.off_screen for event in clip.events)


def test_a_clip_of_one_scene_keeps_everything():
    clip = write_clip(0, 3, LOOKS, verb=5, one_scene=True)
    assert len(clip.events) == 4 and len(set(clip.events)) == 1 and clip.events[0].verb == 5
    assert [clip.look(shot) for shot in range(4)] == [LOOKS[0]] * 4 and len(clip.cast) == 2
    # the first shot is that of the clip of several
    assert write_clip(0, 3, LOOKS, verb=5).events[0] == clip.events[0]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_clips_of_one_scene(share: float):
    usual = plan_world(5, Sizes.of(4, clips=400))
    clips = [movie for movie in plan_world(5, Sizes.of(4, clips=400, one_scene=share)) if movie.kind == "kinetics"]
    alike = [clip for clip in clips if len(set(clip.events)) == 1]
    assert abs(len(alike) / 400 - share) < 4 * (share * (1 - share) / 400) ** 0.5 + 1e-9
    assert [clip for clip in clips if clip not in alike] == [
        movie for movie in usual if movie.kind == "kinetics" and movie.id not in {clip.id for clip in alike}
    ]
    with pytest.raises(KuleshovError, match="one_scene is a share of the clips, from 0 to 1, got 1.5"):
        Sizes.of(4, one_scene=1.5)


def test_the_look_of_a_clip_does_not_depend_on_its_verb():
    first, second = write_clip(0, 3, LOOKS, 5), write_clip(0, 3, LOOKS, 6)
    assert first.cast == second.cast
    assert [replace(event, verb=6) for event in first.events] == list(second.events)
