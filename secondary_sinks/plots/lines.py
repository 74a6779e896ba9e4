"""Lines with interval bands, one for each group, in one or more panels."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from secondary_sinks.display import rounded
from secondary_sinks.plots.labels import format_number, plain_label
from secondary_sinks.plots.theme import (
    TEXT,
    above,
    band,
    colour_of,
    finish,
    log_axis,
    ramp,
    require_columns,
    rgba,
)

COLUMNS = ("panel", "group", "x", "value", "low", "high")


def interval_lines(
    frame: pd.DataFrame,
    panels: Mapping[str, tuple[str, str]],
    x_title: str,
    *,
    x_scale: str = "linear",
    x_ticks: Mapping[float, str] | None = None,
    marks: Sequence[float] = (),
    ordered: bool = False,
    height: int = 260,
) -> go.Figure:
    """Lines with bands: one row of the frame per panel, group and x.

    The frame has `panel`, `group`, `x` (numbers, or words in their order), `value`, and `low` and
    `high`, the ends of an interval (NaN: no band). `panels` maps each panel to its title and scale
    (linear or log), `x_ticks` maps values of x to their labels. `marks` are values of x with a
    dotted line through all panels. `ordered` groups, such as layers, get a ramp of colours.
    Raises `SinkError` for a frame without rows or without one of the columns.
    """
    require_columns(frame, COLUMNS, "line figure")
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    groups = list(dict.fromkeys(frame["group"]))
    named = [colour_of(group, index) for index, group in enumerate(groups)]
    colours = ramp(len(groups)) if ordered else named
    for row, (panel, (title, scale)) in enumerate(panels.items(), start=1):
        for group, colour in zip(groups, colours, strict=True):
            part = frame[(frame["panel"] == panel) & (frame["group"] == group)]
            figure.add_traces(_lines(part, group, colour, legend=row == 1), rows=row, cols=1)
        drawn = frame[frame["panel"] == panel]
        known = pd.concat([drawn[name] for name in ("value", "low", "high")])
        figure.update_yaxes(title_text=title, **_axis(known, scale), row=row, col=1)
    for mark in marks:
        figure.add_vline(x=mark, line={"dash": "dot", "width": 1, "color": TEXT})
    figure.update_xaxes(_axis(frame["x"], x_scale))
    if x_ticks is not None:
        figure.update_xaxes(tickvals=list(x_ticks), ticktext=list(x_ticks.values()))
    figure.update_xaxes(title_text=x_title, row=len(panels), col=1)
    return finish(above(figure, 1.01), height=90 + height * len(panels))


def _axis(x: "pd.Series[Any]", scale: str) -> dict[str, Any]:
    if not pd.api.types.is_numeric_dtype(x):
        return {"type": "category"}
    return log_axis(x) if scale == "log" else {"type": scale}


def _lines(part: pd.DataFrame, group: str, colour: str, legend: bool) -> list[go.Scatter]:
    """The band, then the line on top; empty if the panel has no such group."""
    if part.empty:
        return []
    name = plain_label(str(group))
    known = part[part["low"].notna() & part["high"].notna()]
    line = go.Scatter(
        x=_literal(part["x"]),
        y=part["value"],
        mode="lines+markers",
        line={"color": colour, "width": 2},
        marker={"size": 4},
        name=name,
        legendgroup=name,
        showlegend=legend,
        customdata=[
            f"{name} at {plain_label(_word(x))}: {format_number(value)} "
            f"[{format_number(low)}, {format_number(high)}]"
            for x, value, low, high in part[["x", "value", "low", "high"]].itertuples(index=False)
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )
    x, fill = _literal(known["x"]), rgba(colour, 0.18)
    return [*(band(x, known["low"], known["high"], fill, name) if len(known) else []), line]


def _literal(x: "pd.Series[Any]") -> list[Any]:
    """Numbers unchanged; strings so that plotly draws them literally."""
    return [plain_label(one) if isinstance(one, str) else one for one in x]


def _word(x: Any) -> str:
    return x if isinstance(x, str) else rounded(x, 4)
