"""The notebooks of the documentation, run: as `.ipynb` to download and as pages of the site.

    python -m tools.notebooks [NAME ...]

runs the scripts of docs/notebooks/ from top to bottom, and writes NAME.ipynb and NAME.md next to
each. Figures are static pictures. What differs from run to run (times, ids, the state of widgets)
is left out, so that an unchanged script gives unchanged files.
"""

import base64
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from secondary_sinks import files

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
WIDGET, PNG = "application/vnd.jupyter.widget-view+json", "image/png"
EXPLORER = "![The explorer: a strip of tokens, an edit and what it did](../images/explorer.png)"
"""What a page shows in the place of the widget."""


def run(script: Path) -> NotebookNode:
    """The script as a notebook with its outputs. Raises the first error of a cell."""
    notebook = jupytext.read(script)
    NotebookClient(notebook, timeout=300, kernel_name="python3", record_timing=False).execute()
    return notebook


def stored(notebook: NotebookNode) -> NotebookNode:
    """What is kept of a notebook that ran: the same for every run of the same script."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        if cell.cell_type == "code":
            cell.metadata = {}
            cell.outputs = [output for output in cell.outputs if not _is_progress(output)]
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET, None)
    return notebook


def _is_progress(output: NotebookNode) -> bool:
    return output.output_type == "display_data" and PNG not in output.data


def as_page(name: str, notebook: NotebookNode) -> str:
    """A stored notebook as Markdown, with links to the files of `pictures_of`."""
    first, *rest = [_shown(name, number, cell) for number, cell in enumerate(notebook.cells)]
    get = f"*Download: [{name}.ipynb]({name}.ipynb), or as a script [{name}.py]({name}.py).*"
    title, _, text = first.partition("\n")
    return "\n\n".join([title, get, text.strip(), *rest]) + "\n"


def pictures_of(name: str, notebook: NotebookNode) -> dict[str, bytes]:
    """The pictures of a page by file name."""
    return {
        f"{name}-{number}.png": base64.b64decode(output["data"][PNG])
        for number, cell in enumerate(notebook.cells)
        for output in cell.get("outputs", [])
        if PNG in output.get("data", {})
    }


def _shown(name: str, number: int, cell: NotebookNode) -> str:
    if cell.cell_type == "markdown":
        return str(cell.source)
    outputs = [_output(name, number, output) for output in cell.outputs]
    return "\n\n".join([_fenced("python", cell.source), *outputs])


def _output(name: str, number: int, output: NotebookNode) -> str:
    data: dict[str, Any] = output.get("data", {})
    if PNG in data:
        return f"![Figure of the code above]({name}-{number}.png)"
    if "text/html" in data:
        return _table(data["text/html"])
    plain = data.get("text/plain", output.get("text", ""))
    return EXPLORER if plain.startswith("SinkExplorer(") else _fenced("text", plain)


def _table(html: str) -> str:
    """The table of a frame, without the style that pandas gives it."""
    found = re.search(r"<table.*</table>", html, re.DOTALL)
    if found is None:
        raise ValueError(f"expected the table of a frame, but the output is {html[:80]!r}")
    return re.sub(r"^ *|<table[^>]*?(?=>)", lambda one: one[0].strip()[:6], found[0], flags=re.M)


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def write(script: Path) -> None:
    """Run a script, and write its notebook, its page and the pictures of the page."""
    notebook, name = stored(run(script)), script.stem
    for old in script.parent.glob(f"{name}-*.png"):
        old.unlink()
    nbformat.write(notebook, script.with_suffix(".ipynb"))
    script.with_suffix(".md").write_text(as_page(name, notebook), "utf-8")
    for file, content in pictures_of(name, notebook).items():
        with files.open_file(script.parent / file, "wb") as picture:
            picture.write(content)


def main(names: Sequence[str]) -> None:
    """Write all notebooks, or those of these names."""
    os.environ["PLOTLY_RENDERER"] = "png"  # else each figure would bring plotly.js
    for script in sorted(FOLDER.glob("*.py")):
        if not names or script.stem in names:
            print(script.stem, flush=True)
            write(script)


if __name__ == "__main__":
    main(sys.argv[1:])
