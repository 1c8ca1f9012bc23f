"""Work that is shared by processes."""

import math
import os

import pytest

from kuleshov.core.errors import KuleshovError
from kuleshov.core.processes import map_in_processes


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_any_number_of_processes_gives_the_same(workers: int):
    found = map_in_processes(math.pow, [(number, 2) for number in range(5)], workers, "unfinished")
    assert sorted(found) == [0, 1, 4, 9, 16]
    assert list(map_in_processes(math.pow, [], workers, "unfinished")) == []


def test_a_process_that_dies_is_an_error_in_one_line():
    with pytest.raises(KuleshovError, match="^the squares are not complete: run it again$"):
        list(map_in_processes(os._exit, [(1,), (1,)], 2, "the squares are not complete: run it again"))


def test_an_error_of_the_work_is_its_own():
    with pytest.raises(ValueError, match="math domain error"):
        list(map_in_processes(math.sqrt, [(-1,)], 1, "unfinished"))
