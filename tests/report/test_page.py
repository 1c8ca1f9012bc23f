import base64
import re
import time
from html.parser import HTMLParser

import cv2
import numpy as np
from torch.utils.tensorboard import SummaryWriter

from kuleshov.datasets.vidsitu import VidSitu
from kuleshov.metrics.confusion_matrix import SHOWN
from kuleshov.report.confusions import confusion, confusions
from kuleshov.report.curves import LearningCurve, curves_of, draw, read_scalars, row_colors
from kuleshov.report.fill_ins import fill_ins
from kuleshov.report.filmstrips import data_uri, filmstrips
from kuleshov.report.job_answers import read_answers
from kuleshov.report.lineage import gather, read_run
from kuleshov.report.page import write_page
from kuleshov.report.results_table import build_table

from .conftest import VERBS, answered_run, txe_run, write_job

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


def html_of(folder, variant="", note="") -> str:
    runs, measured = gather({variant: [folder]})
    table = build_table(measured)
    table.notes.append(note)
    path = folder.parent / "page.html"
    write_page(path, runs, measured, table)
    return path.read_text()


def log(folder, tag, values, first=0):
    with SummaryWriter(str(folder)) as writer:
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
    assert elements.found.count("main") == 1
    links, ids = ({v for k, v in elements.attributes if k == name} for name in ("href", "id"))
    assert {"#results", "#learning", "#left-out", "#stages"} <= links and {link[1:] for link in links} <= ids
    assert "41.00 ± 0.58" in text and "(60.34 ± 0.75)" in text and "Table 1: Slow-D+TxE" in text
    assert "Health of the representation" in text and elements.found.count("svg") == 1
    assert "too short" in text and "11111111" in text


def test_flat_curves_are_named_and_not_drawn(stage):
    run = stage("pretrain-txe")
    for tag, values in (("val/still", [3.0, 3.0]), ("val/once", [1.0]), ("val/moves", [1.0, 2.0])):
        log(run, tag, values)
    text = html_of(run)
    assert "Flat, and not drawn: val/once, val/still" in text and text.count("<svg") == 1


def test_everything_shown_is_escaped(runs, stage):
    nasty = stage("train-relations", digits="66666666", method=HOSTILE, needs=[runs], jobs=["job"])
    write_job(nasty / "job", HOSTILE, 0, HOSTILE)
    log(nasty / "job", "loss" + HOSTILE, [1.0, 0.5])
    text = html_of(nasty, HOSTILE, HOSTILE)
    elements = Elements(text)
    assert "script" not in elements.found and "img" not in elements.found
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    assert text.count("&lt;script&gt;alert(") >= 4


def test_drawings_take_their_colors_from_the_page():
    colors = row_colors(["pretrained", "scratch", "backbone"])
    assert colors == {"backbone": 0, "scratch": 1, "pretrained": 2}
    curve = LearningCurve("scratch", np.arange(3), np.array([1.0, np.nan, 0.2]))
    svg = draw(HOSTILE, [curve], colors)
    assert svg.startswith("<svg") and "var(--row-1)" in svg
    assert "#010" not in svg and "currentColor" in svg
    assert "script" not in svg and draw(HOSTILE, [curve], colors) == svg


def test_curves_belong_to_the_rows_that_the_jobs_say(stage):
    rows = ("cvrl-tuned", "cvrl-scratch", "cvrl-pretrained")
    run = stage("table-3", jobs=[f"job{number}" for number in range(3)])
    for number, row in enumerate(rows):
        log(write_job(run / f"job{number}", row, 0, "genre"), "train/loss", [1.0])
        log(run / f"job{number}", "lr-AdamW", [1.0])
    found = curves_of(read_run(run))
    assert list(found) == ["genre train/loss"] and [curve.row for curve in found["genre train/loss"]] == list(rows)
    assert len(set(row_colors(rows).values())) == 3
    text = html_of(run)
    assert all(
        title in text for title in ("CVRL, tuned", "CVRL, tuned, TxE from scratch", "CVRL, tuned, TxE pretrained")
    )


def test_a_continued_training_is_one_curve(tmp_path):
    log(tmp_path, "train/loss", [3.0, 2.0, 9.0])
    # TensorBoard orders files by the second in their names
    time.sleep(1.1)
    log(tmp_path, "train/loss", [1.0, 0.5], first=2)
    steps, values = read_scalars(tmp_path)["train/loss"]
    assert steps.tolist() == [0, 1, 2, 3] and values.tolist() == [3.0, 2.0, 1.0, 0.5]


def test_runs_that_still_go_on_are_shown(tmp_path):
    from kuleshov.core.results import append_results

    job = tmp_path / "train-verbs-vidsitu-demo-77777777" / "scratch-seed0"
    write_job(job, "scratch", 0)
    append_results(job / "results.jsonl", VERBS)
    text = html_of(job.parent)
    assert "unfinished" in text and "TxE from scratch" in text


def test_film_strips_and_confused_verbs_of_a_generated_world(stage, tiny_world):
    folder = answered_run(stage, tiny_world)
    data = VidSitu(tiny_world / "vidsitu")
    answers, unread = read_answers([read_run(folder)])
    shown, notes = filmstrips(answers, 2)
    assert notes == unread == [] and len(shown) == 2
    for name, events in shown.items():
        for event, verbs in zip(events, data.verbs("valid")[name], strict=True):
            assert len(event.frames) == 3 and event.frames[0].startswith("data:image/jpeg;base64,")
            assert event.named == {"pretrained": "hug.01"} and event.verbs[0] in verbs
            assert event.off_screen in (True, False)
    (one,) = confusions(answers)
    named = [counts[one.verbs.index("hug.01" if "hug.01" in one.verbs else "others")] for counts in one.counts]
    assert sum(named) == one.n == 5 * len(data.segments("valid")) and one.row == "pretrained"
    text = html_of(folder)
    assert text.count("data:image/jpeg") == text.count('alt="event ') == 3 * 5 * 3
    assert "Verbs confused" in text and f"{one.right} of {one.n} events" in text


def test_rare_verbs_are_one_row_of_the_matrix():
    pairs = [(f"v{k}", f"v{k}") for k in range(SHOWN) for _ in range(2)] + [("rare", "v0"), ("v1", "never"), ("a", "b")]
    one = confusion("scratch", pairs)
    assert len(one.verbs) == SHOWN + 1 and one.verbs[-1] == "others" and one.n == len(pairs)
    v0, v1 = map(one.verbs.index, ("v0", "v1"))
    assert one.right == 2 * SHOWN and one.counts[-1][v0] == one.counts[v1][-1] == one.counts[-1][-1] == 1


def test_what_txe_fills_in_is_ranked_and_shown(stage, tiny_world, tmp_path):
    folder = txe_run(stage, tiny_world)
    found, notes = fill_ins([read_run(folder)], 2)
    assert notes == [] and list(found) == [folder.name] and found[folder.name]
    for one in found[folder.name]:
        assert [event.marked for event in one.window] == [False, False, True, False, False]
        assert 1 <= one.rank <= one.of and len(one.nearest) == 5
        assert any(event.marked for event in one.nearest) == (one.rank <= 5)
        assert all(event.frame.startswith("data:image/jpeg") and event.movie == one.movie for event in one.window)
    assert "What TxE fills in" in html_of(folder)
    (folder / "weights" / "txe.safetensors").unlink()
    found, notes = fill_ins([read_run(folder)], 2)
    assert found == {} and "weights not found" in notes[0]


def test_a_picture_beyond_jpeg_s_sides_is_its_middle():
    frame = np.zeros((8, 90_000, 3), np.uint8)
    frame[:, 45_000] = 255
    raw = np.frombuffer(base64.b64decode(data_uri(frame).partition(",")[2]), np.uint8)
    shown = cv2.imdecode(raw, cv2.IMREAD_COLOR)
    assert shown.shape == (8, 4096, 3) and abs(int(shown[4].max(axis=1).argmax()) - 2048) <= 8
