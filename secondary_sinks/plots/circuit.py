"""The circuit of a sink as a graph: what it read, which MLPs wrote it, which heads read it."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.plots.labels import token_label
from secondary_sinks.plots.theme import (
    FURTHER,
    KINDS,
    above,
    finish,
    layer_axis,
    require_columns,
    rgba,
)

COLUMNS = ("part", "measure", "layer", "head", "effect")
LEAST = 0.1
"""Effect of a trigger or writer below which it is not drawn."""
MOST = 16
"""Largest number of reader heads that are drawn, the strongest first."""
LATER, SINK, EARLIER = 0.0, 1.0, 2.0
"""Height of later tokens, of the sink itself, and of the first token that it read."""
TRIGGER, WRITER, READER = FURTHER[1], FURTHER[2], KINDS["secondary"]
MARKS = {"writes": ("writer", "square"), "enables": ("enabler", "square-open")}


def circuit_graph(
    edges: pd.DataFrame, n_layers: int, life: tuple[int, int] | None = None
) -> go.Figure:
    """A graph of the edges of one sink, or of their means over the sinks of one level.

    `edges` has the columns of `Edge` (the answers' `cells` of one sink) or of `by_level` (their
    `effects`, of one level). Layers run from left to right. Lines from above are attention that the
    sink needs (triggers): from a source token if the edge has one, else from all earlier tokens.
    Squares are MLPs that write or enable the sink. Lines to the bottom are heads by which later
    tokens read it. Widths follow the effects. `life` is the first and last layer of the sink.
    Raises `SinkError` for a frame without rows or without one of the columns.
    """
    require_columns(edges, COLUMNS, "circuit graph")
    triggers = _triggers(edges)
    readers = edges[(edges["part"] == "reader") & (edges["measure"] == "attention")]
    readers = readers.sort_values("effect", ascending=False).head(MOST)
    rows = _rows(triggers)
    figure = go.Figure()
    if life is not None:
        figure.add_trace(_life(*life))
    figure.add_traces(_lines(triggers, rows, "trigger", TRIGGER))
    figure.add_traces(_lines(readers, rows, "reader", READER))
    figure.add_traces(_writers(edges))
    heights = {"later tokens": LATER, "the sink": SINK, **rows}
    figure.update_yaxes(
        tickvals=list(heights.values()),
        ticktext=list(heights),
        range=[-0.35, max(heights.values()) + 0.35],
        zeroline=False,
    )
    figure.update_xaxes(layer_axis(n_layers) | {"title": "layer"})
    figure.update_layout(showlegend=True)
    return finish(above(figure, 1.01), height=190 + 34 * len(heights))


def _triggers(edges: pd.DataFrame) -> pd.DataFrame:
    """Edges whose removal ends the sink, in the finest detail that was tested."""
    found = edges[(edges["part"] == "trigger") & edges["measure"].isin(["ended", "ended_in_set"])]
    found = found[found["layer"].notna() & (found["effect"] >= LEAST)]
    found = found.sort_values("effect", ascending=False)
    for name in ("source_pos", "head"):
        if name in found and found[name].notna().any():
            found = found[found[name].notna()]
            break
    keys = [name for name in ("layer", "head", "source_pos") if name in found]
    return found.drop_duplicates(keys)


def _rows(triggers: pd.DataFrame) -> dict[str, float]:
    """Heights of the tokens that a sink read, by label: in their order, the last one lowest."""
    if "source_pos" not in triggers or not triggers["source_pos"].notna().any():
        return {"earlier tokens": EARLIER} if len(triggers) else {}
    sources = triggers.drop_duplicates("source_pos").sort_values("source_pos", ascending=False)
    labels = [_source(row) for row in sources.to_dict("records")]
    return {label: EARLIER + place for place, label in enumerate(labels)}


def _source(row: Mapping[Any, Any]) -> str:
    if math.isnan(row.get("source_pos", math.nan)):
        return "earlier tokens"
    return f"{token_label(str(row['source_token']))} {int(row['source_pos'])}"


def _lines(edges: pd.DataFrame, rows: dict[str, float], part: str, colour: str) -> list[go.Scatter]:
    """One line per edge; those of one layer stand next to each other."""
    found, legend = [], True
    for layer, group in edges.groupby("layer"):
        step = min(0.12, 0.7 / len(group))
        for place, row in enumerate(group.to_dict("records")):
            x = float(str(layer)) + step * (place - (len(group) - 1) / 2)
            ends = [rows[_source(row)], SINK] if part == "trigger" else [SINK, LATER]
            width = 1 + 6 * min(abs(float(row["effect"])), 1.0)
            found.append(
                go.Scatter(
                    x=[x, x],
                    y=ends,
                    mode="lines+markers",
                    line={"color": rgba(colour, 0.8), "width": width},
                    marker={"size": [0, 7], "symbol": "triangle-down", "color": colour},
                    name=part,
                    legendgroup=part,
                    showlegend=legend,
                    hovertext=_said(row, part),
                    hoverinfo="text",
                )
            )
            legend = False
    return found


def _said(row: Mapping[Any, Any], part: str) -> str:
    head = "" if math.isnan(row["head"]) else f", head {row['head']:.0f}"
    what = f"reads {_source(row)}: ends" if part == "trigger" else "attention to the sink:"
    control = row.get("control", math.nan)
    by_control = "" if math.isnan(control) else f"<br>control {control:.2f}"
    return f"layer {row['layer']:.0f}{head}<br>{what} {row['effect']:.2f}{by_control}"


def _writers(edges: pd.DataFrame) -> list[go.Scatter]:
    found = []
    for measure, (name, symbol) in MARKS.items():
        part = edges[(edges["part"] == "writer") & (edges["measure"] == measure)]
        part = part[part["effect"] >= LEAST]
        if part.empty:
            continue
        sizes = [10 + 8 * min(float(effect), 1.0) for effect in part["effect"]]
        found.append(
            go.Scatter(
                x=part["layer"],
                y=[SINK] * len(part),
                mode="markers",
                marker={"symbol": symbol, "size": sizes, "color": WRITER},
                name=name,
                hovertext=[
                    f"MLP {int(layer)} ({name})<br>a twin's output ends {effect:.2f}"
                    for layer, effect in zip(part["layer"], part["effect"], strict=True)
                ],
                hoverinfo="text",
            )
        )
    return found


def _life(first: int, last: int) -> go.Scatter:
    """The layers at which the token is a sink."""
    return go.Scatter(
        x=[first, last],
        y=[SINK, SINK],
        mode="lines",
        line={"color": rgba(KINDS["secondary"], 0.35), "width": 9},
        name="a sink at these layers",
        hoverinfo="skip",
    )
