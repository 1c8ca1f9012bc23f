import math

import pytest

from kuleshov.core.results import Result
from kuleshov.datasets.lvu import TASKS
from kuleshov.tasks.lvu.table_five import table_five

PRINTED = {
    "instances": (50.00, 34.57, 32.56, 37.38, 26.55, 25.73, 49.55, 0.396, 4.559),
    "scene-backbone": (52.38, 34.37, 26.51, 23.18, 5.36, 18.88, 47.37, 0.595, 4.061),
    "ot++-pretrained": (50.95, 34.07, 44.19, 40.19, 31.43, 29.65, 51.15, 0.353, 4.886),
}
TRIVIAL = (52.38, 26.87, 26.74, 41.12, 5.36, 8.39, 21.17, 0.6056, 4.0895)


def line(row, task, value, metric=None, seed=0, ids="x", split="test"):
    metric = metric or TASKS[task].metric
    return Result(metric, value, task, split, 40, 42, ids, seed=seed, row=row, code_version="v")


def lines(rows):
    return [line(row, task, value) for row, values in rows.items() for task, value in zip(TASKS, values, strict=True)]


def test_rows_are_ranked_and_compared_with_the_trivial_row():
    table = table_five(lines({**PRINTED, "trivial": TRIVIAL}))
    assert set(table.standings) == set(PRINTED)
    assert table.standings["ot++-pretrained"].top1 == 6
    assert table.standings["scene-backbone"].ranks["view_count"] == 1
    assert "relationship: row scene-backbone (52.38) does not beat the trivial row (52.38)" in table.warnings
    assert "view_count: row ot++-pretrained (4.886) does not beat the trivial row (4.09)" in table.warnings
    assert not [said for said in table.warnings if said.startswith(("genre", "like_ratio"))]
    assert table.cells["instances"]["genre"].beats_trivial


def test_seeds_are_averaged_with_their_error_and_interval():
    made = [line("a", "genre", value, seed=seed) for seed, value in enumerate((40.0, 44.0))]
    made += [line("a", "genre", low, "top1_low95", seed) for seed, low in enumerate((30.0, 32.0))]
    made += [line("a", "genre", 99.0, split="val"), line("a", "verbs-like", 1.0, "top1")]
    cell = table_five(made).cells["a"]["genre"]
    assert (cell.mean, cell.standard_error, cell.seeds, cell.n, cell.of, cell.low) == (42.0, 2.0, 2, 40, 42, 31.0)
    assert math.isnan(cell.high) and not cell.beats_trivial


def test_a_row_with_a_gap_is_not_ranked_and_different_movies_are_told():
    table = table_five([line("a", "genre", 1.0), line("a", "scene", 1.0), line("b", "genre", 2.0, ids="y")])
    assert set(table.standings) == {"a"}
    assert table.warnings == ["genre: the rows were scored on 2 different sets of movies"]
    assert table_five([]).standings == {}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_its_direction(name):
    up = TASKS[name].higher_is_better
    table = table_five([line("a", name, 1.0), line("b", name, 2.0)])
    assert table.standings["b" if up else "a"].top1 == 1
