"""Lines with interval bands, one for each group, in one or more panels."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from secondary_sinks.display import rounded
from secondary_sinks.plots.labels import format_number, plain_label
from secondary_sinks.plots.theme import (
    FURTHER,
    TEXT,
    above,
    band,
    colour_of,
    finish,
    log_axis,
    ramp,
    require_columns,
    rgba,
    whiskers,
)

COLUMNS = ("panel", "group", "x", "value", "low", "high")
FEW = 12
"""Most values of x at which whiskers stand side by side, and at which each layer has a tick."""
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star")


@dataclass(frozen=True, slots=True)
class Look:
    """How the line of a group is drawn, where its order among the groups does not decide it."""

    words: str = ""
    """Its name in the legend."""
    colour: int | None = None
    """Its place among the colours of groups; groups with the same one should differ in `dash`."""
    dash: str = "solid"
    """solid, dot or dash."""


def interval_lines(
    frame: pd.DataFrame,
    panels: Mapping[str, tuple[str, str]],
    x_title: str,
    *,
    x_scale: str = "linear",
    x_ticks: Mapping[float, str] | None = None,
    marks: Sequence[float] = (),
    ordered: bool = False,
    looks: Mapping[str, Look] | None = None,
    height: int = 260,
) -> go.Figure:
    """Lines with bands: one row of the frame per panel, group and x.

    The frame has `panel`, `group`, `x` (numbers, or words in their order), `value`, and `low` and
    `high`, the ends of an interval (NaN: no band). `panels` maps each panel to its title and scale
    (linear or log), `x_ticks` maps values of x to their labels. `marks` are values of x with a
    dotted line through all panels. `ordered` groups, such as layers, get a ramp of colours; `looks`
    gives groups other names, colours or dashes. No interval hides another: bands of several groups
    have outlines, and three groups or more at a few numbers x have whiskers side by side instead.
    Raises `SinkError` for a frame without rows or without one of the columns.
    """
    require_columns(frame, COLUMNS, "line figure")
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.06)
    groups = list(dict.fromkeys(frame["group"]))
    named = [colour_of(group, index) for index, group in enumerate(groups)]
    colours = ramp(len(groups)) if ordered else named
    step = 0.0 if ordered or x_scale == "log" else _step(frame, len(groups))
    styles = [
        _style((looks or {}).get(group, Look()), str(group), index, colour, len(groups), step)
        for index, (group, colour) in enumerate(zip(groups, colours, strict=True))
    ]
    for row, (panel, (title, scale)) in enumerate(panels.items(), start=1):
        rows = frame[frame["panel"] == panel]
        for group, style in zip(groups, styles, strict=True):
            part = rows[rows["group"] == group]
            figure.add_traces(_lines(part, style, legend=row == 1), rows=row, cols=1)
        axis = log_axis(rows[["value", "low", "high"]]) if scale == "log" else {"type": scale}
        figure.update_yaxes(axis, title_text=title, row=row, col=1)
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
    few = (x % 1 == 0).all() and x.max() - x.min() <= FEW  # no tick between whole numbers
    return log_axis(x) if scale == "log" else {"type": scale, **({"dtick": 1} if few else {})}


def _step(frame: pd.DataFrame, n_groups: int) -> float:
    """Distance between the whiskers of neighbouring groups; 0 where intervals are bands.

    Lines of many points would be displaced where they are steep.
    """
    known = frame[frame["low"].notna() & frame["high"].notna()]["x"].drop_duplicates()
    if n_groups < 3 or not 2 <= len(known) <= FEW or not pd.api.types.is_numeric_dtype(known):
        return 0.0
    return 0.12 * float(known.sort_values().diff().min())


@dataclass(frozen=True, slots=True)
class _Style:
    name: str
    colour: str
    dash: str
    symbol: str
    outlined: bool
    shift: float
    """Of the whiskers, along x; NaN: a band."""


def _style(look: Look, group: str, index: int, colour: str, number: int, step: float) -> _Style:
    return _Style(
        name=plain_label(look.words or group),
        colour=colour if look.colour is None else FURTHER[look.colour % len(FURTHER)],
        dash=look.dash,
        symbol=SYMBOLS[index % len(SYMBOLS)] if number <= len(SYMBOLS) else SYMBOLS[0],
        outlined=number > 1,
        shift=step * (index - (number - 1) / 2) if step else math.nan,
    )


def _lines(part: pd.DataFrame, style: _Style, legend: bool) -> list[go.Scatter]:
    """The band, then the line on top, or with whiskers; empty if the panel has no such group."""
    if part.empty:
        return []
    name, colour = style.name, style.colour
    known = part[part["low"].notna() & part["high"].notna()]
    outline = {"width": 1 if style.outlined else 0, "color": rgba(colour, 0.55), "dash": "dot"}
    ends = (_literal(known["x"]), known["low"], known["high"])
    filled = band(*ends, rgba(colour, 0.1 if style.outlined else 0.18), name, outline)
    look: dict[str, Any] = {"thickness": 1.4, "width": 3, "color": rgba(colour, 0.8)}
    bars = whiskers(part["value"], part["low"], part["high"], **look)
    line = go.Scatter(
        x=_literal(part["x"]) if math.isnan(style.shift) else (part["x"] + style.shift).tolist(),
        y=part["value"],
        error_y=None if math.isnan(style.shift) else bars,
        mode="lines+markers",
        line={"color": colour, "width": 2, "dash": style.dash},
        marker={"size": 6 if style.outlined else 4, "symbol": style.symbol},
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
    return [*(filled if len(known) and math.isnan(style.shift) else []), line]


def _literal(x: "pd.Series[Any]") -> list[Any]:
    """Numbers unchanged; strings so that plotly draws them literally."""
    return [plain_label(one) if isinstance(one, str) else one for one in x]


def _word(x: Any) -> str:
    return x if isinstance(x, str) else rounded(x, 4)
