"""The explorer in a real JupyterLab, in a real browser, with tokens that would like to be markup.

And in marimo. Skipped where there is no chromium, no JupyterLab or no marimo: pip install them.
"""

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
CODE = """
from secondary_sinks.notebook import SinkExplorer
from secondary_sinks.testing import Plant, plant

sinks = [Plant(pos=20, forming=(3,)), Plant(pos=300, forming=(5,))]
planted = plant([Plant(pos=0, forming=(1,), strength=400.0), *sinks], n_pos=320)

class Words:
    padding_side, bos_token_id, pad_token_id = "right", None, None

    def decode(self, ids):
        hostile = {1: "<img src=x onerror=alert(1)>", 20: "</script>", 21: "%{x}<b>"}
        return hostile.get(ids[0], " word")

planted.model.tokenizer = Words()
explorer = SinkExplorer(planted.model, planted.tokens)
explorer
"""
OFFLINE = (
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a running JupyterLab, and the folder that it serves."""
    if importlib.util.find_spec("jupyterlab") is None:
        pytest.skip("JupyterLab is not installed; pip install jupyterlab")
    folder, port = tmp_path_factory.mktemp("lab"), _free_port()
    options = [f"--port={port}", f"--ServerApp.root_dir={folder}", "--IdentityProvider.token="]
    options += ["--no-browser", "--allow-root", "--expose-app-in-browser", *OFFLINE]
    with _served(["jupyterlab", *options], folder, f"http://127.0.0.1:{port}/api"):
        yield f"http://127.0.0.1:{port}", folder


@contextlib.contextmanager
def _served(module, folder, address):
    """A server that runs while the context lasts."""
    command, log = [sys.executable, "-m", *module], folder / "log.txt"
    with (
        log.open("w") as out,
        subprocess.Popen(command, cwd=folder, env=_alone(folder), stdout=out, stderr=out) as server,
    ):
        try:
            _wait_for(address, server, log)
            yield
        finally:
            server.terminate()


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _alone(folder):
    """The environment of a server that reads and writes nobody's settings."""
    widgets = importlib.util.find_spec("jupyterlab_widgets").origin
    home = {
        f"JUPYTER_{name}_DIR": str(folder / f".{name}") for name in ("CONFIG", "DATA", "RUNTIME")
    }
    home |= {
        f"JUPYTERLAB_{name}_DIR": str(folder / f".{name}") for name in ("SETTINGS", "WORKSPACES")
    }
    share = Path(widgets).parents[4] / "share" / "jupyter"
    return os.environ | home | {"JUPYTER_PATH": str(share), "PYTHONPATH": str(ROOT)}


def _wait_for(address, server, log):
    for _ in range(600):
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(address)
        if server.poll() is not None:
            break
        time.sleep(0.1)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def notebook(lab):
    address, folder = lab
    cell = nbformat.v4.new_code_cell(CODE)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    whole = nbformat.v4.new_notebook(cells=[cell], metadata=kernel)
    nbformat.write(whole, folder / "explore.ipynb")
    return f"{address}/lab/tree/explore.ipynb?reset"


def opened(visit, address, **options):
    """The notebook with all its cells run, and the explorer in it."""
    found = visit(address, height=1400, **options)
    page = found.page
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext?.isReady")
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_selector(".sinks .strip button", timeout=90_000)
    page.wait_for_selector(".sinks .figure .main-svg", timeout=30_000)
    return found


def says(page, text):
    page.locator(".sinks .status").filter(has_text=text).wait_for()


def test_click_keyboard_and_hostile_tokens(visit, notebook, lab):
    found = opened(visit, notebook)
    page, explorer = found.page, found.page.locator(".sinks")

    def button(name):
        return explorer.get_by_role("button", name=name, exact=True)

    # By mouse: a token, an edit; the result is there, beside its control.
    strip = explorer.locator(".strip button")
    assert strip.count() == 320 - 256, "it begins at the strongest sink, on the second page"
    button("Earlier tokens").click()
    page.wait_for_function("document.querySelectorAll('.sinks .strip button').length === 256")
    assert strip.nth(20).inner_text() == "<img␣src=x␣onerror=alert(1)>"
    strip.nth(20).click()
    explorer.get_by_role("slider", name="Layer").fill("3")
    explorer.get_by_label("zero", exact=True).check()
    says(page, "lifetime 5 to 0 layers")
    assert "control (twin)" in explorer.locator("table").inner_text()
    assert explorer.locator(".main-svg").count() >= 2

    # The map is plotly's own, and a click in it chooses a token and a layer.
    area = explorer.locator(".figure").first.locator(".nsewdrag").bounding_box()
    page.mouse.click(area["x"] + area["width"] * 100.5 / 256, area["y"] + area["height"] * 2.5 / 8)
    says(page, "layer 5 at ")
    says(page, "(position 100)")
    button("Undo").click()
    says(page, "lifetime 5 to 0 layers")

    # Total effects, Python, the list of trials.
    button("Total effect").click()
    page.wait_for_selector(".sinks tbody tr:nth-child(7)")
    assert "direct_and_total" in explorer.locator("pre").text_content()
    explorer.locator("ol button").nth(1).click()
    says(page, "(position 100)")
    explorer.get_by_label("Run folder").fill(str(lab[1] / "explored"))
    button("Export").click()
    says(page, "Written to ")
    button("Export").click()
    page.wait_for_function(
        "document.querySelector('.sinks .error').textContent.includes('not empty')"
    )

    # By keyboard alone: donor, layer, and over the edge of the page.
    strip.nth(40).focus()
    for key in ("Enter", "ArrowRight", "ArrowRight", "d"):
        page.keyboard.press(key)
    says(page, "from position 42")
    strip.nth(40).focus()
    page.keyboard.press("ArrowDown")
    says(page, "of layer 4 ")
    assert strip.count() == 256
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "document.activeElement.getAttribute('aria-label')?.includes('position 256')"
    )
    assert strip.count() == 320 - 256
    page.keyboard.press("Enter")
    says(page, "(position 256)")
    assert page.locator(".jp-CodeCell").count() == 1, "D and arrows did nothing to the notebook"

    # Nothing was run that a token said, and the console is clean.
    assert page.locator(".sinks img").count() == 0
    errors = [line for line in found.said if line.startswith(("error", "dialog"))]
    assert errors == []
    assert all(url.startswith((lab[0], "ws://127.0.0.1")) for url in found.asked)


APP = """
import marimo

app = marimo.App()

@app.cell
def _():
    import marimo as mo
{cell}
    mo.ui.anywidget(explorer)
    return
"""


def test_marimo_shows_it_too(visit, tmp_path):
    if importlib.util.find_spec("marimo") is None:
        pytest.skip("marimo is not installed; pip install marimo")
    cell = textwrap.indent(CODE.removesuffix("explorer\n"), "    ")
    (tmp_path / "app.py").write_text(APP.format(cell=cell), encoding="utf-8")
    port = _free_port()
    options = ["run", "app.py", "--headless", "--no-token", f"--port={port}"]
    with _served(["marimo", *options], tmp_path, f"http://127.0.0.1:{port}"):
        found = visit(f"http://127.0.0.1:{port}")
        explorer = found.page.locator(".sinks")
        explorer.get_by_label("zero", exact=True).check(timeout=90_000)
        says(found.page, "lifetime 3 to 0 layers")
        explorer.get_by_role("button", name="Total effect").click()
        found.page.wait_for_selector(".sinks tbody tr:nth-child(7)")
        found.page.wait_for_selector(".sinks .figure .main-svg")
        assert [line for line in found.said if line.startswith(("error", "dialog"))] == []
        assert all(url.startswith(f"http://127.0.0.1:{port}") for url in found.asked)
