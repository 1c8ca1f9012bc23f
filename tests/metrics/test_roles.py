"""Role figures: choice of references, items, quirks, and what the official scorer refuses."""

import numpy as np
import pytest

from kuleshov.core.errors import KuleshovError
from kuleshov.datasets.vidsitu_format import VidSituEvent
from kuleshov.metrics.role_metrics import (
    References,
    as_prediction,
    choose_references,
    clusters_of,
    frequent_texts,
    role_items,
    score_roles,
)

NAMES = {"Arg0": "Arg0 (agent)", "Arg1": "Arg1 (thing)", "AScn": "Scene of the Event", "AMnr": "ArgM (manner)"}


def event(verb="look.01", **texts):
    arguments = {NAMES[role]: text for role, text in texts.items()}
    return VidSituEvent(verb, verb, arguments, tuple(arguments), None)


def annotation(man="a man", scene="a dark street"):
    return (
        event("push.01", Arg0=man, Arg1="the door", AScn=scene),
        event("run.02", Arg0=man, AScn=scene, AMnr="fast"),
        event("look.01", Arg0="a woman", Arg1=man),
        event("look.01", Arg0=man, Arg1="a woman"),
        event("run.02", Arg0=man),
    )


def references(*texts, segments=2):
    given = {f"s{i}": [annotation(text, f"{text} street {i}") for text in texts] for i in range(segments)}
    return choose_references(list(given), given)


def test_references_follow_the_legacy_permutation():
    given = {f"s{i}": [annotation(f"s{i} a{j}") for j in range(4 + i)] for i in range(3)}
    np.random.seed(5)
    for number, one in enumerate(choose_references(list(given), given)):
        order = np.random.permutation(4 + number)
        texts = [f"s{number} a{j}" for j in order]
        assert [a[0].arguments["Arg0 (agent)"] for a in one.annotations] == texts[:3]
        assert one.human[0].arguments["Arg0 (agent)"] == texts[3]
    assert choose_references(["s0"], {"s0": given["s0"][:3]})[0].human is None


def test_items_are_the_scored_roles_of_reference_zero():
    one = references("man", "boy", "cat", segments=1)
    items = role_items(one)
    assert [(item.event, item.role) for item in items][:5] == [
        ("Ev1", "Arg0"),
        ("Ev1", "Arg1"),
        ("Ev1", "AScn"),
        ("Ev2", "Arg0"),
        ("Ev2", "AScn"),
    ]
    assert len(items) == 10 and sorted(items[0].texts) == ["boy", "cat", "man"]


def test_perfect_predictions_beat_empty_ones():
    chosen = references("a tall man", "a tall man", "a tall man")
    perfect = score_roles([as_prediction(one.annotations[0]) for one in chosen], chosen)
    assert perfect["rouge"] == perfect["lea"] == pytest.approx(1.0)
    empty = score_roles([{f"Ev{i}": {} for i in range(1, 6)}] * 2, chosen)
    assert empty["cider"] == empty["lea"] == 0.0 < perfect["cider"]
    texts = score_roles([{f"Ev{i}": dict.fromkeys(NAMES, "") for i in range(1, 6)}] * 2, chosen)
    assert texts["lea"] > 0.002, "one cluster of empty texts still resolves links"


def test_verb_other_roles_and_segment_order_do_not_matter():
    chosen = references("man", "boy", "cat")
    predictions = [as_prediction(annotation("man", "street")), as_prediction(annotation("boy", "man street"))]
    figures = score_roles(predictions, chosen)
    more = [{e: roles | {"vb_id": "x", "AMnr": "slowly", "Arg5": "y"} for e, roles in p.items()} for p in predictions]
    assert score_roles(more, chosen) == pytest.approx(figures)
    assert score_roles(predictions[::-1], chosen[::-1]) == pytest.approx(figures)


def test_without_its_first_event_a_prediction_leaves_lea():
    chosen = references("man", "man", "man")
    perfect = as_prediction(chosen[0].annotations[0])
    figures = score_roles([perfect, {}], chosen)
    assert figures["lea"] == pytest.approx(1.0) and figures["cider"] > 0
    with pytest.raises(KuleshovError, match="segment s1: the prediction has no Ev2"):
        score_roles([perfect, {"Ev1": {}}], chosen)


def test_a_group_of_one_item_has_no_cider():
    chosen = references("man", "man", "man", segments=1)
    figures = score_roles([as_prediction(chosen[0].annotations[0])], chosen)
    assert figures["AScn_cider"] == pytest.approx(0.0)  # two items with the same references carry no weight
    assert figures["Arg0_cider"] > 0


def test_annotators_must_share_argument_names():
    lacking = (event("push.01", Arg0="man", AScn="street"), *annotation()[1:])
    given = {"s0": [annotation(), annotation(), lacking]}
    with pytest.raises(KuleshovError, match="segment s0, Ev1: annotators must share argument names, but 'Arg1"):
        score_roles([{}], choose_references(["s0"], given))
    # a role that only a later reference has: harmless until the prediction gives it too
    one = References("s0", [lacking, annotation(), annotation()], None)
    assert score_roles([as_prediction(lacking)], [one])["lea"] > 0
    with pytest.raises(KuleshovError, match="reference 1 has Ev1 Arg1 and reference 0 does not"):
        score_roles([as_prediction(annotation())], [one])


def test_what_cannot_be_scored_is_named():
    with pytest.raises(KuleshovError, match="segment s9 has no role annotation"):
        choose_references(["s9"], {})
    with pytest.raises(KuleshovError, match="no segment to score"):
        score_roles([], [])
    bare = tuple(event(AMnr="fast") for _ in range(5))
    with pytest.raises(KuleshovError, match="segment s0: reference 0 has none of the roles Arg0, Arg1, Arg2, ALoc"):
        score_roles([{}], choose_references(["s0"], {"s0": [bare]}))
    given = {"s0": [annotation()] * 3, "s1": [annotation()]}
    with pytest.raises(KuleshovError, match=r"segment s1 has 1 reference\(s\), the first segment 3"):
        score_roles([as_prediction(annotation())] * 2, choose_references(["s0", "s1"], given))


def test_frequent_texts_and_clusters():
    assert frequent_texts([annotation("man", "street"), annotation("man", "bar")]) == {
        "Arg0": "man",
        "Arg1": "a woman",
        "AScn": "bar",
    }
    assert clusters_of([("Ev1_Arg0", "a"), ("Ev1_Arg1", "b"), ("Ev2_Arg0", "a")]) == [
        ["Ev1_Arg0", "Ev2_Arg0"],
        ["Ev1_Arg1"],
    ]
