"""Dots with whiskers: values and their intervals, one row each."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.errors import SinkError
from secondary_sinks.plots.labels import format_number, plain_label
from secondary_sinks.plots.theme import TEXT, above, colour_of, finish, row_axis, whiskers


def interval_dots(frame: pd.DataFrame, axis: str, *, line: float | None = 0.5) -> go.Figure:
    """One row per `row` of the frame, one dot with whiskers per `series` in it.

    The frame has the columns row, series, value, low and high; rows and series stay in its order. A
    missing interval has no whisker. `line` is a dotted line: the limit of the verdict. Raises
    `SinkError` without a value.
    """
    known = frame[frame["value"].notna()]
    if known.empty:
        raise SinkError("no value was measured, so there are no dots to draw")
    rows, series = list(dict.fromkeys(known["row"])), list(dict.fromkeys(known["series"]))
    figure = go.Figure()
    for place, name in enumerate(series):
        shift = (place - (len(series) - 1) / 2) * 0.22
        part = known[known["series"] == name]
        figure.add_trace(_dots(part, rows, shift, name, colour_of(name, place)))
    if line is not None:
        figure.add_vline(x=line, line={"dash": "dot", "width": 1, "color": TEXT})
    labels = [plain_label(row) for row in rows]
    figure.update_yaxes(row_axis(labels) | {"range": [len(rows) - 0.4, -0.6]})
    figure.update_xaxes(title_text=axis, zeroline=True)
    figure.update_layout(showlegend=len(series) > 1)
    return finish(above(figure, 1.02), height=120 + (20 + 12 * len(series)) * len(rows))


def _dots(part: pd.DataFrame, rows: list[str], shift: float, name: str, colour: str) -> go.Scatter:
    return go.Scatter(
        x=part["value"].tolist(),
        y=[rows.index(row) + shift for row in part["row"]],
        error_x=whiskers(
            part["value"], part["low"], part["high"], thickness=1.6, width=0, color=colour
        ),
        mode="markers",
        marker={"size": 9, "color": colour},
        name=plain_label(name),
        customdata=[_hover(row) for row in part.to_dict("records")],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _hover(row: dict[Any, Any]) -> str:
    low, high = format_number(row["low"]), format_number(row["high"])
    label = plain_label(f"{row['row']}, {row['series']}")
    return f"{label}<br>{format_number(row['value'])}, interval {low} to {high}"
