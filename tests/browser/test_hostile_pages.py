"""The other pages that show words of texts and models, in a real browser: inert, and readable.

report.html is in test_report, the explorer in test_explorer.
"""

from dataclasses import replace

import pandas as pd
import plotly.io
import pytest

from experiments import sink_tokens
from experiments.all import COLUMNS, write_claims
from experiments.written import write
from secondary_sinks.plots import count_bars, level_heatmaps, patch_heatmap, scatter_panels
from secondary_sinks.plots.labels import make_visible
from secondary_sinks.plots.patches import patch_table
from secondary_sinks.report.compare import comparison
from tests.experiments.observed import planted
from tests.marks import exhaustive
from tests.plots import frames
from tests.plots.frames import HOSTILE
from tests.plots.test_general import points_frame
from tests.plots.test_levels_heatmap import CELLS as LEVELS
from tests.plots.test_patches import CELLS, LAYERS
from tests.questions.gardens import three
from tests.report.pages import verdict
from tests.report.test_compare import model

DRAWN = """() => [...document.querySelectorAll('.figure, .plotly-graph-div')]
    .every(e => e.querySelector('svg'))"""
PAYLOAD = "script:not([src]) ~ img, main img, iframe, object, a[href^=javascript]"
"""What only a payload can have put there."""


@pytest.fixture
def quiet(visit):
    """Visit a page; it must say nothing, ask for nothing and hold nothing of the payloads."""

    def quiet(path):
        found = visit(path)
        found.page.wait_for_function(DRAWN)
        found.page.mouse.move(500, 300)
        assert found.said == []
        assert found.asked == []
        assert found.page.locator(PAYLOAD).count() == 0
        return found.page

    return quiet


def test_models_side_by_side(quiet, tmp_path):
    models = [
        model(text, command=text, verdicts=[verdict(claim=text, why=text)]) for text in HOSTILE
    ]
    path = tmp_path / "compare.html"
    path.write_text(comparison(models), "utf-8", errors="backslashreplace")
    shown = quiet(path).locator("main").inner_text()
    assert all(make_visible(text, keep=" ") in shown for text in HOSTILE)


def figures_of(text):
    """What experiments draw, with a text in the place of every word."""
    sinks = frames.sinks(*(frames.sink(text, pos, token=text) for pos in (1, 2)))
    table = patch_table(CELLS.assign(text_id=text), sinks, "noising")
    return [
        patch_heatmap(table, "noising", LAYERS),
        level_heatmaps({text: (LEVELS, None)}),
        count_bars(pd.DataFrame([{"what": text, "group": text, "count": 1}]), "tokens"),
        scatter_panels(points_frame(text, rows=(text,)).assign(label=text)),
    ]


@exhaustive
def test_maps_and_figures_of_experiments(quiet, tmp_path):
    figures = [figure for text in HOSTILE for figure in figures_of(text)]
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=not number)
        for number, figure in enumerate(figures)
    ]
    path = tmp_path / "figures.html"
    path.write_text("<!doctype html><meta charset=utf-8>" + "".join(parts), "utf-8")
    assert quiet(path).locator(".plotly-graph-div svg").count() >= len(figures)


@exhaustive
def test_the_folder_of_an_experiment(quiet, tmp_path, monkeypatch):
    """All that an experiment writes, of a model every token of which is hostile."""
    monkeypatch.setattr(plotly.io, "write_images", lambda *where, **how: None)
    observed = planted(*three(forming=(3,)))
    table = observed.sinks
    sinks = [replace(one, token=HOSTILE[n % 6]) for n, one in enumerate(table.sinks)]
    hostile = replace(observed, sinks=replace(table, sinks=tuple(sinks)))
    finding = sink_tokens.run(hostile)
    assert set(HOSTILE) & set(finding.frame.astype(str).to_numpy().ravel())
    write(finding, tmp_path, observed.record() | {"command": HOSTILE[0]})
    quiet(tmp_path / "figure.html")


def test_the_table_of_claims(quiet, tmp_path):
    numbers = {"value": 1.0, "low": 0.5, "high": 1.5, "n_sinks": 3}
    rows = [dict.fromkeys(COLUMNS, text) | numbers for text in HOSTILE]
    write_claims(pd.DataFrame(rows, columns=COLUMNS), tmp_path)
    assert quiet(tmp_path / "claims.html").locator("td").count() == 8 * len(HOSTILE)
