"""What patching one layer's MLP output makes of each token, as a heat map with its controls."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from secondary_sinks.errors import SinkError
from secondary_sinks.plots.cells import MOST_ROWS
from secondary_sinks.plots.labels import format_number, plain_label, row_label
from secondary_sinks.plots.theme import KINDS, LOST, finish, layer_axis, rgba
from secondary_sinks.types import format_layers

PATCHES = {
    "denoising": ("share of the sink's lifetime that the token gets", KINDS["secondary"]),
    "noising": ("share of its lifetime that the sink loses", LOST),
}
BESIDE = {
    "denoising": {"forming": "all forming MLPs", "ordinary": "of ordinary tokens"},
    "noising": {"forming": "all forming MLPs", "other": "as many others"},
}
"""Columns beside the layers: the MLPs that form the sink together, and the control."""
KEY = ["text_id", "sink_pos"]


def patch_table(cells: pd.DataFrame, sinks: pd.DataFrame, patch: str) -> pd.DataFrame:
    """Per sink and column of the map: the share, and the token that the sink is.

    `cells` are those of `questions.sufficiency`, or the same read from a folder, where `layers`
    are words; `sinks` a table of sinks. `column` is a layer, or what `BESIDE` lists. Cells of
    several seeds are averaged. Strongest sinks first, at most 60.
    """
    clean = cells[(cells["patch"] == "noising") & (cells["where"] == "forming")]
    clean = clean.set_index(KEY)[["lifetime_clean", "mass_clean"]].add_prefix("sink_")
    tokens = sinks.rename(columns={"pos": "sink_pos"}).set_index(KEY)["token"]
    part = cells[cells["patch"] == patch].join(clean, on=KEY).join(tokens, on=KEY)
    share = part["lifetime_edited"] / part["sink_lifetime_clean"].where(
        part["sink_lifetime_clean"] > 0
    )
    part = part.assign(share=share if patch == "denoising" else 1 - share, column=_column(part))
    keys = [*KEY, "pos", "token", "sink_mass_clean", "column"]
    values = ["share", "lifetime_edited", "mass_edited"]
    table = part.groupby(keys, sort=False)[values].mean().reset_index()
    order = ["sink_mass_clean", *KEY]
    strongest = table.drop_duplicates(KEY).sort_values(order, ascending=[False, True, True])
    kept = strongest.head(MOST_ROWS)[KEY].assign(row=range(min(MOST_ROWS, len(strongest))))
    return table.merge(kept, on=KEY).sort_values(["row"], kind="stable").reset_index(drop=True)


def _column(part: pd.DataFrame) -> "pd.Series[str]":
    """The layer of a single MLP; else forming, ordinary or other."""
    ordinary = (part["where"] == "forming") & (part["donor"] == "ordinary")
    beside = part["where"].where(~ordinary, "ordinary")
    layers = [one if isinstance(one, str) else format_layers(one) for one in part["layers"]]
    return beside.where(part["where"] != "layer", pd.Series(layers, part.index, dtype=str))


def patch_heatmap(table: pd.DataFrame, patch: str, n_layers: int) -> go.Figure:
    """One row per sink of `patch_table`, one column per layer; beside them the controls.

    Colour is the share, clipped to [0, 1]. Raises `SinkError` when there is no row.
    """
    if table.empty:
        raise SinkError("no MLP output was patched, so there is no map to draw")
    rows = table.drop_duplicates("row").sort_values("row")
    beside = [name for name in BESIDE[patch] if (table["column"] == name).any()]
    widths = [0.86, 0.14] if beside else [1.0]
    figure = make_subplots(
        rows=1, cols=len(widths), column_widths=widths, shared_yaxes=True, horizontal_spacing=0.02
    )
    layers = [str(layer) for layer in range(n_layers)]
    figure.add_trace(_map(table, layers, list(range(n_layers)), patch, scale=True), row=1, col=1)
    if beside:
        words = [BESIDE[patch][name] for name in beside]
        figure.add_trace(_map(table, beside, words, patch, scale=False), row=1, col=2)
    labels = [
        row_label(str(row["token"]), row["sink_pos"], str(row["text_id"]))
        for row in rows.to_dict("records")
    ]
    height = 190 + 15 * len(rows)
    figure = finish(figure, height=height).update_layout(margin_t=72, margin_b=125)
    figure.update_yaxes(range=[len(rows) - 0.5, -0.5], showgrid=False, zeroline=False)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=labels, tickfont_size=10, row=1, col=1
    )
    figure.update_xaxes(showgrid=False)
    figure.update_xaxes(layer_axis(n_layers), title_text="layer of the patched MLP", row=1, col=1)
    if beside:
        figure.update_xaxes(tickangle=-60, row=1, col=2)
        figure.update_yaxes(ticks="", row=1, col=2)
    return figure


def _map(
    table: pd.DataFrame, columns: list[str], names: list[Any], patch: str, *, scale: bool
) -> go.Heatmap:
    index = range(int(table["row"].max()) + 1)
    told = table.assign(hover=[_hover(cell, patch) for cell in table.to_dict("records")])
    grid = told.pivot(index="row", columns="column", values="share")
    hover = told.pivot(index="row", columns="column", values="hover")
    title, colour = PATCHES[patch]
    return go.Heatmap(
        x=names,
        y=list(index),
        z=grid.reindex(index=index, columns=columns).to_numpy(dtype=float).clip(0, 1),
        hovertext=hover.reindex(index=index, columns=columns).fillna("").to_numpy(),
        hovertemplate="%{hovertext}<extra></extra>",
        hoverongaps=False,
        zmin=0,
        zmax=1,
        colorscale=[[0, rgba(colour, 0.06)], [1, colour]],
        ygap=1,
        xgap=0 if scale else 2,
        showscale=scale,
        colorbar=_bar(title) if scale else None,
    )


def _bar(title: str) -> dict[str, Any]:
    return {
        "orientation": "h",
        "title": {"text": title, "side": "top", "font_size": 12},
        "x": 0.43,
        "y": 1.0,
        "yanchor": "bottom",
        "ypad": 4,
        "thickness": 10,
        "outlinewidth": 0,
        "tickvals": [0, 0.5, 1],
        "ticktext": ["0", "50%", "100%"],
    }


def _hover(cell: dict[Any, Any], patch: str) -> str:
    where = cell["column"]
    words = BESIDE[patch].get(where, f"layer {where}")
    verb = "gets" if patch == "denoising" else "loses"
    head = row_label(str(cell["token"]), cell["sink_pos"], str(cell["text_id"]))
    edited = format_number(float(cell["lifetime_edited"]), "g")
    return (
        f"{head}<br>edited token at {cell['pos']}; {plain_label(words)}<br>{verb} "
        f"{format_number(cell['share'], '.0%')} of the lifetime (now {edited} layers)<br>"
        f"mass {format_number(float(cell['mass_edited']), '.2g')}"
    )
