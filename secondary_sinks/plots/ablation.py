"""Heat map of the attention mass that each sink loses in each single-layer ablation."""

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.display import Results, as_frame, rounded
from secondary_sinks.errors import SinkError
from secondary_sinks.plots.labels import format_number, row_label, token_label
from secondary_sinks.plots.theme import (
    LOSS_SCALE,
    TEXT,
    below,
    colour_bar,
    finish,
    impossible_cells,
    impossible_key,
    layer_axis,
    row_axis,
)
from secondary_sinks.types import mass_lost

MOST_ROWS, ROW_HEIGHT = 30, 17
"""Rows of a map, and their height in pixels, enough for their labels."""
LEAST_HEIGHT = 34
"""Height of all rows in pixels, at least."""
LEGEND_HEIGHT = 40
"""Two lines of a legend, on a narrow page."""
TOKEN = ["text_id", "sink_pos", "pos"]
"""Columns that identify an edited token; a control belongs to a sink."""


def loss_shares(effects: pd.DataFrame, role: str) -> pd.DataFrame:
    """Cells of a role, with `unit` (clean mass of the sink) and `share` (lost mass / unit)."""
    for column in ("edit", "effect"):
        if effects[column].nunique() > 1:
            raise SinkError(
                f"expected one {column} for a heat map; select one of the frame's first"
            )
    sinks = effects[effects["role"] == "sink"].drop_duplicates(["text_id", "sink_pos"])
    unit = sinks.set_index(["text_id", "sink_pos"])["mass_clean"].rename("unit")
    cells = effects[effects["role"] == role].join(unit, on=["text_id", "sink_pos"])
    if cells["unit"].notna().sum() == 0:
        raise SinkError(f"expected cells with role {role!r} whose sink has a known mass; got none")
    return cells.assign(share=mass_lost(cells["mass_clean"], cells["mass_edited"], cells["unit"]))


def strongest_rows(cells: pd.DataFrame) -> pd.DataFrame:
    """One row per token, in descending order of its sink's clean mass; at most `MOST_ROWS`."""
    tokens = cells.drop_duplicates(TOKEN)
    ordered = tokens.sort_values(["unit", *TOKEN], ascending=[False, True, True, True])
    return ordered.head(MOST_ROWS).reset_index(drop=True)


def height_of(rows: pd.DataFrame) -> int:
    """Height of the rows of a map in pixels."""
    return max(ROW_HEIGHT * len(rows), LEAST_HEIGHT)


def grid_of(cells: pd.DataFrame, rows: pd.DataFrame, layers: range, value: str) -> pd.DataFrame:
    """`value` as a table of rows by layers; missing if a cell was not run."""
    grid = cells.pivot(index=TOKEN, columns="layer", values=value)
    return grid.reindex(index=pd.MultiIndex.from_frame(rows[TOKEN]), columns=list(layers))


_NUMBERS = {
    "lifetime": ("lifetime", "g"),
    "mass": ("mass", ".2g"),
    "norm": ("norm", ".3g"),
    "alignment_centred": ("alignment", ".2f"),
}
_TOO_LATE = {
    "end": "too late to end the sink, which already exists at these layers",
    "weaken": "too late to end the sink, or to take a tenth of its attention",
    "loss": "too late to take any attention: after the sink's last layer",
}


def ablation_heatmap(effects: pd.DataFrame | Results, role: str = "sink") -> go.Figure:
    """Share of attention mass lost (colour) by edited token (row) and ablated layer (column).

    Rows run from the strongest sink down, at most 30. With `role="control"`, the loss is in units
    of the matched sink's clean mass and rows are in the order of the sinks, so that both maps
    compare cell by cell. Colour is clipped to [-1, 1]; the hover text is not. Cells whose edit
    comes after the sink's last layer could not have taken anything: they are grey. A line in each
    row marks the creation layer: an edit to the right of it cannot keep the sink from arising.
    Raises `SinkError` without such a cell, or for a mix of edits or effects.
    """
    effects = as_frame(effects)
    cells = loss_shares(effects, role)
    rows = strongest_rows(cells)
    layers = range(int(effects["layer"].max()) + 1)
    drawn = cells.merge(rows[TOKEN], on=TOKEN)
    figure = go.Figure(_map(drawn, rows, layers, role))
    _mark_impossible(figure, drawn, rows, layers)
    named = zip(rows["token"], rows["pos"], rows["text_id"], strict=True)
    labels = [row_label(token, pos, text_id) for token, pos, text_id in named]
    figure.update_yaxes(row_axis(labels), tickfont_size=12)
    figure.update_xaxes(layer_axis(len(layers)), title_text="layer of the ablated MLP")
    figure.update_xaxes(showgrid=False)
    finish(figure, height=140 + LEGEND_HEIGHT + height_of(rows))
    figure.update_layout(margin_b=48 + LEGEND_HEIGHT)
    return _with_heading(figure, _head(cells, rows, role))


def is_impossible(cells: pd.DataFrame) -> "pd.Series[bool]":
    """Whether a cell could not have lost anything; tables of earlier versions do not say."""
    known = cells["impossible"] if "impossible" in cells else pd.Series("unknown", cells.index)
    return known == "loss"


def _mark_impossible(
    figure: go.Figure, cells: pd.DataFrame, rows: pd.DataFrame, layers: range
) -> None:
    """Grey cells, and the creation layers, each with an entry of the legend."""
    grey = cells[is_impossible(cells)]
    if not grey.empty:
        grey = grey.assign(hover=[_why_impossible(cell) for cell in grey.to_dict("records")])
        figure.add_trace(impossible_cells(grid_of(grey, rows, layers, "hover")))
        figure.add_trace(impossible_key())
        below(figure)
    if "impossible" not in cells or rows["l_start_clean"].isna().all():
        return
    marker = {"symbol": "line-ns", "size": 12, "line": {"width": 2, "color": TEXT}}
    figure.add_trace(
        go.Scatter(
            **{"x": rows["l_start_clean"] + 0.5, "y": list(range(len(rows)))},
            **{"mode": "markers", "marker": marker, "name": "creation layer", "hoverinfo": "skip"},
        )
    )


def _map(cells: pd.DataFrame, rows: pd.DataFrame, layers: range, role: str) -> go.Heatmap:
    """Rows by layers; cells that were not run are gaps."""
    texts = [_hover(cell) for cell in cells.to_dict("records")]
    hover = grid_of(cells.assign(hover=texts), rows, layers, "hover")
    cells = cells.assign(share=cells["share"].where(~is_impossible(cells)))
    unit = "share of mass lost" if role == "sink" else "mass lost ÷ mass of the sink"
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
        colorbar=colour_bar(unit, {-1.0: "-100%", 0.0: "0", 1.0: "100%"}),
    )


def _place(cell: dict[Any, Any]) -> str:
    """The edited token; of a control, also its sink."""
    place = f"{token_label(cell['token'])} at {cell['pos']} in {token_label(cell['text_id'])}"
    if cell["role"] == "control":
        place += f"<br>control ({cell['kind']}) of the sink at {cell['sink_pos']}"
    return place


def _why_impossible(cell: dict[Any, Any]) -> str:
    return f"{_place(cell)}<br>layer {cell['layer']}: impossible, {_TOO_LATE['loss']}"


def _hover(cell: dict[Any, Any]) -> str:
    """Hover text of a cell: the token, then clean and edited values."""
    lines = [_place(cell), f"layer {cell['layer']}: {format_number(cell['share'], '.1%')} lost"]
    for name, (label, form) in _NUMBERS.items():
        clean, edited = (
            format_number(float(cell[f"{name}_{run}"]), form) for run in ("clean", "edited")
        )
        lines.append(f"{label} {clean} → {edited}")
    if not math.isnan(kl := float(cell.get("kl_at_token", math.nan))):
        lines.append(f"prediction at the token: KL {rounded(kl, 2)} nats")
    if cell.get("impossible") in _TOO_LATE:
        lines.append(_TOO_LATE[cell["impossible"]])
    return "<br>".join(lines)


def _head(cells: pd.DataFrame, rows: pd.DataFrame, role: str) -> str:
    """Number of rows, and how many were left out."""
    total = len(cells.drop_duplicates(TOKEN))
    if total == len(rows):
        return f"{total} {role}{'s' if total != 1 else ''}"
    if role == "sink":
        return f"the {len(rows)} strongest of {total} sinks"
    return f"{len(rows)} of {total} controls: those of the strongest sinks"


def _with_heading(figure: go.Figure, head: str) -> go.Figure:
    """A line above the colour bar; colour bars would displace a plotly title."""
    figure.add_annotation(
        text=head,
        showarrow=False,
        font_size=13,
        **{"xref": "paper", "x": 1, "xanchor": "right"},
        **{"yref": "paper", "y": 1, "yanchor": "bottom", "yshift": 54},
    )
    return figure.update_layout(margin_t=88)
