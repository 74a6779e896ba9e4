"""Scatter plots of tokens by group, in a grid of panels."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from secondary_sinks.plots.labels import plain_label, token_label
from secondary_sinks.plots.theme import above, colour_of, finish, log_axis, require_columns

COLUMNS = ("row", "col", "group", "x", "y", "label")


def scatter_panels(
    frame: pd.DataFrame,
    *,
    x_title: str | Sequence[str] = "",
    y_title: str = "",
    x_scale: str = "linear",
    ticks: bool = True,
    titles: Mapping[tuple[str, str], str] | None = None,
    side: int = 230,
) -> go.Figure:
    """One point per row of the frame, coloured by `group`, in the panel at (`row`, `col`).

    Panels are in the order in which they first occur. `titles` gives their titles by (row, col);
    the default is both names. `x_title` is one title for all columns, or one for each. `label` is
    the hover text of a point. Without `ticks`, axes have no numbers (t-SNE has no unit).
    Each panel has its own scale. Raises `SinkError` for a frame without rows or without one of the
    columns.
    """
    require_columns(frame, COLUMNS, "scatter plot")
    rows, cols = (list(dict.fromkeys(frame[name])) for name in ("row", "col"))
    named = titles or {at: ", ".join(word for word in at if word) for at in product(rows, cols)}
    heads = [plain_label(named.get(at, "")) for at in product(rows, cols)]
    figure = make_subplots(
        rows=len(rows), cols=len(cols), subplot_titles=heads, vertical_spacing=0.09
    )
    groups = list(dict.fromkeys(frame["group"]))
    for number, (row, col) in enumerate(product(rows, cols)):
        part = frame[(frame["row"] == row) & (frame["col"] == col)]
        at: dict[str, Any] = {"row": number // len(cols) + 1, "col": number % len(cols) + 1}
        for index, group in enumerate(groups):
            points = part[part["group"] == group]
            figure.add_trace(_points(points, group, index, legend=number == 0), **at)
    for col, name in enumerate(cols, start=1):
        x = frame.loc[frame["col"] == name, "x"]
        figure.update_xaxes(log_axis(x) if x_scale == "log" else {"type": x_scale}, col=col)
    figure.update_xaxes(showticklabels=ticks)
    figure.update_yaxes(showticklabels=ticks)
    below = [x_title] * len(cols) if isinstance(x_title, str) else x_title
    for col, words in enumerate(below, start=1):
        figure.update_xaxes(title_text=words, row=len(rows), col=col)
    figure.update_yaxes(title_text=y_title, col=1)
    figure.update_annotations(font_size=12)
    return finish(above(figure, 1.06), height=120 + side * len(rows)).update_layout(margin_t=84)


def _points(points: pd.DataFrame, group: str, index: int, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=points["x"],
        y=points["y"],
        mode="markers",
        marker={"size": 7, "opacity": 0.75, "color": colour_of(group, index)},
        name=plain_label(str(group)),
        legendgroup=plain_label(str(group)),
        showlegend=legend,
        customdata=[token_label(str(label)) for label in points["label"]],
        hovertemplate="%{customdata}<br>%{x:.3g}, %{y:.3g}<extra></extra>",
    )
