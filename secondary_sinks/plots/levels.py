"""Sink levels: how often each pair of creation layer and lifetime occurs, as a heat map."""

import math
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.errors import SinkError
from secondary_sinks.plots.theme import KINDS, finish, layer_axis, rgba

_SCALE = [[0.0, rgba(KINDS["secondary"], 0.15)], [1.0, KINDS["secondary"]]]


def level_heatmap(cells: pd.DataFrame, n_layers: int | None = None) -> go.Figure:
    """log(1 + count) of secondary sinks by creation layer (x) and lifetime (y).

    `cells` is `Levels.cells_frame()`. The most frequent pair of each level carries the level's
    number. The axes run to `n_layers`, or as far as the data. Raises `SinkError` when there is no
    cell.
    """
    if cells.empty:
        raise SinkError("no secondary sink, so no levels to draw")
    size = n_layers or int((cells["l_start"] + cells["lifetime"]).max())
    figure = go.Figure(_map(cells, size))
    frequent = cells.sort_values("count", ascending=False).drop_duplicates("level")
    for cell in frequent[frequent["level"].notna()].to_dict("records"):
        figure.add_annotation(_number(cell))
    figure.update_xaxes(layer_axis(size), title_text="creation layer", showgrid=False)
    figure.update_yaxes(layer_axis(size + 1), title_text="lifetime (layers)", showgrid=False)
    return finish(figure, height=420).update_layout(margin_t=72)


def _map(cells: pd.DataFrame, size: int) -> go.Heatmap:
    """Lifetimes by creation layers; a pair that does not occur is a gap."""
    counts = np.full((size + 1, size), np.nan)
    hover = np.full(counts.shape, "", dtype=object)
    for cell in cells.to_dict("records"):
        place = cell["lifetime"], cell["l_start"]
        counts[place], hover[place] = math.log1p(cell["count"]), _hover(cell)
    return go.Heatmap(
        z=counts,
        hovertext=hover,
        hovertemplate="%{hovertext}<extra></extra>",
        hoverongaps=False,
        zmin=0,
        colorscale=_SCALE,
        colorbar=_colour_bar(int(cells["count"].max())),
    )


def _hover(cell: dict[Any, Any]) -> str:
    level = "no level" if math.isnan(cell["level"]) else f"level {cell['level']:.0f}"
    return (
        f"created at layer {cell['l_start']}, lifetime {cell['lifetime']}<br>"
        f"{cell['count']} sink(s) in {cell['n_texts']} text(s)<br>{level}"
    )


def _number(cell: dict[Any, Any]) -> dict[str, Any]:
    """The number of a level, beside its most frequent pair."""
    return {
        "x": int(cell["l_start"]),
        "y": int(cell["lifetime"]),
        "text": f"{cell['level']:.0f}",
        "showarrow": False,
        "xshift": -14,
        "font_size": 13,
    }


def _colour_bar(most: int) -> dict[str, Any]:
    """A horizontal bar above the map, in counts."""
    counts = [count for count in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000) if count <= most]
    return {
        "orientation": "h",
        "title": {"text": "sinks (logarithmic)", "side": "top", "font_size": 12},
        "x": 0.5,
        "y": 1.0,
        "yanchor": "bottom",
        "ypad": 4,
        "thickness": 10,
        "outlinewidth": 0,
        "tickvals": [math.log1p(count) for count in counts],
        "ticktext": [str(count) for count in counts],
    }
