"""report.html in a real browser, opened from the disk as people open it."""

import pytest

from secondary_sinks.plots.labels import visible
from tests.plots.frames import HOSTILE
from tests.report.pages import page
from tests.report.test_hostile_text import hostile_page

DRAWN = "() => [...document.querySelectorAll('.figure')].every(e => e.querySelector('svg'))"


@pytest.fixture
def opened(visit, tmp_path):
    """Visit a page that lies in a file, and wait until its figures are drawn."""

    def opened(content, **options):
        path = tmp_path / "report.html"
        path.write_text(content, encoding="utf-8", errors="backslashreplace")
        found = visit(path, **options)
        found.page.wait_for_function(DRAWN)
        return found

    return opened


@pytest.mark.parametrize("dark", [False, True])
def test_a_report_opens_from_disk_and_is_quiet_and_asks_for_nothing(opened, dark):
    found = opened(page(), dark=dark)
    assert found.page.locator("h1").inner_text().endswith("tiny")
    assert found.page.locator(".figure svg").count() >= 4
    assert found.said == []
    assert found.asked == []
    print(f"load took {found.seconds:.2f} s")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_tokens_do_nothing_and_are_shown(opened, text):
    found = opened(hostile_page(text))
    assert found.said == []
    assert found.asked == []
    shown = found.page.locator(".strip mark").first.evaluate("e => e.firstChild.textContent")
    assert shown == visible(text)
    assert found.page.locator("main img, main iframe, main script[src]").count() == 0
    for mark in found.page.locator(".strip mark").all():
        mark.hover()
    assert found.said == []


def test_text_and_tables_are_there_without_javascript(visit, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(page(), encoding="utf-8")
    found = visit(path, javascript=False)
    assert found.page.locator("table").first.is_visible()
    assert "secondary sink" in found.page.locator("main").inner_text()
