import numpy as np
import pytest

from kuleshov.tasks.lvu import spans
from kuleshov.tasks.lvu.spans import KEEP, MASK, OTHER, mask_tracks


def slow_ends(seconds, span):
    """Every second as an end, looked at one by one."""
    ends = []
    for end in range(min(seconds) + span - 1, max(seconds) + 1):
        if any(end - span < second <= end for second in seconds):
            ends.append(end)
    return ends or [max(seconds)]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (range(0, 60), [59]),
        (range(0, 63), [59, 60, 61, 62]),
        (range(5, 20), [19]),
        ([7], [7]),
        ([0, 1, 150], [59, 60, 150]),
    ],
)
def test_ends_of_hand_worked_movies(seconds, expected):
    assert spans.span_ends(np.array(seconds)).tolist() == expected


def test_ends_against_a_plain_loop():
    rng = np.random.default_rng(0)
    for _ in range(50):
        seconds = np.sort(rng.choice(120, size=rng.integers(1, 30), replace=False))
        assert spans.span_ends(seconds, 20).tolist() == slow_ends(seconds.tolist(), 20)


def test_tokens_are_taken_from_the_last_second_backwards():
    seconds = np.array([0, 0, 1, 59, 59, 60])
    assert spans.tokens_inside(seconds, 59).tolist() == [3, 4, 2, 0, 1]
    assert spans.tokens_inside(seconds, 60).tolist() == [5, 3, 4, 2]
    assert spans.tokens_inside(seconds, 60, limit=2).tolist() == [5, 3]
    assert spans.tokens_inside(seconds, 200).tolist() == []


def test_four_hundred_boxes_leave_the_earliest_seconds_out():
    seconds = np.repeat(np.arange(50), 8)
    kept = spans.tokens_inside(seconds, 49, limit=254)
    assert len(kept) == 254
    # 31 whole seconds from the end and six boxes of the one before
    assert sorted(set(seconds[kept].tolist())) == list(range(18, 50))
    assert (seconds[kept] == 18).sum() == 6 and kept[-6:].tolist() == list(range(144, 150))


def test_time_ids_of_a_hand_worked_span():
    # seconds 10, 13 and a gap to 30; center (10 + 30) // 2 = 20; 258 // 2 = 129
    ids = spans.time_ids(np.array([30, 13, 10]), 10, 30, 258)
    assert ids.tolist() == [[24, 4, 143], [7, 21, 126], [4, 24, 123]]
    assert spans.time_ids(np.array([7]), 7, 7, 258).tolist() == [[4, 4, 133]]


def test_shot_ids_follow_the_token_nearest_to_the_center():
    seconds, shots = np.array([30, 22, 18, 10]), np.array([9, 7, 6, 5])
    # 22 and 18 are equally near to 20: the later in the order, shot 6, is the center
    ids = spans.shot_ids(shots, seconds, 20, 258)
    assert ids.tolist() == [[8, 4, 136], [6, 6, 134], [5, 7, 133], [4, 8, 132]]
    assert spans.shot_ids(np.zeros(0), np.zeros(0), 0, 258).shape == (0, 3)


def test_ids_never_leave_the_table():
    ids = spans.time_ids(np.array([0, 500]), 0, 500, 258)
    assert ids.max() == 257 and ids.min() >= spans.FIRST


def test_track_ids_are_a_permutation_or_the_order_of_appearance():
    tracks = np.array([40, 7, 40, 99, 7])
    assert spans.track_ids(tracks, None).tolist() == [4, 5, 4, 6, 5]
    drawn = {tuple(spans.track_ids(tracks, np.random.default_rng(seed))) for seed in range(40)}
    assert len(drawn) == 6
    for ids in drawn:
        assert ids[0] == ids[2] and ids[1] == ids[4] and sorted(set(ids)) == [4, 5, 6]


def test_boxes_move_by_a_fifth_of_their_size_at_most():
    boxes = np.tile(np.array([[0.2, 0.2, 0.4, 0.8]], dtype=np.float32), (500, 1))
    moved = spans.jitter_boxes(boxes, np.random.default_rng(0)) - boxes
    assert np.abs(moved[:, [0, 2]]).max() <= 0.04 + 1e-6 and np.abs(moved[:, [1, 3]]).max() <= 0.12 + 1e-6
    assert np.abs(moved[:, [1, 3]]).max() > 0.11
    np.testing.assert_allclose(spans.with_area(boxes)[0], [0.2, 0.2, 0.4, 0.8, 0.12], atol=1e-6)


def draw(tracks, count, **options):
    return [mask_tracks(tracks, np.random.default_rng(seed), **options) for seed in range(count)]


def test_whole_tracks_are_masked_and_at_least_one():
    tracks = np.array([1, 1, 2, 3, 3, 3, 4, 5])
    for chosen, action, other in draw(tracks, 300):
        assert chosen.any()
        for track in range(1, 6):
            assert len(set(chosen[tracks == track].tolist())) == 1
        assert (action[~chosen] == KEEP).all()
        assert (action[other[action == OTHER]] != MASK).all()


@pytest.mark.parametrize(("draws", "masked", "kept"), [(1, 0.8, 0.1), (2, 0.88, 0.01)])
def test_the_laws_of_masking(draws, masked, kept):
    drawn = draw(np.arange(40), 2500, draws=draws)
    chosen, action = np.stack([one[0] for one in drawn]), np.stack([one[1] for one in drawn])
    # 15 % of the tracks; with 40 tracks the redraw of empty choices matters in 0.15 % of the cases
    assert chosen.mean() == pytest.approx(0.15 / (1 - 0.85**40), abs=0.005)
    assert (action[chosen] == MASK).mean() == pytest.approx(masked, abs=0.01)
    assert (action[chosen] == KEEP).mean() == pytest.approx(kept, abs=0.01)


def test_one_box_is_always_chosen_and_none_is_no_error():
    assert all(chosen.all() for chosen, _, _ in draw(np.array([3]), 20))
    assert len(mask_tracks(np.zeros(0, dtype=int), np.random.default_rng(0))[0]) == 0
    assert not any(part.any() for part in mask_tracks(np.arange(1), None))
