"""The documentation site, built without a warning and read in a real browser."""

import functools
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.marks import exhaustive

ROOT = Path(__file__).parents[2]
pytestmark = exhaustive


@pytest.fixture(scope="module")
def site():
    """The address of the built site, on this machine."""
    pytest.importorskip("zensical", reason="zensical is not installed")
    build = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    handler = functools.partial(_Quiet, directory=ROOT / "site")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.mark.parametrize(
    "page", ["index", "concepts", "api", "cli", "measures", "notebooks/first_look"]
)
def test_a_page_is_quiet_and_asks_nobody_else(visit, site, page):
    found = visit(f"{site}/{page}.html")
    assert found.page.locator("h1").count() == 1
    assert found.said == []
    assert [url for url in found.asked if not url.startswith(site)] == []
    broken = "() => [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert found.page.evaluate(broken) == []


def test_formulas_are_typeset_and_none_is_left_as_text(visit, site):
    page = visit(f"{site}/measures.html").page
    formulas = page.locator("article math")
    assert formulas.count() > 30
    fraction = page.locator("article math[display=block] mfrac").first.bounding_box()
    assert fraction["height"] > fraction["width"] / 2 > 0, "a numerator above a denominator"
    assert "\\frac" not in page.locator("article").inner_text()


def test_a_notebook_can_be_downloaded(visit, site):
    page = visit(f"{site}/notebooks/first_look.html").page
    with page.expect_download() as download:
        page.get_by_role("link", name="first_look.ipynb").click()
    assert download.value.suggested_filename == "first_look.ipynb"


def test_examples_of_docstrings_are_blocks_of_code(visit, site):
    found = visit(f"{site}/api.html")
    assert found.page.locator("pre:has-text('>>>')").count() > 10
    assert found.page.locator("blockquote").count() == 0
