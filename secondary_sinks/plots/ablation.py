"""What each single-layer ablation takes from each sink, as a heat map."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.plots.cells import TOKEN, grid_of, shares, strongest
from secondary_sinks.plots.labels import format_number, row_label, token_label
from secondary_sinks.plots.theme import LOSS_SCALE, finish, layer_axis

_NUMBERS = {
    "lifetime": ("lifetime", "g"),
    "mass": ("mass", ".2g"),
    "norm": ("norm", ".3g"),
    "alignment_centred": ("alignment", ".2f"),
}


def ablation_heatmap(effects: pd.DataFrame, role: str = "sink") -> go.Figure:
    """Share of attention mass lost (colour) by edited token (row) and ablated layer (column).

    Rows run from the strongest sink down; at most 60 are drawn. For `role="control"` the loss
    is in units of the matched sink's clean mass, in the order of the sinks, so that the two
    maps compare cell by cell. Colour is clipped to [-1, 1]; the hover text is not.
    Raises `SinkError` when there is no such cell, or for a mix of edits or effects.
    """
    cells = shares(effects, role)
    rows = strongest(cells)
    layers = range(int(effects["layer"].max()) + 1)
    figure = go.Figure(_map(cells.merge(rows[TOKEN], on=TOKEN), rows, layers, role))
    figure.update_yaxes(
        range=[len(rows) - 0.5, -0.5],
        tickfont_size=10,
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=_labels(rows))
    figure.update_xaxes(layer_axis(len(layers)), title_text="layer of the ablated MLP")
    figure.update_xaxes(showgrid=False)
    return _headed(finish(figure, height=140 + 15 * len(rows)), _head(cells, rows, role))


def _map(cells: pd.DataFrame, rows: pd.DataFrame, layers: range, role: str) -> go.Heatmap:
    """Rows by layers; a cell that was not run is a gap."""
    hover = grid_of(cells.assign(hover=_hover(cells)), rows, layers, "hover")
    return go.Heatmap(
        x=list(layers),
        y=list(range(len(rows))),
        z=grid_of(cells, rows, layers, "share").astype(float).clip(-1, 1),
        hovertext=hover.fillna(""),
        hovertemplate="%{hovertext}<extra></extra>",
        hoverongaps=False,
        zmin=-1,
        zmax=1,
        colorscale=LOSS_SCALE,
        ygap=1,
        colorbar=_colour_bar(role),
    )


def _labels(rows: pd.DataFrame) -> list[str]:
    named = zip(rows["token"], rows["pos"], rows["text_id"], strict=True)
    return [row_label(token, pos, text_id) for token, pos, text_id in named]


def _hover(cells: pd.DataFrame) -> np.ndarray:
    """What a cell says when pointed at: the token, then clean and edited values."""
    return np.array([_hover_of(cell) for cell in cells.to_dict("records")], dtype=object)


def _hover_of(cell: dict[Any, Any]) -> str:
    head = f"{token_label(cell['token'])} at {cell['pos']} in {token_label(cell['text_id'])}"
    if cell["role"] == "control":
        head += f"<br>control ({cell['kind']}) of the sink at {cell['sink_pos']}"
    lines = [head, f"layer {cell['layer']}: {format_number(cell['share'], '.1%')} lost"]
    for name, (label, form) in _NUMBERS.items():
        clean, edited = (
            format_number(float(cell[f"{name}_{run}"]), form) for run in ("clean", "edited")
        )
        lines.append(f"{label} {clean} → {edited}")
    return "<br>".join(lines)


def _colour_bar(role: str) -> dict[str, Any]:
    """A horizontal bar above the map."""
    unit = "share of mass lost" if role == "sink" else "mass lost ÷ mass of the sink"
    return {
        "orientation": "h",
        "title": {"text": unit, "side": "top", "font_size": 12},
        "x": 0.5,
        "y": 1.0,
        "yanchor": "bottom",
        "ypad": 4,
        "thickness": 10,
        "outlinewidth": 0,
        "tickvals": [-1, 0, 1],
        "ticktext": ["-100%", "0", "100%"],
    }


def _head(cells: pd.DataFrame, rows: pd.DataFrame, role: str) -> str:
    """How many rows there are, and whether some were left out."""
    total = len(cells.drop_duplicates(TOKEN))
    if total == len(rows):
        return f"{total} {role}{'s' if total != 1 else ''}"
    if role == "sink":
        return f"the {len(rows)} strongest of {total} sinks"
    return f"{len(rows)} of {total} controls, of the strongest sinks"


def _headed(figure: go.Figure, head: str) -> go.Figure:
    """A line above the colour bar. Not a title: plotly lets colour bars push titles away."""
    figure.add_annotation(
        text=head,
        showarrow=False,
        font_size=13,
        **{"xref": "paper", "x": 1, "xanchor": "right"},
        **{"yref": "paper", "y": 1, "yanchor": "bottom", "yshift": 54},
    )
    return figure.update_layout(margin_t=88)
