"""What ablating each layer takes from sinks beyond their controls, as bars."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from secondary_sinks.errors import SinkError
from secondary_sinks.plots.labels import format_number
from secondary_sinks.plots.theme import LOST, TEXT, finish, layer_axis
from secondary_sinks.types import LayerEffect


def layer_effect_bars(rows: Sequence[LayerEffect]) -> go.Figure:
    """Share of the sinks' attention mass lost beyond controls, by ablated layer, with intervals.

    A bar without an interval (fewer than two texts) has no whisker. The dotted line is at one
    half. Raises `SinkError` when there is no row.
    """
    if not rows:
        raise SinkError("no layer was ablated at a secondary sink with controls: no bars to draw")
    figure = go.Figure(
        go.Bar(
            x=[row.layer for row in rows],
            y=[row.lost for row in rows],
            error_y=_whiskers(rows),
            marker_color=LOST,
            customdata=[_hover(row) for row in rows],
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    figure.add_hline(y=0.5, line={"dash": "dot", "width": 1, "color": TEXT})
    figure.update_layout(bargap=0.3)
    figure.update_xaxes(layer_axis(max(row.layer for row in rows) + 1), showgrid=False)
    figure.update_xaxes(title_text="layer of the ablated MLP")
    figure.update_yaxes(title_text="mass lost beyond controls", tickformat=".0%")
    return finish(figure, height=300).update_layout(margin_t=12)


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
