import json
import math

import pytest

from kuleshov.datasets.lvu import LVU_TASKS
from kuleshov.metrics.paper_values import PAPER_TABLES, paper_value
from kuleshov.report.columns import ResultColumn
from kuleshov.report.lineage import ResultSource
from kuleshov.report.results_table import build_table, by_world
from kuleshov.report.table_view import as_text, shown_columns

from .conftest import VERBS, result

ACC = ResultColumn("verbs", "Acc@1", "valid")
HERE = ResultSource("train-verbs-vidsitu-demo-33333333")


def of(*results, source: ResultSource = HERE):
    return [(source, one) for one in results]


def movies(rows: dict[str, tuple[float, ...]], seed: int | None = 0):
    """Lines of LVU's tasks: row -> a value a task."""
    return of(
        *(
            result(
                LVU_TASKS[task].metric, value, task, row, None if row == "trivial" else seed, split="test", n=78, of=80
            )
            for row, values in rows.items()
            for task, value in zip(LVU_TASKS, values, strict=False)
        )
    )


def test_rows_come_in_order_with_the_textbook_estimate():
    table = build_table(of(*reversed(VERBS)))
    assert list(table.rows) == ["trivial", "backbone", "scratch", "pretrained"]
    cell = table.rows["pretrained"][ACC]
    deviation = math.sqrt(sum((v - 41.0) ** 2 for v in (40.0, 41.0, 42.0)) / 2)
    assert (cell.value, cell.error) == pytest.approx((41.0, deviation / math.sqrt(3)))
    assert cell.seeds == {0: 40.0, 1: 41.0, 2: 42.0}
    assert table.rows["trivial"][ACC].error is None


def test_rows_of_no_fixed_place_keep_their_order():
    rows = ("scratch-3e-5", "scratch-1e-4", "scratch-1e-5-sudden", "trivial")
    lines = [result("Mean-Acc", 25.0, "relations", row, 0) for row in rows]
    assert list(build_table(of(*lines)).rows) == ["trivial", *rows[:3]]


def test_a_difference_is_paired_over_the_seeds_that_both_rows_have():
    noisy = {"scratch": [10.0, 30.0, 50.0], "pretrained": [13.0, 33.5, 53.0, 99.0]}
    lines = [result("Acc@1", v, "verbs", row, seed) for row, vs in noisy.items() for seed, v in enumerate(vs)]
    table = build_table(of(*lines))
    (one,) = table.comparisons
    assert one.clear and one.gain and one.seeds == 3 and one.difference == pytest.approx(19 / 6)
    assert any("paired over 3 seeds" in note for note in table.notes)
    assert table.differences()["pretrained - scratch"][ACC] == one
    assert shown_columns(table)[0].fields["pretrained - scratch"].text == "+3.17 ± 0.17*"


def test_over_worlds_the_seeds_of_each_are_one_value():
    values = {7: {"scratch": [10.0, 14.0], "pretrained": [20.0]}, 8: {"scratch": [11.0], "pretrained": [23.0, 27.0]}}
    lines = []
    for world, rows in values.items():
        source = ResultSource(f"train-verbs-vidsitu-demo-{world:08d}", "", world)
        seeded = [(row, seed, value) for row, several in rows.items() for seed, value in enumerate(several)]
        for row, seed, value in [("trivial", None, 5.0), *seeded]:
            changes = {"n": 230 + world, "sample_ids_sha256": f"of world {world}"}
            lines.append((source, result("Acc@1", value, "verbs", row, seed, **changes)))
    table = build_table(by_world(lines), over="worlds")
    assert list(table.rows) == ["trivial", "scratch", "pretrained"]
    # world means 12 and 11, 20 and 25; a world's difference is that of its means
    cells = {row: (table.rows[row][ACC].value, table.rows[row][ACC].error) for row in table.rows}
    assert cells == {"trivial": (5.0, 0.0), "scratch": (11.5, 0.5), "pretrained": (22.5, 2.5)}
    assert table.rows["scratch"][ACC].seeds == {7: 12.0, 8: 11.0}
    assert table.samples[ACC].n == 475 and table.samples[ACC].of == 480
    (one,) = table.comparisons
    assert (one.difference, one.error) == pytest.approx((11.0, 3.0)) and one.seeds == 2 and one.clear
    assert "over worlds" in as_text(table) and any("paired over 2 worlds" in note for note in table.notes)


def test_a_row_that_a_world_lacks_is_over_other_samples():
    sources = [ResultSource(f"train-verbs-vidsitu-demo-{world:08d}", "", world) for world in (1, 2)]
    own = {"sample_ids_sha256": "x"}
    lines = [(source, result("Acc@1", 3.0, "verbs", "scratch", 0, **own)) for source in sources]
    lines.append((sources[0], result("Acc@1", 4.0, "verbs", "pretrained", 0, **own)))
    table = build_table(by_world(lines), over="worlds")
    assert table.rows["pretrained"][ACC].mark and not table.comparisons


def test_rows_are_compared_with_their_own_setting_else_with_the_plain_one():
    rows = ("scratch", "scratch-tuned", "pretrained", "pretrained-tuned", "pretrained-frozen", "carried-tuned")
    rows += ("scene-backbone", "scene-pretrained", "ot++-pretrained")
    lines = [result("Top1-Acc", 40.0 + s, "relations", row, s) for row in rows for s in (0, 1)]
    found = {(one.better, one.base) for one in build_table(of(*lines)).comparisons}
    pairs = {("pretrained", "scratch"), ("pretrained-tuned", "scratch-tuned"), ("pretrained-frozen", "scratch")}
    assert found == pairs | {("scene-pretrained", "scene-backbone")}


@pytest.mark.parametrize("changes", [{"n": 3, "sample_ids_sha256": "f" * 64}, {"seed": 7}])
def test_rows_over_other_samples_or_seeds_are_not_compared(changes):
    lines = [result("Acc@1", 10.0, "verbs", "scratch", 0)]
    lines += [result("Acc@1", 40.0, "verbs", "pretrained", **{"seed": 0, **changes})]
    assert build_table(of(*lines)).comparisons == []


def test_a_lower_squared_error_is_the_gain():
    rows = (("trivial", 4.5), ("scratch", 4.0), ("pretrained", 3.0))
    lines = [result("mse", v, "view_count", row, s, split="test") for row, v in rows for s in range(2)]
    table = build_table(of(*lines))
    (one,) = table.comparisons
    assert one.difference == -1.0 and one.gain and one.clear
    assert table.rows["scratch"][one.column].beats_trivial
    assert shown_columns(table)[0].fields["scratch"].text == "4.000 ± 0.000"


def test_other_samples_are_marked_and_named():
    other = result("Acc@1", 50.0, "verbs", "language", 0, n=200, sample_ids_sha256="f" * 64)
    table = build_table(of(*VERBS, other))
    assert table.rows["language"][ACC].mark == "†"
    assert {table.rows[row][ACC].mark for row in ("trivial", "scratch", "pretrained")} == {""}
    assert any(note.startswith("† ") and "200 of 240" in note and "ffffffff" in note for note in table.notes)


def test_a_seed_over_other_samples_is_left_out_of_the_mean():
    table = build_table(of(*VERBS, result("Acc@1", 99.0, "verbs", "pretrained", 3, n=200, sample_ids_sha256="f" * 64)))
    assert table.rows["pretrained"][ACC].value == 41.0
    assert any("1 results over other samples" in note for note in table.notes)


def test_a_row_that_does_not_beat_the_trivial_one_is_named():
    table = build_table(of(result("Acc@1", 39.0, "verbs", "trivial"), *VERBS[1:]))
    assert table.rows["scratch"][ACC].beats_trivial is False
    assert table.rows["pretrained"][ACC].beats_trivial is True
    assert any("trivial row: backbone, scratch" in note for note in table.notes)
    assert shown_columns(table)[0].fields["scratch"].style == "weak"


def test_runs_that_fill_the_same_row_are_told_apart():
    other = ResultSource("train-verbs-vidsitu-demo-99999999")
    rows = build_table(of(*VERBS) + of(result("Acc@1", 60.0, "verbs", "pretrained", 0), source=other)).rows
    assert f"pretrained [{other.name}]" in rows and f"pretrained [{HERE.name}]" in rows
    named = of(*VERBS, source=ResultSource("a", "cvrl")) + of(*VERBS, source=ResultSource("b", "modist"))
    table = build_table(named)
    assert {"pretrained · cvrl", "scratch · modist", "trivial"} <= set(table.rows)
    pairs = {(f"pretrained · {name}", f"scratch · {name}") for name in ("cvrl", "modist")}
    assert {(one.better, one.base) for one in table.comparisons} == pairs


def test_headline_metrics_only_or_all():
    lines = [*VERBS, result("Acc@5", 60.0, "verbs", "scratch", 0), result("top1", 30.0, "scene", "scratch", 0)]
    lines += [result("f1", 30.0, "boundaries", "scratch", 0), result("knn_top1", 9.0, "probe", "cvrl", 0)]
    assert [c.metric for c in build_table(of(*lines)).columns] == ["Acc@1", "top1", "f1"]
    assert len(build_table(of(*lines), all_metrics=True).columns) == 5
    assert [c.metric for c in build_table(of(lines[-1])).columns] == ["knn_top1"]


def test_a_repeated_seed_counts_once_and_is_named():
    table = build_table(of(*VERBS, result("Acc@1", 45.0, "verbs", "pretrained", 2)))
    assert table.rows["pretrained"][ACC].seeds[2] == 45.0
    assert any("seed 2 has several values" in note for note in table.notes)


def test_a_training_that_diverged_shows_and_is_valid_json():
    table = build_table(of(*VERBS, result("Acc@1", math.nan, "verbs", "pretrained", 3)))
    assert math.isnan(table.rows["pretrained"][ACC].value) and table.comparisons[0].seeds == 3
    found = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    cell = found["rows"]["pretrained"]["verbs/Acc@1/valid"]
    assert cell["value"] is None and cell["seeds"]["2"] == 42.0


PAPER_ROWS = {
    "instances": "OT, no scene",
    "scene-backbone": "no instances, Sup",
    "scene-pretrained": "no instances, Ours",
    "ot++-pretrained": "OT, Ours",
}


def printed(row: str) -> tuple[float, ...]:
    return tuple(cell.value for cell in PAPER_TABLES[5][PAPER_ROWS[row]].values())


def test_movie_tasks_are_ranked_where_they_are_complete():
    whole = {row: printed(row) for row in PAPER_ROWS}
    table = build_table(movies({**whole, "trivial": printed("instances"), "scene-scratch": (1.0, 2.0)}))
    assert list(table.ranks) == list(PAPER_ROWS)
    assert [one.top1 for one in table.ranks.values()] == [1, 2, 3, 4]
    shown = {column.metric: column.fields for column in shown_columns(table)[-2:]}
    assert shown["#top-1"]["ot++-pretrained"].text == "4" and "scene-scratch" not in shown["mean rank"]
    assert table.to_dict()["ranks"]["ot++-pretrained"]["top1"] == 4
    assert build_table(movies({row: values[:8] for row, values in whole.items()})).ranks == {}


def test_mean_ranks_have_an_error_over_seeds_and_a_paired_difference():
    up = [1.0 if task.higher_is_better else -1.0 for task in LVU_TASKS.values()]
    # seeds 0 and 1: the better row leads on all nine tasks; seed 2: on six
    leads = {0: 9, 1: 9, 2: 6}
    lines = []
    for seed, led in leads.items():
        better = [sign * (2.0 if place < led else -2.0) for place, sign in enumerate(up)]
        lines += movies({"instances": (0.0,) * 9, "ot++-pretrained": better}, seed)
    table = build_table(lines)
    assert table.ranks["ot++-pretrained"].by_seed == pytest.approx({0: 1.0, 1: 1.0, 2: 12 / 9})
    assert table.ranks["instances"].by_seed == pytest.approx({0: 2.0, 1: 2.0, 2: 15 / 9})
    fields = shown_columns(table)[-1].fields
    # of the means: 2/3 of 2 and 1/3 of -2 on the three tasks, so that the better row leads on all nine
    assert fields["ot++-pretrained"].text == "1.00 ± 0.11" and fields["instances"].text == "2.00 ± 0.11"
    gap = fields["ot++-pretrained - instances"]
    assert (gap.text, gap.style) == ("-0.78 ± 0.22*", "gain")


@pytest.mark.parametrize("name", LVU_TASKS)
def test_every_movie_task_has_its_direction(name):
    rows = {row: tuple(value if task == name else 0.0 for task in LVU_TASKS) for row, value in (("a", 1.0), ("b", 2.0))}
    ranks = build_table(movies(rows)).ranks
    assert ranks["b" if LVU_TASKS[name].higher_is_better else "a"].top1 == 9


def test_nine_movie_tasks_fit_a_terminal_in_several_blocks(monkeypatch):
    lines = [line for seed in range(2) for line in movies({row: printed(row) for row in PAPER_ROWS}, seed)]
    table = build_table(lines)
    wide = as_text(table)
    monkeypatch.setattr("kuleshov.report.table_view.PLAIN_WIDTH", 100)
    narrow = as_text(table)
    assert max(map(len, narrow.splitlines())) <= 100 < max(map(len, wide.splitlines()))
    assert narrow.count("OT++") > wide.count("OT++") and "test, n 78 of 80" in narrow


def origin(backbone: str, txe: str | None = None, instances: str | None = None) -> dict[str, str]:
    given = {"backbone": backbone, "txe": txe, "instances": instances}
    return {name: value for name, value in given.items() if value is not None}


CVRL, SUPERVISED = "slow_d_r50 cvrl-k400", "slow_d_r50 supervised-k400"
CVRL_VS, MODIST_VS = (f"slow_d_r50 {method}-k400 {method}-vidsitu" for method in ("cvrl", "modist"))
LVU = "masked-event lvu"
I3D = "i3d_nl_r50 supervised-k400 verbs-vidsitu"


@pytest.mark.parametrize(
    ("where", "made", "value", "error"),
    [
        (("verbs", "Acc@1", "modist"), origin("slow_d_r50 modist-k400 verbs-vidsitu"), 42.96, None),
        (("verbs", "Acc@1", "no-pretraining"), origin("slow_d_r50 verbs-vidsitu"), 31.69, None),
        (("verbs", "Acc@5", "any name"), origin(f"{MODIST_VS} verbs-vidsitu"), 74.38, None),
        (("verbs", "Recall@5", "slow"), origin("slow_r50 supervised-k400 verbs-vidsitu"), 19.19, None),
        (("roles", "CIDEr", "pretrained"), origin(CVRL, LVU), 61.18, 1.48),
        (("roles", "CIDEr", "pretrained"), origin(CVRL, "masked-event vidsitu"), 60.34, 0.75),
        (("roles", "CIDEr", "pretrained"), origin(CVRL, "masked-event k400"), 57.48, 1.74),
        (("roles", "LEA", "x"), origin("slow_d_r50 cvrl-vidsitu", "masked-event vidsitu"), 48.87, 0.62),
        (("roles", "CIDEr", "any name"), origin(CVRL, f"{LVU} mask_sizes=1,2"), 59.15, 2.01),
        (("roles", "CIDEr-arg", "mask-123"), origin(CVRL, LVU), 55.00, 1.12),
        (("roles", "CIDEr-arg", "pretrained"), origin(CVRL, LVU), 54.99, 1.12),
        (("roles", "LEA", "x"), origin(CVRL, f"{LVU} sampling=max_discrepancy"), 48.25, 0.54),
        (("roles", "LEA", "human"), {}, 72.10, None),
        (("roles", "CIDEr", "gpt2"), origin("none", "none"), 34.67, None),
        (("roles", "CIDEr", "backbone"), origin(SUPERVISED, "none"), 51.37, 1.06),
        (("roles", "CIDEr", "scratch"), origin(SUPERVISED, "scratch"), 51.36, 1.04),
        (("roles", "CIDEr", "i3d-scratch"), origin(I3D, "scratch"), 47.06, None),
        (("relations", "Mean-Acc", "i3d-tuned"), origin(I3D, "none"), 34.13, None),
        (("relations", "Mean-Acc", "backbone"), origin(CVRL_VS, "none"), 32.05, 0.24),
        (("relations", "Mean-Acc", "backbone"), origin(SUPERVISED, "none"), 33.03, 0.21),
        (("relations", "Mean-Acc", "x"), origin("slow_d_r50 verbs-vidsitu", "none"), 30.66, 0.21),
        (("relations", "Mean-Acc", "x"), origin(f"{CVRL_VS} verbs-vidsitu", "none"), 33.89, 0.17),
        (("relations", "Mean-Acc", "x"), origin(f"{MODIST_VS} verbs-vidsitu", LVU), 35.32, 0.17),
        (("relations", "Top1-Acc", "x"), origin(f"{MODIST_VS} verbs-vidsitu", "scratch"), 39.42, 0.0),
        (("scene", "top1", "scene-pretrained"), origin(CVRL, LVU, "none"), 36.98, None),
        (("scene", "top1", "scene-backbone"), origin(SUPERVISED, "none", "none"), 26.51, None),
        (("genre", "top1", "instances"), origin("none", "none", f"{SUPERVISED} masked-instances"), 49.55, None),
        (("genre", "top1", "instances-modist"), origin("none", "none", "slow_d_r50 modist-k400"), 49.26, None),
        (("view_count", "mse", "ot++"), origin(CVRL, LVU, f"{SUPERVISED} masked-instances"), 4.886, None),
    ],
)
def test_paper_values(where, made, value, error):
    found = paper_value(*where, made)
    assert (found.value, found.error) == (value, error)


@pytest.mark.parametrize(
    ("where", "made"),
    [
        # a head on frozen features is none of Table 4's backbones
        (("verbs", "Acc@1", "pretrained"), origin(CVRL, LVU)),
        (("verbs", "Acc@1", "backbone"), origin(CVRL, "none")),
        (("verbs", "Acc@1", "cvrl"), origin("slow_d_r50 unknown verbs-vidsitu")),
        (("verbs", "Acc@1", "cvrl"), origin("slow_d_r50 cvrl-folder verbs-vidsitu")),
        (("roles", "CIDEr", "language"), origin("none", "none")),
        (("roles", "CIDEr", "backbone"), origin(CVRL, "none")),
        (("roles", "CIDEr", "pretrained"), origin("slow_d_r50 modist-k400", LVU)),
        (("roles", "CIDEr", "pretrained"), origin(CVRL, "masked-event folder")),
        (("roles", "CIDEr", "mask-123"), origin(SUPERVISED, LVU)),
        (("roles", "CIDEr", "sinusoidal"), origin(CVRL, f"{LVU} positions=sinusoidal")),
        (("roles", "CIDEr", "pretrained"), origin(CVRL, f"{LVU} loss=l2 positions=sinusoidal")),
        (("roles", "CIDEr", "pretrained"), origin(CVRL, "masked-event vidsitu loss=l2")),
        (("roles", "CIDEr", "i3d-scratch"), origin("i3d_nl_r50 supervised-k400", "scratch")),
        # TxE stands on tuned backbones in Table 3, and CVRL's there went on with VidSitu
        (("relations", "Mean-Acc", "pretrained"), origin(CVRL_VS, LVU)),
        (("relations", "Mean-Acc", "backbone"), origin(CVRL, "none")),
        (("scene", "top1", "pretrained"), origin(CVRL, LVU)),
        (("scene", "top1", "scene-backbone"), origin(CVRL, "none", "none")),
        (("genre", "balanced_top1", "scene-pretrained"), origin(CVRL, LVU, "none")),
        (("boundaries", "f1", "scratch"), origin(CVRL, "scratch")),
        (("roles", "CIDEr", "pretrained"), {}),
    ],
)
def test_the_paper_prints_nothing_there(where, made):
    assert paper_value(*where, made) is None
