"""The three scorers over a tree: simple rivals, checks, human answers."""

import json

import pytest

from kuleshov.core.errors import FormatError, KuleshovError
from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.datasets.vidsitu_format import EVENTS
from kuleshov.metrics.vidsitu_scorers import RelationScorer, RoleScorer, VerbScorer

SEGMENTS = ["v_aaaaaaaaaaa_seg_0_10", "v_aaaaaaaaaaa_seg_10_20"]


def annotation(segment, relation, text):
    arguments = {"Arg0 (agent)": text, "ArgM (manner)": "fast"}
    found = {
        name: {"vid_seg_int": segment, "VerbID": "run.02", "Args": arguments, "EvRel": relation} for name in EVENTS
    }
    del found["Ev3"]["EvRel"]
    return found


@pytest.fixture
def data(tmp_path):
    """Two segments: the first with four annotators, the second with two."""
    given = [annotation(SEGMENTS[0], r, t) for r, t in zip("AABC", ("man", "boy", "man", "a man"), strict=True)]
    given += [annotation(SEGMENTS[1], "C", "man"), annotation(SEGMENTS[1], "C", "dog")]
    verbs = [
        {"vid_seg_int": s, "vbid_lst": dict.fromkeys(EVENTS, ["run.02"] * 5 + ["hop.01"] * 4 + ["fly.01"] * n)}
        for s, n in zip(SEGMENTS, (1, 0), strict=True)
    ]
    for name, value in (
        ("vseg_split_valid_lb.json", SEGMENTS),
        ("vsann_valid_lb.json", given),
        ("vinfo_valid_lb.json", verbs),
    ):
        (tmp_path / name).write_text(json.dumps(value))
    return VidSitu(tmp_path)


def test_trivial_answers_fit_each_segment(data):
    verbs, words = VerbScorer(data, "valid", SEGMENTS).trivial()
    assert verbs[1] == [["run.02", "hop.01", "fly.01"]] * 5
    assert words == "the most frequent verbs of valid: run.02, hop.01, fly.01"
    relations, words = RelationScorer(data, "valid", SEGMENTS).trivial()
    assert relations == {0: [["A"] * 3] * 4, 1: [["A"] * 2] * 4} and words.endswith("of valid: A")
    roles, _ = RoleScorer(data, "valid", SEGMENTS).trivial()
    assert roles[0] == {name: {"Arg0": "man"} for name in EVENTS}


def test_human_answers(data):
    scorer, answers = VerbScorer(data, "valid", SEGMENTS).human()
    assert answers == {0: [["fly.01"]] * 5} and scorer.official(answers)["Per_Ev_Top_1"] == 0.0
    _, answers = RelationScorer(data, "valid", SEGMENTS).human()
    assert answers == {0: [["C"] * 3] * 4}
    scorer, answers = RoleScorer(data, "valid", SEGMENTS).human()
    assert set(answers) == {0} and answers[0]["Ev1"]["AMnr"] == "fast"
    assert scorer.references[0].human[0].arguments["Arg0 (agent)"] == answers[0]["Ev1"]["Arg0"]


def test_unknown_names_are_misses_that_the_notes_name(data):
    scorer, known, unknown = VerbScorer(data, "valid", SEGMENTS), [["run.02", "<unk>"]] * 5, [["sit.01"]] * 5
    assert scorer.notes({0: known}) == []
    (note,) = scorer.notes({0: known, 1: unknown})
    assert "5 predicted verb(s)" in note and "'sit.01' (ann_idx 1, Ev1)" in note
    assert scorer.official({1: unknown})["Per_Ev_Top_5"] == 0.0
    many = {0: [[f"sit.{n:02d}"] for n in range(10, 15)], 1: [[f"sit.{n}"] for n in range(20, 25)]}
    assert "10 predicted verb(s)" in scorer.notes(many)[0] and scorer.notes(many)[0].endswith("and 5 more")
    relations = RelationScorer(data, "valid", SEGMENTS)
    relations.check({0: [["A", "NoRel", "Null"]] * 4, 1: [["C"] * 2] * 4})
    assert relations.notes({0: [["A", "NoRel", "Null"]] * 4}) == []
    (note,) = relations.notes({0: [["A", "A", "Z"]] * 4})
    assert "4 predicted relation(s)" in note and "'Z' (ann_idx 0, Ev1)" in note
    with pytest.raises(KuleshovError, match="ann_idx 1, Ev1: 3 labels, expected 2"):
        relations.check({1: [["C"] * 3] * 4})


def test_headline_figures_are_those_of_the_table(data):
    scorer = RoleScorer(data, "valid", SEGMENTS[:1])
    answers, _ = scorer.trivial()
    official = scorer.official(answers)
    table = scorer.table(official)
    assert table["CIDEr"] == 100 * official["cider"] and table["LEA-soft"] == 100 * official["lea_soft"]
    headline = scorer.headline(answers)
    assert set(headline) == {"CIDEr", "ROUGE-L", "LEA", "LEA-soft"}
    assert headline == {name: table[name] for name in headline}
    verbs = VerbScorer(data, "valid", SEGMENTS)
    answers, _ = verbs.trivial()
    assert verbs.headline(answers) == verbs.table(verbs.official(answers))


def test_segments_without_annotation_or_relation(data, tmp_path):
    other = [*SEGMENTS, "v_bbbbbbbbbbb_seg_0_10"]
    for scorer in (RoleScorer, RelationScorer):
        with pytest.raises(KuleshovError, match="segment v_bbbbbbbbbbb_seg_0_10 .*has no r"):
            scorer(data, "valid", other)
    with pytest.raises(KuleshovError, match=r"segment v_bbbbbbbbbbb_seg_0_10 \(valid 2\) has no verbs annotation"):
        VerbScorer(data, "valid", other).official({2: [[]] * 5})
    path = tmp_path / "vsann_valid_lb.json"
    given = json.loads(path.read_text())
    del given[0]["Ev4"]["EvRel"]
    path.write_text(json.dumps(given))
    with pytest.raises(FormatError, match=r"record v_aaaaaaaaaaa_seg_0_10, field Ev4.EvRel: the field is missing"):
        RelationScorer(VidSitu(tmp_path), "valid", SEGMENTS)
