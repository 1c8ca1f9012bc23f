import json
import math

import pytest

from kuleshov.report.columns import ColumnKey
from kuleshov.report.paper_values import paper_value
from kuleshov.report.render import as_json, difference
from kuleshov.report.tables import Source, build, compare, differences, estimate

from .conftest import VERBS, result

ACC = ColumnKey("verbs", "Acc@1", "valid")
HERE = Source("train-verbs-vidsitu-demo-33333333")


def of(*results, source: Source = HERE):
    return [(source, one) for one in results]


def test_estimate_is_the_textbook_formula():
    values = [1.0, 2.0, 4.0, 9.0]
    mean = sum(values) / 4
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 3)
    assert estimate(values) == pytest.approx((mean, deviation / 2))
    assert estimate([3.0]) == (3.0, None)


def test_rows_come_in_order_with_estimate():
    table = build(of(*reversed(VERBS)))
    assert list(table.rows) == ["trivial", "backbone", "scratch", "pretrained"]
    cell = table.rows["pretrained"][ACC]
    assert (cell.value, cell.error) == pytest.approx((41.0, 1 / math.sqrt(3)))
    assert cell.by_seed == {0: 40.0, 1: 41.0, 2: 42.0}
    assert table.rows["trivial"][ACC].error is None


def test_pretraining_that_helps_is_said_paired_over_seeds():
    noisy = {"scratch": [10.0, 30.0, 50.0], "pretrained": [13.0, 33.5, 53.0]}
    lines = [result("Acc@1", v, "verbs", row, seed) for row, vs in noisy.items() for seed, v in enumerate(vs)]
    table = build(of(*lines))
    (one,) = table.comparisons
    assert one.paired and one.clear and one.gain and one.seeds == 3
    assert one.difference == pytest.approx(19 / 6)
    assert table.notes == ["* a difference beyond two standard errors (paired over 3 seeds)"]
    assert differences(table)["pretrained - scratch"][ACC] == one
    assert difference(one) == "+3.17 ± 0.17*"


def test_without_common_seeds_the_errors_add_in_squares():
    lines = [result("Acc@1", v, "verbs", "scratch", s) for s, v in enumerate([10.0, 12.0])]
    lines += [result("Acc@1", v, "verbs", "pretrained", s) for s, v in zip((5, 6), (11.0, 13.0), strict=True)]
    (one,) = build(of(*lines)).comparisons
    assert not one.paired and not one.clear
    assert (one.difference, one.error) == pytest.approx((1.0, math.sqrt(2)))


def test_a_pretrained_row_is_compared_with_its_own_setting_else_with_the_plain_one():
    rows = ("scratch", "scratch-tuned", "pretrained", "pretrained-tuned", "pretrained-frozen")
    lines = [result("Top1-Acc", 40.0 + s, "relations", row, s) for row in rows for s in (0, 1)]
    found = {(one.better, one.base) for one in build(of(*lines)).comparisons}
    assert found == {("pretrained", "scratch"), ("pretrained-tuned", "scratch-tuned"), ("pretrained-frozen", "scratch")}


def test_rows_of_no_fixed_place_keep_their_order():
    rows = ("scratch-3e-5", "scratch-1e-4", "scratch-1e-5-sudden", "trivial")
    lines = [result("Mean-Acc", 25.0, "relations", row, 0) for row in rows]
    assert list(build(of(*lines)).rows) == ["trivial", *rows[:3]]


def test_a_lower_squared_error_is_the_gain():
    column = ColumnKey("view_count", "mse", "test")
    lines = [result("mse", v, "view_count", row, s, split="test") for row, v in (("scratch", 4.0), ("pretrained", 3.0))
             for s in range(2)]  # fmt: skip
    rows = build(of(*lines)).rows
    one = compare(column, "pretrained", rows["pretrained"][column], "scratch", rows["scratch"][column])
    assert one.difference == -1.0 and one.gain and one.clear


def test_other_samples_are_marked_and_named():
    other = result("Acc@1", 50.0, "verbs", "language", 0, n=200, sample_ids_sha256="f" * 64)
    table = build(of(*VERBS, other))
    assert table.rows["language"][ACC].mark == "†"
    assert {table.rows[row][ACC].mark for row in ("trivial", "scratch", "pretrained")} == {""}
    assert any(n.startswith("† Verbs Acc@1: over 200 of 240 samples (ids ffffffff)") for n in table.notes)


def test_a_seed_over_other_samples_is_left_out_of_the_mean():
    table = build(of(*VERBS, result("Acc@1", 99.0, "verbs", "pretrained", 3, n=200, sample_ids_sha256="f" * 64)))
    assert table.rows["pretrained"][ACC].value == 41.0
    assert any("1 results over other samples are left out" in note for note in table.notes)


def test_rows_over_other_samples_are_not_compared():
    lines = [result("Acc@1", 10.0, "verbs", "scratch", 0), result("Acc@1", 20.0, "verbs", "scratch", 1)]
    lines += [result("Acc@1", 40.0, "verbs", "pretrained", s, n=3, sample_ids_sha256="f" * 64) for s in (0, 1)]
    assert build(of(*lines)).comparisons == []


def test_a_row_that_does_not_beat_the_trivial_one_is_said():
    lines = [result("Acc@1", 39.0, "verbs", "trivial"), *VERBS[1:]]
    table = build(of(*lines))
    assert table.rows["scratch"][ACC].beats_trivial is False
    assert table.rows["pretrained"][ACC].beats_trivial is True
    assert any("not clearly better than the trivial row: backbone, scratch" in note for note in table.notes)


def test_runs_that_fill_the_same_row_are_told_apart():
    other = Source("train-verbs-vidsitu-demo-99999999")
    lines = of(*VERBS) + of(result("Acc@1", 60.0, "verbs", "pretrained", 0), source=other)
    rows = build(lines).rows
    assert f"pretrained [{other.name}]" in rows and f"pretrained [{HERE.name}]" in rows
    named = of(*VERBS, source=Source("a", "cvrl")) + of(*VERBS, source=Source("b", "modist"))
    table = build(named)
    assert {"pretrained · cvrl", "scratch · modist", "trivial"} <= set(table.rows)
    assert {(one.better, one.base) for one in table.comparisons} == {
        ("pretrained · cvrl", "scratch · cvrl"),
        ("pretrained · modist", "scratch · modist"),
    }


def test_headline_metrics_only_or_all():
    lines = of(*VERBS, result("Acc@5", 60.0, "verbs", "scratch", 0), result("top1", 30.0, "scene", "scratch", 0))
    assert [c.metric for c in build(lines).columns] == ["Acc@1", "top1"]
    assert [c.metric for c in build(lines, headline=False).columns] == ["Acc@1", "Acc@5", "top1"]


def test_a_repeated_seed_counts_once_and_is_said():
    table = build(of(*VERBS, result("Acc@1", 45.0, "verbs", "pretrained", 2)))
    assert table.rows["pretrained"][ACC].by_seed[2] == 45.0
    assert any("seed 2 has several values, the last one counts" in note for note in table.notes)


@pytest.mark.parametrize(
    ("where", "value", "error"),
    [
        (("verbs", "Acc@1", "backbone", "modist"), 42.96, None),
        (("relations", "Mean-Acc", "pretrained", "modist"), 35.32, 0.17),
        (("relations", "Top1-Acc", "scratch", "cvrl"), 39.42, 0.00),
        (("roles", "CIDEr", "pretrained", "cvrl", "lvu"), 61.18, 1.48),
        (("roles", "CIDEr", "pretrained", "cvrl", "vidsitu"), 60.34, 0.75),
        (("roles", "LEA", "human"), 72.10, None),
        (("scene", "top1", "pretrained"), 36.98, None),
        (("view_count", "mse", "ot-plus-plus"), 4.886, None),
        (("roles", "CIDEr", "supervised-scratch"), 51.36, 1.04),
        (("roles", "CIDEr", "pretrained-vidsitu"), 60.34, 0.75),
        (("relations", "Mean-Acc", "backbone"), 32.05, 0.24),
        (("relations", "Mean-Acc", "supervised-backbone"), 33.03, 0.21),
        (("relations", "Mean-Acc", "backbone-tuned"), 33.89, 0.17),
        (("relations", "Mean-Acc", "pretrained-tuned"), 34.71, 0.07),
        (("verbs", "Acc@1", "no-pretraining"), 31.69, None),
        (("verbs", "Acc@5", "modist"), 73.17, None),
    ],
)
def test_paper_values(where, value, error):
    found = paper_value(*where)
    assert (found.value, found.error) == (value, error)


def test_the_paper_prints_nothing_there():
    assert paper_value("verbs", "Acc@1", "pretrained") is None
    assert paper_value("verbs", "acc1_offscreen", "backbone") is None
    assert paper_value("roles", "CIDEr", "pretrained", "modist") is None
    assert paper_value("roles", "CIDEr", "pretrained-frozen") is None
    assert paper_value("relations", "Mean-Acc", "carried-tuned") is None


def test_a_training_that_diverged_shows_and_is_valid_json():
    table = build(of(*VERBS, result("Acc@1", math.nan, "verbs", "pretrained", 3)))
    assert math.isnan(table.rows["pretrained"][ACC].value)
    assert table.comparisons[0].seeds == 3
    found = json.loads(json.dumps(as_json(table), allow_nan=False))
    assert found["rows"]["pretrained"]["verbs/Acc@1/valid"]["value"] is None
