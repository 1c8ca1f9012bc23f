"""The pages as a real browser shows them: accessible, nothing too wide, nothing lost in print."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kuleshov.report.describe import OUTSIDE, describe_command
from kuleshov.report.report_command import report_command

from .conftest import answered_run, damage, result, txe_run, write_film
from .test_describe import first_video, moving, turn_store_away
from .test_page import log

pytestmark = pytest.mark.slow
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SIZES = [(width, scheme) for width in (1400, 400) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A headless Chromium: the installed one, else Playwright's own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'kuleshov[dev]'")
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    with playwright.sync_playwright() as driver:
        if program is None and not Path(driver.chromium.executable_path).is_file():
            pytest.skip("no browser: apt-get install chromium, or playwright install chromium")
        opened = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


def check_page(browser, path: Path) -> None:
    """No console message, no axe violation and nothing wider than the page, in both widths and schemes."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: pip install 'kuleshov[dev]'")
    for width, scheme in SIZES:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        said: list[str] = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        violations = axe.Axe().run(page).response["violations"]
        found = [f"{one['id']}: {node['html'][:200]}" for one in violations for node in one["nodes"]]
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        page.close()
        assert (found, said, wider) == ([], [], 0), f"{width} {scheme}"


def printed(browser, path: Path, folder: Path) -> str:
    """The text of a page's PDF, every word once in the order printed; skips where no pdftotext is installed."""
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext: apt-get install poppler-utils")
    page = browser.new_page()
    page.goto(path.as_uri())
    page.pdf(path=folder / "page.pdf", prefer_css_page_size=True)
    page.close()
    return subprocess.run(["pdftotext", folder / "page.pdf", "-"], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def report(stage, tiny_world: Path, tmp_path: Path) -> Path:
    """The page of a run with twelve metrics of fifteen, what TxE fills in, film strips, a matrix and curves."""
    metrics = [("verbs", "Acc@1"), ("verbs", "acc1_offscreen"), ("verbs", "Recall@5"), ("roles", "CIDEr")]
    metrics += [("relations", "Top1-Acc"), ("relations", "Mean-Acc"), ("roles", "LEA"), ("verbs", "Acc@5")]
    metrics += [(task, "top1") for task in ("scene", "genre", "relationship", "director", "writer", "year")]
    lines = [
        result(metric, 1000.0 + 10 * column + place, task, row, seed)
        for column, (task, metric) in enumerate(metrics)
        for place, row in enumerate(("trivial", "backbone", "scratch", "pretrained"))
        for seed in ((0, 1) if place else (None,))
    ]
    verbs, txe = answered_run(stage, tiny_world), txe_run(stage, tiny_world)
    log(txe, "train/loss", [3.0, 2.0])
    run = stage("tables", needs=[verbs, txe], results=lines)
    path = tmp_path / "page.html"
    report_command([str(run)], output=path)
    return path


def test_the_report_in_a_browser(browser, report: Path):
    check_page(browser, report)


def test_a_small_screen_shows_a_card_a_row(browser, report: Path):
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.goto(report.as_uri())
    cells = page.locator("#results table").first.locator("tbody td:not(:empty)")
    boxes = [cell.bounding_box() for cell in cells.all()]
    page.close()
    assert len(boxes) > 40 and all(box["x"] >= 0 and box["x"] + box["width"] <= 400 for box in boxes)
    assert len({round(box["y"]) for box in boxes}) == len(boxes)


def test_paper_holds_every_column(browser, report: Path, tmp_path: Path):
    text = printed(browser, report, tmp_path)
    for column in range(14):
        assert f"{1000 + 10 * column}.00" in text and f"{1003 + 10 * column}.00" in text
    for title in ("What TxE fills in", "Verbs confused", "train/loss", "Stages", "LEA"):
        assert title in text


def test_a_film_in_a_browser(browser, whole_hierarchy: Path, tiny_world: Path, tmp_path: Path):
    path = tmp_path / "film.html"
    describe_command([str(first_video(tiny_world, "vidsitu", "videos"))], whole_hierarchy, "html", path)
    check_page(browser, path)
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.goto(path.as_uri())
    # a keyboard reaches the contents, the curve, and the events that are most alike
    reached = set()
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.getAttribute('href') || document.activeElement.ariaLabel"))
    assert {"#surprise", "#events", "Surprise along the film"} <= reached and any(
        one[:7] == "#event-" for one in reached
    )
    assert page.locator(".arrow").count() == 29 and page.locator(".frames img").count() == 90
    page.close()
    text = printed(browser, path, tmp_path)
    assert "Trained on the generated world" in text and text.count("most alike in this film") == 30


def test_a_film_with_damage_outside_of_the_training_in_a_browser(browser, whole_hierarchy: Path, tmp_path: Path):
    turn_store_away(whole_hierarchy)
    film, path = write_film(tmp_path / "film.mp4", moving(14)), tmp_path / "film.html"
    damage(film, 4.5, 5.2)
    describe_command([str(film)], whole_hierarchy, "html", path)
    check_page(browser, path)
    text = printed(browser, path, tmp_path)
    assert OUTSIDE in text and "cannot be decoded after" in text and "look.01" in text
