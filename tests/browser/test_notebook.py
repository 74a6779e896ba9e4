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

from tests.browser.explorer import says, use

ROOT = Path(__file__).parents[2]
CODE = """
from secondary_sinks.notebook import SinkExplorer
from tests.browser.explorer import planted

explorer = SinkExplorer(*planted())
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


def test_jupyterlab(visit, notebook, lab):
    found = opened(visit, notebook)
    use(found.page, lab[1])
    assert found.page.locator(".jp-CodeCell").count() == 1, (
        "D and arrows did nothing to the notebook"
    )
    assert [line for line in found.said if line.startswith(("error", "dialog"))] == []
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


def test_marimo(visit, tmp_path):
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
