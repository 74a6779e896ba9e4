"""Bars of the mass that sinks lose beyond their controls, by ablated layer."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.display import count
from secondary_sinks.errors import SinkError
from secondary_sinks.plots.labels import format_number, plain_label, token_label
from secondary_sinks.plots.theme import (
    IMPOSSIBLE,
    IMPOSSIBLE_NAME,
    LOST,
    TEXT,
    above,
    below,
    colour_of,
    finish,
    layer_axis,
    require_columns,
    rgba,
    row_axis,
    whiskers,
)
from secondary_sinks.types import LayerEffect


def layer_effect_bars(
    rows: Sequence[LayerEffect],
    later: Sequence[LayerEffect] = (),
    line: float | None = None,
) -> go.Figure:
    """Share of the sinks' attention mass lost beyond controls, by ablated layer, with intervals.

    `rows` are of the sinks that a layer could have ended, `later` of those that were there already
    and that it could have weakened; layers at which nothing was possible are hatched. A bar without
    an interval (too few texts) has no whisker. A dotted line marks the height `line`. Raises
    `SinkError` when there is no row.
    """
    if not rows:
        raise SinkError(
            "no layer was ablated at a secondary sink with a control, so there are no bars to draw"
        )
    able = [row for row in rows if row.n_sinks]
    weakens = [row for row in later if row.n_sinks]
    figure = go.Figure(_bars(able, "can end the sink", LOST))
    if weakens:
        figure.add_trace(_bars(weakens, "can only weaken it", colour_of("ordinary", 0)))
    reached = {row.layer for row in [*able, *weakens]}
    too_late = [row.layer for row in rows if row.layer not in reached]
    if too_late:
        figure.add_trace(_hatched(too_late))
    if len(figure.data) > 1:
        below(figure)
    if line is not None:
        figure.add_hline(y=line, line={"dash": "dot", "width": 1.5, "color": TEXT})
    figure.update_layout(bargap=0.3)
    figure.update_xaxes(layer_axis(max(row.layer for row in rows) + 1), showgrid=False)
    figure.update_xaxes(title_text="layer of the ablated MLP")
    figure.update_yaxes(title_text="mass lost beyond controls", tickformat=".0%")
    finish(figure, height=300 if len(figure.data) == 1 else 337)
    return figure.update_layout(margin_t=12, margin_b=48 if len(figure.data) == 1 else 105)


def _bars(rows: Sequence[LayerEffect], name: str, colour: str) -> go.Bar:
    return go.Bar(
        x=[row.layer for row in rows],
        y=[row.lost for row in rows],
        error_y=whiskers(
            [row.lost for row in rows],
            [row.low for row in rows],
            [row.high for row in rows],
            **{"color": TEXT, "thickness": 2, "width": 4},
        ),
        marker={"color": rgba(colour, 0.45), "line": {"color": colour, "width": 1}},
        name=name,
        customdata=[_hover(row) for row in rows],
        hovertemplate="%{customdata}<extra></extra>",
    )


def _hatched(layers: Sequence[int]) -> go.Bar:
    pattern = {"shape": "/", "fgcolor": IMPOSSIBLE, "bgcolor": "rgba(0,0,0,0)", "size": 6}
    return go.Bar(
        x=list(layers),
        y=[1.0] * len(layers),
        width=1.0,
        offset=-0.5,
        marker={"color": IMPOSSIBLE, "pattern": pattern, "line_width": 0},
        name=IMPOSSIBLE_NAME,
        hoverinfo="skip",
    )


def _hover(row: LayerEffect) -> str:
    low, high = format_number(row.low, ".0%"), format_number(row.high, ".0%")
    return (
        f"layer {row.layer}: {row.lost:.1%} lost<br>interval {low} to {high}<br>"
        f"sinks lose {row.sinks_lost:.1%}, controls {row.controls_lost:.1%}<br>"
        f"ends {row.removed:.0%} of the sinks, prolongs {row.prolonged:.0%}<br>"
        f"{count(row.n_sinks, 'sink')} in {count(row.n_texts, 'text')}"
    )


MOST = 30
COLUMNS = ("what", "group", "count")


def count_bars(
    frame: pd.DataFrame,
    x_title: str,
    *,
    tokens: bool = False,
    names: Mapping[str, str] | None = None,
) -> go.Figure:
    """Bars of `count` by `what`, stacked by `group`, the longest on top; at most 30.

    `what` and `group` may be any strings; with `tokens`, `what` is in quotes and its white space is
    visible. `names` maps groups to what the legend calls them.
    Raises `SinkError` for a frame without rows or without one of the columns.
    """
    require_columns(frame, COLUMNS, "bar figure")
    order = frame.groupby("what", sort=True)["count"].sum().sort_values(ascending=False)
    rows = {what: place for place, what in enumerate(order.index[:MOST])}
    drawn = frame[frame["what"].isin(list(rows))]
    label = token_label if tokens else plain_label
    figure = go.Figure()
    for index, (group, part) in enumerate(drawn.groupby("group", sort=False)):
        words = zip(part["what"], part["count"], strict=True)
        name = plain_label((names or {}).get(str(group), str(group)))
        figure.add_bar(
            x=part["count"],
            y=[rows[what] for what in part["what"]],
            orientation="h",
            name=name,
            marker_color=colour_of(str(group), index),
            customdata=[f"{label(str(what))}, {name}: {n:g}" for what, n in words],
            hovertemplate="%{customdata}<extra></extra>",
        )
    labels = [f"'{label(str(what))}'" if tokens else label(str(what)) for what in rows]
    figure.update_yaxes(row_axis(labels), ticks="outside", ticklen=6, tickcolor="rgba(0,0,0,0)")
    figure.update_xaxes(title_text=x_title)
    figure.update_layout(barmode="stack", bargap=0.25, showlegend=drawn["group"].nunique() > 1)
    return finish(above(figure, 1.02, traceorder="normal"), height=150 + 22 * len(rows))
