"""Relation figures: the majority mask, its ties, the macro mean."""

import pytest

from kuleshov.core.errors import KuleshovError
from kuleshov.metrics.relation_metrics import frequent_relation, masked_labels, score_relations

C, E, R, N = "Causes", "Enables", "Reaction To", "NoRel"


def segment(*events):
    """Four events of one label per annotator -> annotators of four labels."""
    return list(zip(*events, strict=True))


def test_only_majority_places_count():
    annotations = [segment((C, C, N), (C, E, R), (E, N, E), (N, N, N))]
    predictions = [[[C, N, C], [C, C, C], [E, E, N], [N, N, C]]]
    figures = score_relations(predictions, annotations)
    # event 1: places 0 and 1; event 2 is a tie; event 3: places 0 and 2; event 4: all places
    assert figures["Len"] == 7
    assert figures["Macro_Top_Dct"] == pytest.approx({C: 1 / 2, E: 1 / 2, N: 2 / 3})
    assert figures["Top_1"] == pytest.approx(4 / 7)
    assert figures["Macro_Top_1"] == pytest.approx((1 / 2 + 1 / 2 + 2 / 3) / 3)


def test_annotations_beyond_the_third_are_not_read():
    three = [segment((C, C, N), (C, C, C), (C, C, C), (C, C, C))]
    more = [[*three[0], (N,) * 4, (N,) * 4]]
    predictions = [[[C] * 3] * 4]
    assert score_relations(predictions, more) == score_relations(predictions, three)


def test_a_label_of_ties_only_is_left_out_and_named():
    annotations = [segment((R, C, N), (C, C, C), (C, C, C), (C, C, C))]
    figures = score_relations([[[C] * 3] * 4], annotations)
    assert figures["Macro_Top_Dct"] == {C: 1.0} and figures["Top_1"] == 1.0
    assert masked_labels(annotations) == [R]


def test_nothing_to_score():
    with pytest.raises(KuleshovError, match="no event has a relation that two annotators gave"):
        score_relations([[[C] * 3] * 4], [segment(*[(C, E, N)] * 4)])


def test_a_constant_answer_scores_one_class():
    annotations = [segment((C, C, C), (E, E, E), (R, R, R), (N, N, N)), segment(*[(N, N, C)] * 4)]
    assert frequent_relation(annotations) == N
    figures = score_relations([[[N] * 3] * 4] * 2, annotations)
    assert figures["Macro_Top_1"] == 0.25 and figures["Top_1"] == pytest.approx(11 / 20)


def test_order_of_segments_does_not_matter():
    annotations = [segment((C, C, C), (E, E, E), (R, R, R), (N, N, N)), segment(*[(N, N, C)] * 4)]
    predictions = [[[C] * 3] * 4, [[N, C, N]] * 4]
    assert score_relations(predictions, annotations) == score_relations(predictions[::-1], annotations[::-1])
