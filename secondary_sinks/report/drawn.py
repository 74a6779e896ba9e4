"""Figures of the answers to causal questions: their data -> panels of the page."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.plots import interval_dots, interval_lines, patch_heatmap, patch_table
from secondary_sinks.questions import Answer, Drawing, Question, Shown
from secondary_sinks.report.figures import Panel, panel


def answer_panels(question: Question, answer: Answer, shown: Shown) -> list[Panel]:
    """Panels of an answer; empty if it has nothing to show."""
    panels = map(_panel, question.figures(answer, shown))
    return [panel for panel in panels if panel is not None]


def _panel(drawing: Drawing) -> Panel | None:
    figure, table = PLOTS[drawing.plot](drawing.frame, **drawing.options)
    table = table if drawing.table is None else drawing.table
    if table.empty:
        return None
    return panel(drawing.name, drawing.title, figure, table, drawing.caption)


def _lines(frame: pd.DataFrame, **options: Any) -> tuple[go.Figure, pd.DataFrame]:
    return interval_lines(frame, **options), frame


def _dots(frame: pd.DataFrame, **options: Any) -> tuple[go.Figure, pd.DataFrame]:
    return interval_dots(frame, **options), frame


def _patches(
    frame: pd.DataFrame, *, sinks: pd.DataFrame, patch: str, n_layers: int
) -> tuple[go.Figure, pd.DataFrame]:
    table = patch_table(frame, sinks, patch)
    return go.Figure() if table.empty else patch_heatmap(table, patch, n_layers), table


PLOTS = {"lines": _lines, "dots": _dots, "patches": _patches}
"""Plot functions by name: (frame, **options) -> figure, and the table behind it."""
