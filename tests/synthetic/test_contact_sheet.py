"""The contact sheet is drawn, and says what is missing."""

import cv2
import pytest

from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.synthetic import gallery


def test_draws_the_rows_that_were_asked_for(tiny_world, tmp_path):
    assert gallery(tiny_world, tmp_path / "sheet.png", rows=1) == 1
    picture = cv2.imread(str(tmp_path / "sheet.png"))
    assert picture.shape[1] > 1000 and picture.std() > 20


def test_names_a_world_that_is_not_there(tmp_path):
    with pytest.raises(MissingDataError, match="not found"):
        gallery(tmp_path, tmp_path / "sheet.png")


def test_refuses_no_rows(tiny_world, tmp_path):
    with pytest.raises(KuleshovError, match="nothing to draw: 0 rows"):
        gallery(tiny_world, tmp_path / "sheet.png", rows=0)
