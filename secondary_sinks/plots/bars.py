"""Bars of the mass that sinks lose beyond their controls, by ablated layer."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from secondary_sinks.errors import SinkError
from secondary_sinks.plots.labels import format_number
from secondary_sinks.plots.theme import (
    IMPOSSIBLE,
    IMPOSSIBLE_NAME,
    LOST,
    TEXT,
    below,
    colour_of,
    finish,
    layer_axis,
)
from secondary_sinks.types import LayerEffect


def layer_effect_bars(rows: Sequence[LayerEffect], later: Sequence[LayerEffect] = ()) -> go.Figure:
    """Share of the sinks' attention mass lost beyond controls, by ablated layer, with intervals.

    `rows` are of the sinks that a layer could have ended, `later` of those that were there already
    and that it could have weakened; layers at which nothing was possible are hatched. A bar without
    an interval (too few texts) has no whisker. Raises `SinkError` when there is no row.
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
        below(figure, -0.22)
    figure.update_layout(bargap=0.3)
    figure.update_xaxes(layer_axis(max(row.layer for row in rows) + 1), showgrid=False)
    figure.update_xaxes(title_text="layer of the ablated MLP")
    figure.update_yaxes(title_text="mass lost beyond controls", tickformat=".0%")
    finish(figure, height=300 if len(figure.data) == 1 else 330)
    return figure.update_layout(margin_t=12, margin_b=48 if len(figure.data) == 1 else 78)


def _bars(rows: Sequence[LayerEffect], name: str, colour: str) -> go.Bar:
    return go.Bar(
        x=[row.layer for row in rows],
        y=[row.lost for row in rows],
        error_y=_whiskers(rows),
        marker_color=colour,
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


def _whiskers(rows: Sequence[LayerEffect]) -> dict[str, Any]:
    return {
        "array": [row.high - row.lost for row in rows],
        "arrayminus": [row.lost - row.low for row in rows],
        "symmetric": False,
        "color": TEXT,
        "thickness": 1.2,
        "width": 3,
    }


def _hover(row: LayerEffect) -> str:
    low, high = format_number(row.low, ".0%"), format_number(row.high, ".0%")
    return (
        f"layer {row.layer}: {row.lost:.1%} lost<br>interval {low} to {high}<br>"
        f"sinks lose {row.sinks_lost:.1%}, controls {row.controls_lost:.1%}<br>"
        f"ends {row.removed:.0%} of the sinks, prolongs {row.prolonged:.0%}<br>"
        f"{row.n_sinks} sinks in {row.n_texts} texts"
    )
