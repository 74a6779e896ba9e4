"""The notebooks of the documentation run from top to bottom, and what they say of results holds."""

import pytest

from tests.marks import exhaustive
from tools.notebooks import FOLDER, run

WEIGHTS = {"first_look", "interactive_patching"}
"""Notebooks about SmolLM2; the others plant their models."""
TYPICAL = {"interactive_patching"}
"""One with a widget, real weights and verdicts."""


def marks_of(page):
    marks = [pytest.mark.real] if page.stem in WEIGHTS else []
    return marks if page.stem in TYPICAL else [*marks, exhaustive]


PAGES = [
    pytest.param(page, id=page.stem, marks=marks_of(page)) for page in sorted(FOLDER.glob("*.py"))
]


def outputs(notebook, mime):
    found = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"][mime] for output in found if mime in output.get("data", {})]


@pytest.mark.parametrize("page", PAGES)
def test_it_runs(page):
    notebook = run(page)
    assert notebook.cells[0].cell_type == "markdown"
    assert sum("assert" in cell.source for cell in notebook.cells) >= 1
    if page.stem == "interactive_patching":
        states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
        shown = outputs(notebook, "application/vnd.jupyter.widget-view+json")
        state = states[shown[0]["model_id"]]["state"]
        assert len(state["trials"]) == 4
        assert "lifetime 7 to 0 layers" in state["trials"][0]


def test_there_are_four():
    assert {page.stem for page in FOLDER.glob("*.py")} == WEIGHTS | {
        "claim_to_verdict",
        "your_own_experiment",
    }
