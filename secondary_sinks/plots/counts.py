"""Counts, or shares, by what they are of, as horizontal bars."""

import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.errors import SinkError
from secondary_sinks.plots.labels import plain_label, token_label
from secondary_sinks.plots.theme import colour_of, finish

MOST = 30
COLUMNS = ("what", "group", "count")


def count_bars(frame: pd.DataFrame, x_title: str, *, tokens: bool = False) -> go.Figure:
    """Bars of `count` by `what`, stacked by `group`, the longest on top; at most 30.

    `what` and `group` are words that may hold anything; where `what` are `tokens`, white space in
    them is drawn too. Raises `SinkError` for a frame without rows or without one of the columns.
    """
    missing = [name for name in COLUMNS if name not in frame]
    if missing or frame.empty:
        wrong = f"no column {missing[0]!r}" if missing else "no row"
        raise SinkError(f"there is {wrong} in the frame of a figure of counts; nothing to draw")
    order = frame.groupby("what", sort=True)["count"].sum().sort_values(ascending=False)
    rows = {what: place for place, what in enumerate(order.index[:MOST])}
    kept = frame[frame["what"].isin(list(rows))]
    shown = token_label if tokens else plain_label
    figure = go.Figure()
    for index, (group, part) in enumerate(kept.groupby("group", sort=False)):
        words = zip(part["what"], part["count"], strict=True)
        figure.add_bar(
            x=part["count"],
            y=[rows[what] for what in part["what"]],
            orientation="h",
            name=plain_label(str(group)),
            marker_color=colour_of(str(group), index),
            customdata=[
                f"{shown(str(what))}, {plain_label(str(group))}: {n:g}" for what, n in words
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )
    labels = [shown(str(what)) for what in rows]
    figure.update_yaxes(tickvals=list(rows.values()), ticktext=labels, showgrid=False)
    figure.update_yaxes(zeroline=False)
    figure.update_yaxes(range=[len(rows) - 0.5, -0.5])
    figure.update_xaxes(title_text=x_title)
    figure.update_layout(barmode="stack", bargap=0.25, showlegend=kept["group"].nunique() > 1)
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"}
    figure.update_layout(legend=legend)
    return finish(figure, height=150 + 22 * len(rows))
