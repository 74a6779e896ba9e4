"""`plot`: the obvious figure of a result, also as its method `.plot()`."""

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.display import Displayed
from secondary_sinks.errors import SinkError
from secondary_sinks.plots.ablation import ablation_heatmap
from secondary_sinks.plots.circuit import circuit_graph
from secondary_sinks.plots.labels import make_visible, token_label
from secondary_sinks.plots.levels import level_heatmap
from secondary_sinks.plots.lines import interval_lines
from secondary_sinks.plots.profiles import layer_profiles
from secondary_sinks.plots.theme import GAINED, LOST, finish
from secondary_sinks.plots.verdicts import verdict_dots
from secondary_sinks.types import (
    Effects,
    Levels,
    MetricSweep,
    SinkCircuit,
    SinkTable,
    Trace,
    Verdict,
    read_by_next,
)

STRONGEST = 6
"""Tokens of a trace that are drawn."""


@singledispatch
def plot(result: Any, **options: Any) -> go.Figure:
    """The default figure of a result; `result.plot()` is the same.

    A trace: the life of the tokens that draw most attention, or with `sinks=` the measures of each
    kind of token by layer. A table of sinks, or levels: the map of creation layer and lifetime
    (`n_layers=`). Effects: the mass that each sink loses, by layer (`edit=` where there are
    several, `role="control"`). A circuit of a sink or level: its graph. A sweep of a metric: its
    change by layer and token (`edit=`). A verdict, an answer or a list of verdicts: their
    intervals. Raises `SinkError` for anything else, and where there is nothing to draw.
    """
    drawn = result._drawn() if isinstance(result, Displayed) else result
    if drawn is not result:
        return plot(drawn, **options)
    raise SinkError(
        f"{type(result).__name__} has no figure of its own",
        "draw its .to_frame(), or use a function of secondary_sinks.plots",
    )


@plot.register
def _trace(trace: Trace, *, sinks: Any = None) -> go.Figure:
    if sinks is not None:
        return layer_profiles(trace, sinks)
    mass = read_by_next(trace.mass)
    beyond = (mass - read_by_next(trace.mass_null)).nan_to_num(0.0).amax(0)
    parts = [
        pd.DataFrame({"x": range(len(mass)), "value": mass[:, pos].numpy()}).assign(
            group=f"{make_visible(trace.token_strings[pos], most=16)} at {pos}"
        )
        for pos in beyond.argsort(descending=True)[:STRONGEST].tolist()
    ]
    frame = pd.concat(parts).assign(panel="mass", low=float("nan"), high=float("nan"))
    panels = {"mass": ("attention that the state draws", "linear")}
    return interval_lines(frame.dropna(subset="value"), panels, "layer", height=320)


@plot.register
def _circuit(circuit: SinkCircuit) -> go.Figure:
    return circuit_graph(circuit.edges, circuit.n_layers, circuit.life)


@plot.register
def _sinks(sinks: SinkTable, *, n_layers: int | None = None) -> go.Figure:
    frame = sinks.to_frame()
    counted = frame[(frame["kind"] == "secondary") & (frame["copy_of"] == "")]
    pairs = counted.groupby(["l_start", "lifetime"])
    cells = pairs.agg(count=("pos", "size"), n_texts=("text_id", "nunique"), level=("level", "max"))
    return level_heatmap(cells.reset_index(), n_layers)


@plot.register
def _levels(levels: Levels, *, n_layers: int | None = None) -> go.Figure:
    return level_heatmap(levels, n_layers)


@plot.register
def _effects(effects: Effects, *, edit: str | None = None, role: str = "sink") -> go.Figure:
    return ablation_heatmap(_of_edit(effects.to_frame(), edit), role)


@plot.register
def _metric(sweep: MetricSweep, *, edit: str | None = None) -> go.Figure:
    frame = _of_edit(sweep.to_frame(), edit)
    if frame.duplicated(["pos", "layer"]).any():
        raise SinkError("several cells edit the same token and layer", "draw .to_frame()")
    grid = frame.pivot(index="pos", columns="layer", values="change")
    tokens = frame.drop_duplicates("pos").set_index("pos")["token"]
    most = float(grid.abs().max().max()) or 1.0
    scale = [[0.0, GAINED], [0.5, "rgba(128,128,128,0.08)"], [1.0, LOST]]
    figure = go.Figure(
        go.Heatmap(
            x=[str(layer) for layer in grid.columns],
            y=[f"{token_label(tokens[pos])} {pos}" for pos in grid.index],
            z=grid.to_numpy(),
            zmin=-most,
            zmax=most,
            colorscale=scale,
            colorbar_title_text="change of the metric",
        )
    )
    figure.update_xaxes(title_text="edited layer", type="category", showgrid=False)
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return finish(figure, height=180 + 18 * len(grid))


def _of_edit(frame: pd.DataFrame, edit: str | None) -> pd.DataFrame:
    """The rows of one edit. Raises `SinkError` where it has to be chosen."""
    known = list(dict.fromkeys(frame["edit"]))
    if (edit is None and len(known) > 1) or (edit is not None and edit not in known):
        given = "several edits" if edit is None else f"edit {edit!r}"
        raise SinkError(f"got {given}", f"choose one: edit={' or '.join(map(repr, known))}")
    return frame if edit is None else frame[frame["edit"] == edit]


@plot.register
def _verdict(verdict: Verdict) -> go.Figure:
    return verdict_dots([verdict])


@plot.register(tuple)
@plot.register(list)
def _several(verdicts: Sequence[Any]) -> go.Figure:
    if not all(isinstance(one, Verdict) for one in verdicts):
        raise SinkError("only verdicts are drawn several at a time", "draw one after the other")
    return verdict_dots(verdicts)
