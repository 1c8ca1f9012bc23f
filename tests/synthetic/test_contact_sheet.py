"""The contact sheet is drawn, and says what is missing."""

import cv2
import pytest

from kuleshov.core.errors import KuleshovError, MissingDataError
from kuleshov.synthetic.contact_sheet import gallery


def test_draws_the_rows_that_were_asked_for(tiny_world, tmp_path):
    heights = []
    for rows in (1, 3):
        picture = cv2.imread(str(gallery(tiny_world, tmp_path / "sheet.png", rows=rows)))
        assert picture.shape[1] > 1000 and picture.std() > 20
        heights.append(picture.shape[0])
    assert heights[1] > 2 * heights[0]


def test_names_a_world_that_is_not_there(tmp_path):
    with pytest.raises(MissingDataError, match="not found"):
        gallery(tmp_path, tmp_path / "sheet.png")


def test_refuses_no_rows(tiny_world, tmp_path):
    with pytest.raises(KuleshovError, match="nothing to draw: 0 rows"):
        gallery(tiny_world, tmp_path / "sheet.png", rows=0)
