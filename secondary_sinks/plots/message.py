"""A figure for where there is nothing to draw: it says so."""

import textwrap

import plotly.graph_objects as go

from secondary_sinks.plots.labels import plain_label
from secondary_sinks.plots.theme import finish

WIDTH = 60
"""Characters in a line, so that it fits a phone."""


def message_figure(words: str) -> go.Figure:
    """A figure without data that says why, in words."""
    lines = [plain_label(line) for line in textwrap.wrap(words, WIDTH)]
    figure = go.Figure()
    figure.add_annotation(
        text="<br>".join(lines),
        showarrow=False,
        font_size=14,
        **{"xref": "paper", "x": 0.5, "yref": "paper", "y": 0.5},
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return finish(figure, height=120 + 20 * len(lines))
