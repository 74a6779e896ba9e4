"""Outcomes of claims, a row per question and a column per model."""

import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.plots.labels import MISSING, plain_label
from secondary_sinks.plots.theme import GAINED, LOST, finish

VALUES = {"supported": 1.0, "contradicted": -1.0}
SCALE = [[0.0, GAINED], [0.5, "rgba(128,128,128,0.15)"], [1.0, LOST]]


def outcome_map(table: pd.DataFrame) -> go.Figure:
    """What each model (column) answers to each question (row of the index), in words and colour.

    Purple is supported, amber contradicted, grey anything else; a dash where nothing was asked.
    """
    words = table.fillna(MISSING)
    figure = go.Figure(
        go.Heatmap(
            z=[[VALUES.get(word, 0.0) for word in row] for row in words.to_numpy()],
            x=[plain_label(str(name)) for name in words.columns],
            y=[plain_label(str(name)) for name in words.index],
            text=[[plain_label(str(word)) for word in row] for row in words.to_numpy()],
            texttemplate="%{text}",
            hovertemplate="%{y}, %{x}: %{text}<extra></extra>",
            **{"colorscale": SCALE, "zmin": -1, "zmax": 1, "showscale": False},
            **{"xgap": 2, "ygap": 2},
        )
    )
    figure.update_xaxes(type="category", side="top", showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", automargin=True, showgrid=False)
    return finish(figure, height=120 + 28 * len(words))
