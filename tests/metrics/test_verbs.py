"""Verb figures against a slow version of their definition."""

import random

import pytest

from kuleshov.metrics.verb_metrics import COLUMNS, frequent_verbs, score_verbs

VERBS = ["look.01", "walk.01", "run.02", "hit.01", "open.01", "talk.01", "fall.01"]


def random_segments(seed, segments=12):
    rng = random.Random(seed)
    annotations = [[rng.choices(VERBS, k=rng.randint(9, 13)) for _ in range(5)] for _ in range(segments)]
    predictions = [[rng.choices(VERBS, k=rng.randint(0, 7)) for _ in range(5)] for _ in range(segments)]
    return predictions, annotations


def slow_recall(predictions, annotations, threshold):
    values = []
    for verb in VERBS:
        asked = [
            verb in predicted[:5]
            for events, given in zip(predictions, annotations, strict=True)
            for predicted, annotated in zip(events, given, strict=True)
            if annotated[:10].count(verb) >= 2
        ]
        if len(asked) > threshold:
            values.append(sum(asked) / len(asked))
    return sum(values) / len(values) if values else 0.0, len(values)


@pytest.mark.parametrize("seed", range(5))
def test_against_the_definition(seed):
    predictions, annotations = random_segments(seed)
    figures = score_verbs(predictions, annotations)
    for k in range(1, 6):
        hits = [
            [bool(set(p[:k]) & set(a[:10])) for p, a in zip(events, given, strict=True)]
            for events, given in zip(predictions, annotations, strict=True)
        ]
        assert figures[f"Per_Ev_Top_{k}"] == pytest.approx(sum(map(sum, hits)) / 60)
        assert figures[f"Per_Vid_Top_{k}"] == pytest.approx(sum(map(all, hits)) / 12)
    for threshold in range(10):
        recall, number = slow_recall(predictions, annotations, threshold)
        assert figures[f"recall_macro_1_th_{threshold}"] == pytest.approx(recall)
        assert figures[f"num_vbs_thresh_{threshold}"] == number
    assert figures["acc"] == figures["Per_Ev_Top_5"] and len(figures) == 31


def test_perfect_and_empty_predictions():
    annotations = [[["look.01"] * 10] * 5] * 3
    perfect, empty = (score_verbs([[answer] * 5] * 3, annotations) for answer in (["look.01"], []))
    assert [perfect[name] for name in COLUMNS.values()] == [1.0] * 3
    assert [empty[name] for name in COLUMNS.values()] == [0.0] * 3


def test_order_does_not_matter():
    predictions, annotations = random_segments(0)
    both = list(zip(predictions, annotations, strict=True))
    random.Random(1).shuffle(both)
    assert score_verbs(*zip(*both, strict=True)) == pytest.approx(score_verbs(predictions, annotations))


def test_only_ten_annotators_and_the_most_frequent():
    annotations = [[["run.02"] * 10 + ["look.01"] * 90] * 5]
    assert score_verbs([[["look.01"]] * 5], annotations)["Per_Ev_Top_1"] == 0.0
    assert frequent_verbs(annotations) == ["run.02"]
    assert frequent_verbs([[["b.01", "a.01"], ["c.01", "c.01"]]], 2) == ["c.01", "a.01"]


def test_always_look_on_the_real_valid_set(real_data):
    from kuleshov.datasets.vidsitu import VidSitu

    annotations = list(VidSitu(real_data / "vidsitu").verbs("valid").values())
    figures = score_verbs([[["look.01"]] * 5] * 1324, annotations)
    assert 100 * figures["Per_Ev_Top_1"] == pytest.approx(35.0151, abs=1e-4)
    assert figures["num_vbs_thresh_9"] == 172
