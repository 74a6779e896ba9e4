"""Figures of the explorer: a map of layers by tokens, and curves before and after an edit."""

import json
import math
from functools import cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.notebook.choice import MEASURES, Choice
from secondary_sinks.notebook.trial import Trial
from secondary_sinks.plots.labels import token_label
from secondary_sinks.plots.theme import GAINED, KINDS, LOST, finish, layer_axis, rgba
from secondary_sinks.types import Trace, read_by_next

SIGNED = [[0.0, GAINED], [0.5, "rgba(128,128,128,0.08)"], [1.0, KINDS["secondary"]]]
GROWING = [[0.0, "rgba(128,128,128,0.06)"], [0.5, rgba(KINDS["secondary"], 0.6)], [1.0, LOST]]
FAINT = {"color": rgba(KINDS["primary"], 0.5), "width": 1}
NORM_AT_MOST = 100.0
"""Upper end of the log colour scale of norms, in medians."""

Plain = dict[str, Any]


def states(trace: Trace, measure: str) -> Float[Tensor, "layer pos"]:
    """A measure of the state of each layer; masses are those in the block that reads it."""
    values = getattr(trace, measure)
    return read_by_next(values) if measure == "mass" else values


def level_map(trace: Trace, measure: str, start: int, stop: int) -> go.Figure:
    """Map of a measure by layer (up) and token (across), for the positions of one page.

    Colour is clipped and, for norms and masses, compressed; the hover text has the full values. The
    page adds column names (`labels`) and the choice (`marks`).
    """
    values = states(trace, measure)[:, start:stop].numpy()
    title = MEASURES[measure]
    figure = go.Figure(
        go.Heatmap(
            x=list(range(start, stop)),
            z=_colour_values(values, measure),
            customdata=np.float32(values),
            hovertemplate=f"%{{text}}<br>layer %{{y}}: {title} %{{customdata:.3g}}<extra></extra>",
            hoverongaps=False,
            **_scale(measure),
        )
    )
    figure.update_yaxes(layer_axis(len(values)), title_text="layer", showgrid=False, zeroline=False)
    figure.update_xaxes(title_text="position", showgrid=False, range=[start - 0.5, stop - 0.5])
    return finish(figure, height=190).update_layout(margin_t=8)


def marks(choice: Choice) -> list[Plain]:
    """Shapes on the map: a line along the chosen layer, and a frame around the chosen cell."""
    x, y = choice.pos, choice.layer
    line = {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "y0": y, "y1": y}
    cell = {"type": "rect", "x0": x - 0.5, "x1": x + 0.5, "y0": y - 0.5, "y1": y + 0.5}
    return [line | {"line": FAINT}, cell | {"line": {"color": KINDS["primary"], "width": 2}}]


def labels(trace: Trace, start: int, stop: int) -> list[str]:
    """Names of the columns of the map, escaped for plotly; the page repeats them for each layer."""
    tokens = enumerate(trace.token_strings[start:stop], start=start)
    return [f"{token_label(token)} at {pos}" for pos, token in tokens]


def _colour_values(values: np.ndarray, measure: str) -> np.ndarray:
    """Values on the colour scale, rounded to three digits to keep messages small."""
    if measure == "norm_ratio":
        values = np.log10(np.maximum(values, 1e-6))
    elif measure == "mass":
        values = np.sqrt(values)
    return np.round(values.astype(np.float64), 3)


def _scale(measure: str) -> dict[str, Any]:
    title = {"text": MEASURES[measure], "side": "right"}
    bar: dict[str, Any] = {"thickness": 10, "outlinewidth": 0, "title": title}
    if measure in ("alignment", "alignment_centred"):
        return {"zmin": -1, "zmax": 1, "colorscale": SIGNED, "colorbar": bar}
    if measure == "mass":
        ticks = [0.0, 0.01, 0.05, 0.2, 0.5, 1.0]
        bar |= {"tickvals": np.sqrt(ticks).tolist(), "ticktext": [f"{tick:g}" for tick in ticks]}
        return {"zmin": 0, "zmax": 1, "colorscale": GROWING, "colorbar": bar}
    bar |= {"tickvals": [0, 1, 2], "ticktext": ["median", "10 x", "100 x"]}
    most = float(np.log10(NORM_AT_MOST))
    return {"zmin": 0, "zmax": most, "colorscale": GROWING, "colorbar": bar}


def curves(trace: Trace, trial: Trial, measure: str) -> Plain:
    """The chosen measure by layer, at token and control: before (dotted) and after (solid).

    Plain data without plotly's validation, because it is drawn at every click.
    """
    name = "norm" if measure == "norm_ratio" else measure
    data = []
    roles = {"token": KINDS["secondary"], "control": KINDS["ordinary"]}
    for cell, (row, (role, colour)) in enumerate(zip(trial.rows, roles.items(), strict=False)):
        after = trial.curves[name][:, cell]
        after = read_by_next(after) if name == "mass" else after
        data += [
            _curve(states(trace, name)[:, row["pos"]], f"{role} before", colour, "dot"),
            _curve(after, f"{role} after", colour, "solid"),
        ]
    layout, x = _curve_layout(len(trace.norm), measure), trial.choice.layer
    edited = {"type": "line", "yref": "y domain", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": FAINT}
    return {"data": data, "layout": layout | {"shapes": [edited]}}


def _curve(values: Float[Tensor, "layer"], name: str, colour: str, dash: str) -> Plain:
    return {
        "type": "scatter",
        "y": [None if math.isnan(value) else round(value, 5) for value in values.tolist()],
        "mode": "lines",
        "line": {"color": colour, "dash": dash, "width": 2},
        "name": name,
        "hovertemplate": f"{name}<br>layer %{{x}}: %{{y:.3g}}<extra></extra>",
    }


@cache
def _curve_layout(n_layers: int, measure: str) -> Plain:
    figure = go.Figure().update_xaxes(layer_axis(n_layers), title_text="layer")
    scale = "log" if measure == "norm_ratio" else "linear"
    figure.update_yaxes(title_text=MEASURES[measure], type=scale)
    figure.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return plain(finish(figure, height=240))["layout"]


def plain(figure: go.Figure) -> Plain:
    """A figure as plain data that JSON can hold, without NaN."""
    made: Plain = json.loads(figure.to_json(engine="json"))
    return made
