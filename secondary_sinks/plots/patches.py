"""Heat map of lifetimes after patching one layer's MLP output, with controls."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from secondary_sinks.display import Results, as_frame
from secondary_sinks.errors import SinkError
from secondary_sinks.plots.ablation import MOST_ROWS, height_of, is_impossible
from secondary_sinks.plots.labels import format_number, plain_label, row_label
from secondary_sinks.plots.theme import (
    KINDS,
    LOST,
    below,
    colour_bar,
    finish,
    impossible_cells,
    impossible_key,
    layer_axis,
    rgba,
    row_axis,
)
from secondary_sinks.types import format_layers

PATCHES = {
    "denoising": ("lifetime of the token ÷ lifetime of the sink", KINDS["secondary"]),
    "noising": ("share of the sink's lifetime that is lost", LOST),
}
EXTRA_COLUMNS = {
    "denoising": {
        **{"creation": "creation layer", "ordinary": "ordinary tokens'"},
        **{"forming": "all forming MLPs"},
    },
    "noising": {"forming": "all forming MLPs", "other": "other MLPs"},
}
"""Columns to the right of the layers: what a verdict is about, and its control."""
KEY = ["text_id", "sink_pos"]
TOO_LATE = "too late to shorten the life of the sink: patched after its last layer"


def patch_table(
    cells: pd.DataFrame | Results, sinks: pd.DataFrame | Results, patch: str
) -> pd.DataFrame:
    """Share and token for each sink and column of the map.

    `cells` are those of `questions.sufficiency`, also as read from a run folder (where `layers` are
    strings); `sinks` is a table of sinks. `column` is a layer, or one of `EXTRA_COLUMNS`. Cells of
    several seeds are averaged. `impossible` marks cells that are patched after the sink's last
    layer, so that it cannot lose any. Strongest sinks first, at most 30.
    """
    cells, sinks = as_frame(cells), as_frame(sinks)
    clean = cells[(cells["patch"] == "noising") & (cells["where"] == "forming")]
    clean = clean.set_index(KEY)[["lifetime_clean", "mass_clean"]].add_prefix("sink_")
    tokens = sinks.rename(columns={"pos": "sink_pos"}).set_index(KEY)["token"]
    part = cells[cells["patch"] == patch].join(clean, on=KEY).join(tokens, on=KEY)
    share = part["lifetime_edited"] / part["sink_lifetime_clean"].where(
        part["sink_lifetime_clean"] > 0
    )
    part = part.assign(share=share if patch == "denoising" else 1 - share, column=_column(part))
    part = part.assign(impossible=is_impossible(part))
    keys = [*KEY, "pos", "token", "sink_mass_clean", "column", "impossible"]
    values = ["share", "lifetime_edited", "mass_edited"]
    table = part.groupby(keys, sort=False)[values].mean().reset_index()
    order = ["sink_mass_clean", *KEY]
    strongest = table.drop_duplicates(KEY).sort_values(order, ascending=[False, True, True])
    drawn = strongest.head(MOST_ROWS)[KEY].assign(row=range(min(MOST_ROWS, len(strongest))))
    return table.merge(drawn, on=KEY).sort_values(["row"], kind="stable").reset_index(drop=True)


def _column(part: pd.DataFrame) -> "pd.Series[str]":
    """The layer of a single MLP; else creation, forming, ordinary or other."""
    extra = part["where"].where(part["donor"] != "ordinary", "ordinary")
    layers = [one if isinstance(one, str) else format_layers(one) for one in part["layers"]]
    return extra.where(part["where"] != "layer", pd.Series(layers, part.index, dtype=str))


def patch_heatmap(table: pd.DataFrame, patch: str, n_layers: int) -> go.Figure:
    """One row per sink of `patch_table`, one column per layer, and the controls at the right.

    Colour is the share, clipped to [0, 1]; impossible cells are grey. Raises `SinkError` when there
    is no row.
    """
    if table.empty:
        raise SinkError("no MLP output was patched, so there is no map to draw")
    rows = table.drop_duplicates("row").sort_values("row")
    extra = [name for name in EXTRA_COLUMNS[patch] if (table["column"] == name).any()]
    widths = [0.86, 0.14] if extra else [1.0]
    figure = make_subplots(
        rows=1, cols=len(widths), column_widths=widths, shared_yaxes=True, horizontal_spacing=0.02
    )
    layers = [str(layer) for layer in range(n_layers)]
    figure.add_trace(_map(table, layers, list(range(n_layers)), patch, scale=True), row=1, col=1)
    if table["impossible"].any():
        figure.add_trace(_grey(table, layers), row=1, col=1)
        figure.add_trace(impossible_key(), row=1, col=1)
        below(figure)
    if extra:
        words = [EXTRA_COLUMNS[patch][name] for name in extra]
        figure.add_trace(_map(table, extra, words, patch, scale=False), row=1, col=2)
    labels = [*map(_name, rows.to_dict("records"))]
    figure = finish(figure, height=200 + height_of(rows)).update_layout(margin_t=72, margin_b=125)
    figure.update_yaxes(row_axis(labels))
    figure.update_yaxes(tickfont_size=12, row=1, col=1)
    figure.update_xaxes(showgrid=False)
    figure.update_xaxes(layer_axis(n_layers), title_text="layer of the patched MLP", row=1, col=1)
    if extra:
        figure.update_xaxes(tickangle=-90, row=1, col=2)
        figure.update_yaxes(ticks="", row=1, col=2)
    return figure


def _map(
    table: pd.DataFrame, columns: list[str], names: list[Any], patch: str, *, scale: bool
) -> go.Heatmap:
    index = range(int(table["row"].max()) + 1)
    table = table.assign(share=table["share"].where(~table["impossible"]))
    labelled = table.assign(hover=[_hover(cell, patch) for cell in table.to_dict("records")])
    grid = labelled.pivot(index="row", columns="column", values="share")
    hover = labelled.pivot(index="row", columns="column", values="hover")
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
        colorbar=colour_bar(title, {0.0: "0", 0.5: "50%", 1.0: "100%"}, 0.43) if scale else None,
    )


def _grey(table: pd.DataFrame, layers: list[str]) -> go.Heatmap:
    """Cells that could not have come out otherwise."""
    grey = table[table["impossible"]]
    reasons = [
        f"{_name(cell)}<br>layer {cell['column']}: impossible, {TOO_LATE}"
        for cell in grey.to_dict("records")
    ]
    grid = grey.assign(hover=reasons).pivot(index="row", columns="column", values="hover")
    return impossible_cells(grid.reindex(index=range(int(table["row"].max()) + 1), columns=layers))


def _name(cell: dict[Any, Any]) -> str:
    return row_label(str(cell["token"]), cell["sink_pos"], str(cell["text_id"]))


def _hover(cell: dict[Any, Any], patch: str) -> str:
    where = cell["column"]
    words = EXTRA_COLUMNS[patch].get(where, f"layer {where}")
    verb = "gets" if patch == "denoising" else "loses"
    edited = format_number(float(cell["lifetime_edited"]), "g")
    return (
        f"{_name(cell)}<br>edited token at {cell['pos']}; {plain_label(words)}<br>{verb} "
        f"{format_number(cell['share'], '.0%')} of the lifetime (now {edited} layers)<br>"
        f"mass {format_number(float(cell['mass_edited']), '.2g')}"
    )
