"""Heat map of sink levels: counts by creation layer and lifetime."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from secondary_sinks.display import count
from secondary_sinks.errors import SinkError
from secondary_sinks.plots.labels import plain_label
from secondary_sinks.plots.theme import KINDS, colour_bar, finish, layer_axis, rgba
from secondary_sinks.types import Levels

_SCALE = [[0.0, rgba(KINDS["secondary"], 0.15)], [1.0, rgba(KINDS["secondary"], 0.75)]]
_MARGIN = 2
"""Layers that are shown on each side of the cells."""


def level_heatmap(cells: pd.DataFrame | Levels, n_layers: int | None = None) -> go.Figure:
    """log(1 + count) of secondary sinks by creation layer (x) and lifetime (y).

    `cells` is a `Levels`, or its `cells_frame()`. Each cell tells its count; the most frequent pair
    of each level is named. The axes show the layers around the data, none beyond `n_layers`. Raises
    `SinkError` without a cell.
    """
    cells = cells.cells_frame() if isinstance(cells, Levels) else cells
    if cells.empty:
        raise SinkError("no secondary sink, so no levels to draw")
    size = _size(cells, n_layers)
    figure = go.Figure(_map(cells, size, int(cells["count"].max())))
    figure.update_traces(texttemplate="%{text}", colorbar_len=0.6)
    for cell in _most_frequent(cells):
        figure.add_annotation(_number(cell) | {"text": f"level {cell['level']:.0f}"})
    axis = _near(cells["l_start"], size)
    figure.update_xaxes(axis, title_text="creation layer", showgrid=False)
    axis = _near(cells["lifetime"], size + 1)
    figure.update_yaxes(axis, title_text="lifetime (layers)", showgrid=False)
    first, last = axis["range"]
    height = 140 + min(26 * int(last - first), 240)
    return finish(figure, height=height).update_layout(margin_t=72)


def _size(cells: pd.DataFrame, n_layers: int | None) -> int:
    """Number of layers; where it is not known, as many as the cells need."""
    needed = 1 if cells.empty else int((cells["l_start"] + cells["lifetime"]).max())
    return n_layers or needed


def _near(values: "pd.Series[Any]", size: int) -> dict[str, Any]:
    """An axis that shows the values and a margin, within 0 to `size` - 1."""
    low, high = max(int(values.min()) - _MARGIN, 0), min(int(values.max()) + _MARGIN, size - 1)
    return layer_axis(high - low + 1) | {"range": [low - 0.5, high + 0.5]}


def level_heatmaps(named: Mapping[str, tuple[pd.DataFrame, int | None]]) -> go.Figure:
    """`level_heatmap` of several models side by side, with one colour scale.

    By model: its cells and its number of layers (None: as far as the data). A model without a cell
    has an empty panel that says so. Raises `SinkError` if no model has any.
    """
    if all(cells.empty for cells, _ in named.values()):
        raise SinkError("no secondary sink, so no levels to draw")
    figure = make_subplots(cols=len(named), subplot_titles=[plain_label(name) for name in named])
    most = max(int(cells["count"].max()) for cells, _ in named.values() if not cells.empty)
    for col, (cells, n_layers) in enumerate(named.values(), start=1):
        size = _size(cells, n_layers)
        figure.add_trace(_map(cells, size, most, bar=col == 1), row=1, col=col)
        for cell in _most_frequent(cells):
            figure.add_annotation(_number(cell), row=1, col=col)
        if cells.empty:
            words = {"text": "no secondary sink", "showarrow": False, "x": size / 2, "y": size / 2}
            figure.add_annotation(words, row=1, col=col)
        axis = {"title_text": "creation layer", "showgrid": False}
        figure.update_xaxes(layer_axis(size), **axis, row=1, col=col)
        figure.update_yaxes(layer_axis(size + 1), showgrid=False, row=1, col=col)
    figure.update_yaxes(title_text="lifetime (layers)", col=1)
    figure.update_traces(colorbar_y=1.09)  # above the names of the models
    return finish(figure, height=470).update_layout(margin_t=120)


def _most_frequent(cells: pd.DataFrame) -> list[dict[Any, Any]]:
    """The most frequent pair of each level."""
    frequent = cells.sort_values("count", ascending=False).drop_duplicates("level")
    return frequent[frequent["level"].notna()].to_dict("records")


def _map(cells: pd.DataFrame, size: int, most: int, bar: bool = True) -> go.Heatmap:
    """Lifetime by creation layer; pairs that do not occur are gaps. The scale ends at `most`."""
    ticks = [count for count in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000) if count <= most]
    named = {math.log1p(count): str(count) for count in ticks}
    counts = np.full((size + 1, size), np.nan)
    hover, text = (np.full(counts.shape, "", dtype=object) for _ in range(2))
    for cell in cells.to_dict("records"):
        place = cell["lifetime"], cell["l_start"]
        counts[place], hover[place] = math.log1p(cell["count"]), _hover(cell)
        text[place] = f"{cell['count']:,}"
    return go.Heatmap(
        z=counts,
        hovertext=hover,
        text=text,
        hovertemplate="%{hovertext}<extra></extra>",
        hoverongaps=False,
        zmin=0,
        zmax=math.log1p(most),
        colorscale=_SCALE,
        showscale=bar,
        colorbar=colour_bar("sinks (logarithmic)", named),
    )


def _hover(cell: dict[Any, Any]) -> str:
    level = "no level" if math.isnan(cell["level"]) else f"level {cell['level']:.0f}"
    return (
        f"created at layer {cell['l_start']}, lifetime {cell['lifetime']}<br>"
        f"{count(cell['count'], 'sink')} in {count(cell['n_texts'], 'text')}<br>{level}"
    )


def _number(cell: dict[Any, Any]) -> dict[str, Any]:
    """The number of a level, next to its most frequent pair: at its left, or else its right."""
    left = int(cell["l_start"]) > 0
    return {
        "x": int(cell["l_start"]) + (-0.5 if left else 0.5),
        "xanchor": "right" if left else "left",
        "y": int(cell["lifetime"]),
        "text": f"{cell['level']:.0f}",
        "showarrow": False,
        "font_size": 13,
    }
