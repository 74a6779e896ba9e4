"""A real browser for pages that people open: Debian's chromium, driven by playwright.

Where there is none, the tests that need one are skipped with the reason.
"""

import os
import shutil
import time
from dataclasses import dataclass, field

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    """A headless chromium. As root it has no sandbox to run in.

    One per file: playwright keeps an event loop running, and other tests run their own.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no chromium was found; on Debian: apt-get install chromium")
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=options)
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """An open page, with all that it said and asked for since it was opened."""

    page: object
    said: list = field(default_factory=list)
    """Messages of the console, errors that nothing caught, and dialogues."""
    asked: list = field(default_factory=list)
    """Addresses of everything that was fetched, but for the page itself and what it holds."""
    seconds: float = float("nan")
    """From the call to the event `load`."""


@pytest.fixture
def visit(browser):
    """Open a file or an address in a fresh context, at some width and in some colours."""
    contexts = []

    def open_page(where, *, width=1200, height=900, dark=False, javascript=True):
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=javascript,
            accept_downloads=True,
        )
        contexts.append(context)
        address = where if isinstance(where, str) else where.resolve().as_uri()
        return _watched(context.new_page(), address)

    yield open_page
    for context in contexts:
        context.close()


def _watched(page, address):
    found = Visit(page=page)
    page.on("console", lambda message: found.said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: found.said.append(f"error: {error}"))
    page.on(
        "dialog", lambda dialog: (found.said.append(f"dialog: {dialog.message}"), dialog.dismiss())
    )
    page.on("request", lambda request: _note(found, request.url, address))
    start = time.perf_counter()
    page.goto(address, wait_until="load")
    found.seconds = time.perf_counter() - start
    return found


def _note(found, url, address):
    if url != address and not url.startswith(("data:", "blob:")):
        found.asked.append(url)
