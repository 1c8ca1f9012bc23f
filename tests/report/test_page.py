import re
from html.parser import HTMLParser

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from kuleshov.core.files import write_json
from kuleshov.report.curves import Curve, draw, read_scalars, row_of
from kuleshov.report.lineage import read_run
from kuleshov.report.measured import gather
from kuleshov.report.page import page
from kuleshov.report.tables import build

HOSTILE = "<script>alert('x')</script>&\"$\\frac{"


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found, self.open, self.attributes = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append(tag)
        self.attributes += attributes
        if tag not in ("meta", "img", "path", "use", "rect", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("path", "use", "rect"):
            assert self.open.pop() == tag


def html_of(folder) -> str:
    runs, measured = gather({"": [folder]})
    return page(runs, measured, build(measured))


def log(folder, tag, values, first=0):
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for step, value in enumerate(values, first):
            writer.add_scalar(tag, value, step)


def test_the_page_is_whole_and_self_contained(runs):
    log(runs.parent / "pretrain-backbone-k400-demo-11111111", "ssl/uniformity", [-1.0, -2.0])
    text = html_of(runs)
    elements = Elements(text)
    assert elements.open == []
    assert "script" not in elements.found and "link" not in elements.found
    addresses = [v for k, v in elements.attributes if k in ("src", "href", "xlink:href")]
    assert not [v for v in addresses if not v.startswith(("data:", "#"))]
    assert not re.search(r"@import|url\((?!#)", text)
    assert "41.00 ± 0.58" in text and "paper 32.84" in text and "60.34 ± 0.75, Table 1: Slow-D+TxE+TxD" in text
    assert "Health of the representation" in text and elements.found.count("svg") == 1
    assert "too short" in text and "11111111" in text


def test_everything_shown_is_escaped(runs, stage):
    nasty = stage("train-relations", digits="66666666", method=HOSTILE)
    record = read_run(nasty)
    assert record.method == HOSTILE
    log(nasty, "loss" + HOSTILE, [1.0, 0.5])
    runs_found, measured = gather({HOSTILE: [runs, nasty]})
    table = build(measured)
    table.notes.append(HOSTILE)
    text = page(runs_found, measured, table)
    elements = Elements(text)
    assert "script" not in elements.found and "img" not in elements.found
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    assert text.count("&lt;script&gt;alert(") >= 4


def test_drawings_take_their_colors_from_the_page():
    curve = Curve("scratch", np.arange(3), np.array([1.0, np.nan, 0.2]))
    drawing = draw(HOSTILE, [curve])
    assert drawing.svg.startswith("<svg") and "var(--row-scratch)" in drawing.svg
    assert "#0102" not in drawing.svg and "currentColor" in drawing.svg
    assert "script" not in drawing.svg and draw(HOSTILE, [curve]) == drawing
    assert drawing.last == {"scratch": 0.2}


def test_a_continued_training_is_one_curve(tmp_path):
    log(tmp_path, "train/loss", [3.0, 2.0, 9.0])
    log(tmp_path, "train/loss", [1.0, 0.5], first=2)
    steps, values = read_scalars(tmp_path)["train/loss"]
    assert steps.tolist() == [0, 1, 2, 3] and values.tolist() == [3.0, 2.0, 1.0, 0.5]


def test_runs_that_still_go_on_are_shown(tmp_path):
    from kuleshov.core.results import append_results

    from .conftest import VERBS

    job = tmp_path / "train-verbs-vidsitu-demo-77777777" / "scratch-seed0"
    job.mkdir(parents=True)
    write_json(job / "job.json", {})
    append_results(job / "results.jsonl", VERBS)
    text = html_of(job.parent)
    assert "unfinished" in text and "TxE from scratch" in text


@pytest.mark.parametrize("strips", [2])
def test_film_strips_of_a_generated_world(stage, tiny_world, strips):
    from kuleshov.datasets.vidsitu import VidSitu
    from kuleshov.datasets.vidsitu_predictions import write_predictions
    from kuleshov.report.filmstrips import filmstrips

    data = VidSitu(tiny_world / "vidsitu")
    segments = data.segments("valid")
    folder = stage("train-verbs", jobs=["pretrained-seed0", "pretrained-seed1"])
    for seed in range(2):
        job = folder / f"pretrained-seed{seed}"
        write_json(job / "config.yaml", {"data": {"init_args": {"annotations": str(data.root), "split": "valid"}}})
        answers = {name: [["hug.01", "hit.01"]] * 5 for name in segments}
        write_predictions(job / "predictions" / "valid.json", "verbs", answers, segments)
    shown, notes = filmstrips([read_run(folder)], strips)
    assert notes == [] and len(shown) == strips
    for strip in shown:
        truth = data.verbs("valid")[strip.segment]
        for event, verbs in zip(strip.events, truth, strict=True):
            assert len(event.frames) == 3 and event.frames[0].startswith("data:image/jpeg;base64,")
            assert event.said == {"pretrained": ("hug.01", "hug.01" in verbs)}
            assert event.off_screen in (True, False)
    text = html_of(folder)
    assert text.count("data:image/jpeg") == 3 * 5 * 3


def test_only_a_jobs_folder_names_a_row():
    assert row_of("scene-pretrained-seed2") == "pretrained"
    assert row_of("pretrain-backbone-k400-demo-11111111") == ""
