"""Colours and layout of all figures, legible on light and dark pages.

Kinds of token have hues of Okabe and Ito (2008); losses are purple and gains amber. Both palettes
are distinguishable with colour-vision deficiency. Backgrounds are transparent, and text is a grey
with enough contrast on white and on near-black.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import ArrayLike

from secondary_sinks.errors import SinkError

TEXT, GRID, ZERO = "#7b7f86", "rgba(128,128,128,0.22)", "rgba(128,128,128,0.6)"
KINDS = {
    "primary": "#d55e00",
    "secondary": "#0a84c6",
    "primary_like": "#009e73",
    "transient": "#b08c00",
    "noise": "#cc79a7",
    "ordinary": "#8a8f98",
}
NAMES = {"primary_like": "primary-like", "noise": "short-lived", "ordinary": "ordinary tokens"}
FURTHER = ("#0a84c6", "#e69f00", "#009e73", "#cc79a7", "#9258d6", "#b08c00")
"""Colours of other groups, in order."""
LOST, GAINED = "#9258d6", "#e69f00"
RAMP = (GAINED, "#6aa84f", "#0a84c6", LOST)
"""For ordered groups: neighbours differ in hue."""
IMPOSSIBLE, IMPOSSIBLE_NAME = "rgba(128,128,128,0.45)", "impossible by construction"
"""For outcomes that no edit could have brought about there: never evidence."""


PERCENTILES = (0.1, 0.5, 0.9)


def rgba(colour: str, alpha: float) -> str:
    """A "#rrggbb" colour with transparency.

    >>> rgba("#0a84c6", 0.2)
    'rgba(10,132,198,0.2)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def colour_of(group: str, index: int) -> str:
    """The colour of a kind of token, or of the group at `index`.

    >>> colour_of("secondary", 5) == KINDS["secondary"], colour_of("inputs", 0) == FURTHER[0]
    (True, True)
    """
    plain = {"sink": "secondary", "control": "ordinary"}.get(group, group)
    return KINDS.get(plain, FURTHER[index % len(FURTHER)])


def ramp(number: int) -> list[str]:
    """A ramp of `number` colours, amber to green, blue and purple, for groups such as layers.

    >>> ramp(2) == [GAINED, LOST]
    True
    """
    stops = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in RAMP])
    apart = np.abs(np.diff(stops, axis=0)).sum(axis=1)
    places = np.concatenate([[0], np.cumsum(apart)]) / apart.sum()
    shares = np.linspace(0, 1, number)
    mixed = [np.interp(shares, places, stops[:, part]).round().astype(int) for part in range(3)]
    return ["#" + "".join(f"{part:02x}" for part in colour) for colour in zip(*mixed, strict=True)]


def impossible_key() -> go.Scatter:
    """An entry of the legend for cells that are drawn as impossible; it draws nothing itself."""
    marker = {"symbol": "square", "size": 11, "color": IMPOSSIBLE}
    return go.Scatter(
        x=[None], y=[None], mode="markers", marker=marker, name=IMPOSSIBLE_NAME, hoverinfo="skip"
    )


def impossible_cells(hover: pd.DataFrame) -> go.Heatmap:
    """Grey cells over a map of rows by layers, each with its reason, missing where it is not grey.

    They are hovered and clicked as other cells are.
    """
    reasons = hover.to_numpy()
    return go.Heatmap(
        x=list(range(reasons.shape[1])),
        y=list(range(len(reasons))),
        z=np.where(pd.isna(reasons), np.nan, 1.0),
        hovertext=hover.fillna("").to_numpy(),
        hovertemplate="%{hovertext}<extra></extra>",
        hoverongaps=False,
        colorscale=[[0, IMPOSSIBLE], [1, IMPOSSIBLE]],
        showscale=False,
    )


def below(figure: go.Figure) -> go.Figure:
    """A horizontal legend at the bottom of the figure; the margin there must have room for it."""
    legend = {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"}
    return figure.update_layout(showlegend=True, legend=legend)


def colour_bar(title: str, ticks: Mapping[float, str], x: float = 0.5) -> dict[str, Any]:
    """A horizontal bar above a map of colours, with these ticks."""
    return {
        "orientation": "h",
        "title": {"text": title, "side": "top", "font_size": 12},
        **{"x": x, "y": 1.0, "yanchor": "bottom", "ypad": 4, "thickness": 10, "outlinewidth": 0},
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
    }


def above(figure: go.Figure, y: float, **more: Any) -> go.Figure:
    """A horizontal legend above the axes, at a height in shares of them."""
    legend = {"orientation": "h", "x": 0, "y": y, "yanchor": "bottom"}
    return figure.update_layout(legend=legend | more)


def require_columns(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raise `SinkError` if the frame of a figure has no rows, or lacks a column."""
    missing = [name for name in columns if name not in frame]
    if missing or frame.empty:
        wrong = f"no column {missing[0]!r}" if missing else "no row"
        raise SinkError(f"the frame of a {what} has {wrong}; nothing to draw")


LOSS_SCALE = [
    [0.0, GAINED],
    [0.45, rgba(GAINED, 0.16)],
    [0.5, "rgba(128,128,128,0.08)"],
    [0.55, rgba(LOST, 0.16)],
    [1.0, LOST],
]
"""For shares lost in [-1, 1]: -1 doubled (amber), 0 unchanged (nearly clear), 1 all lost."""


def layer_axis(n_layers: int) -> dict[str, Any]:
    """Integer ticks for a layer axis: at most about a dozen, to fit a phone."""
    step = next((step for step in (1, 2, 5, 10, 20) if n_layers <= 12 * step), 50)
    return {"tickmode": "linear", "tick0": 0, "dtick": step, "range": [-0.5, n_layers - 0.5]}


def row_axis(labels: Sequence[str]) -> dict[str, Any]:
    """An axis of named rows, the first at the top."""
    ticks = {"tickvals": list(range(len(labels))), "ticktext": list(labels)}
    return ticks | {"range": [len(labels) - 0.5, -0.5], "showgrid": False, "zeroline": False}


def band(
    x: Any,
    low: ArrayLike,
    high: ArrayLike,
    fill: str,
    group: str,
    outline: Mapping[str, Any] | None = None,
) -> list[go.Scatter]:
    """An area from `low` to `high`, for the lines of a `group` of the legend."""
    line = outline or {"width": 0}
    edge: dict[str, Any] = {"x": x, "mode": "lines", "line": line, "hoverinfo": "skip"}
    edge |= {"legendgroup": group, "showlegend": False}
    filled = {"fill": "tonexty", "fillcolor": fill}
    return [go.Scatter(y=low, **edge), go.Scatter(y=high, **edge, **filled)]


def whiskers(value: ArrayLike, low: ArrayLike, high: ArrayLike, **look: Any) -> dict[str, Any]:
    """Error bars from `low` to `high`; `look` are the options of their lines."""
    middle, least, most = (np.asarray(one, dtype=float) for one in (value, low, high))
    ends = {"array": (most - middle).tolist(), "arrayminus": (middle - least).tolist()}
    return {**ends, "symmetric": False, **look}


def percentiles(grouped: Any) -> pd.DataFrame:
    """The 10th, 50th and 90th percentile of each group of values: one row per group."""
    return grouped.quantile(np.array(PERCENTILES)).unstack().reindex(columns=list(PERCENTILES))


def log_axis(values: ArrayLike) -> dict[str, Any]:
    """A logarithmic axis with ticks at 1, 2 and 5 times powers of ten, or at powers of ten only.

    >>> log_axis([0.3, 4.0])["ticktext"]
    ['0.1', '0.2', '0.5', '1', '2', '5']
    >>> log_axis([3.0, 4608.0])["ticktext"]
    ['1', '10', '100', '1000']
    """
    given = np.asarray(values, dtype=float)
    known = given[(given > 0) & np.isfinite(given)]
    if not len(known):
        return {"type": "log"}
    low, high = float(known.min()), float(known.max())
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    steps = (1, 2, 5) if high <= 100 * low else (1,)
    ticks = [step * 10.0**power for power in powers for step in steps]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def finish(figure: go.Figure, height: int) -> go.Figure:
    """Apply the shared layout; the width follows the page."""
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12, "color": TEXT},
        hoverlabel={
            "font": {"size": 12, "color": "#1b1d21"},
            "bgcolor": "#ffffff",
            "align": "left",
        },
        margin={"l": 56, "r": 12, "t": 40, "b": 48},
        dragmode=False,
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, fixedrange=True, title_standoff=8)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=ZERO, fixedrange=True, title_standoff=6)
    figure.update_yaxes(automargin=True)
    return figure
