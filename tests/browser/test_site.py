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


@pytest.mark.parametrize("page", ["index", "concepts", "api", "cli", "measures"])
def test_a_page_is_quiet_and_asks_nobody_else(visit, site, page):
    found = visit(f"{site}/{page}.html")
    assert found.page.locator("h1").count() == 1
    assert found.said == []
    assert [url for url in found.asked if not url.startswith(site)] == []
    broken = "() => [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    assert found.page.evaluate(broken) == []


def test_examples_of_docstrings_are_blocks_of_code(visit, site):
    found = visit(f"{site}/api.html")
    assert found.page.locator("pre:has-text('>>>')").count() > 10
    assert found.page.locator("blockquote").count() == 0
