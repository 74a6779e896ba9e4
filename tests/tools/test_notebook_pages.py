"""Stored notebooks and their pages are those of the scripts; else: python -m tools.notebooks."""

import base64

import jupytext
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import notebooks
from tools.notebooks import FOLDER, PNG, WIDGET, as_page, pictures_of, stored

SCRIPTS = sorted(FOLDER.glob("*.py"))
MOST_BYTES = 300_000
PICTURE = base64.b64encode(b"a picture").decode()


def cells(notebook):
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def read(script):
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_stored_notebook_is_its_script_run_from_top_to_bottom(script):
    notebook = read(script)
    nbformat.validate(notebook)
    assert cells(notebook) == cells(jupytext.read(script))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert sum(len(cell.outputs) for cell in code) >= 1
    assert script.with_suffix(".ipynb").stat().st_size < MOST_BYTES


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_page_is_its_notebook_and_small(script):
    name, notebook = script.stem, read(script)
    page = script.with_suffix(".md").read_text("utf-8")
    assert page == as_page(name, notebook)
    pictures = {path.name: path.read_bytes() for path in FOLDER.glob(f"{name}-*.png")}
    assert pictures == pictures_of(name, notebook)
    assert len(page.encode()) + sum(map(len, pictures.values())) < MOST_BYTES


def ran(*outputs):
    cells = [new_markdown_cell("# Title\nText."), new_code_cell("1 + 1", outputs=list(outputs))]
    return new_notebook(cells=cells, metadata={"widgets": {"state": 1}})


def shown(data, kind="execute_result"):
    return new_output(kind, data=data)


def test_what_differs_from_run_to_run_is_left_out():
    bar = shown({"text/html": "<progress>", "text/plain": "HTML at 0x1"}, "display_data")
    widget = shown({"text/plain": "SinkExplorer(64 tokens)", WIDGET: {"model_id": "random"}})
    kept = [stored(ran(*many)) for many in ((bar, widget), (widget,))]
    assert kept[0] == kept[1]
    assert "random" not in nbformat.writes(kept[0])
    assert notebooks.EXPLORER in as_page("some", kept[0])


def test_each_output_is_shown_as_what_it_is():
    table = '<div><style>x</style><table border="1" class="dataframe">\n  <tr></tr>\n</table></div>'
    notebook = stored(
        ran(
            new_output("stream", text="printed\n"),
            shown({"text/html": table, "text/plain": "a frame"}),
            shown({PNG: PICTURE}, "display_data"),
        )
    )
    page = as_page("some", notebook)
    assert page.startswith("# Title\n\n*Download: [some.ipynb](some.ipynb)")
    assert "```python\n1 + 1\n```\n\n```text\nprinted\n```\n\n<table>\n<tr></tr>\n</table>" in page
    assert "](some-1.png)" in page
    assert pictures_of("some", notebook) == {"some-1.png": b"a picture"}


def test_an_output_that_is_no_table_is_refused():
    with pytest.raises(ValueError, match="expected the table of a frame"):
        as_page("some", stored(ran(shown({"text/html": "<b>x</b>", "text/plain": "x"}))))
