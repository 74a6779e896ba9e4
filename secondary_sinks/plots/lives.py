"""Attention that sinks draw before their creation and after their end."""

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.display import Results, as_frame
from secondary_sinks.plots.labels import plain_label
from secondary_sinks.plots.lines import interval_lines
from secondary_sinks.plots.theme import KINDS, above, percentiles

REACH = 8
"""Layers before and after that are shown."""
EVENTS = {"l_start": "around creation", "l_end": "around the last layer"}
TITLE = "attention ÷ expected"
COLUMNS = ("panel", "group", "x", "value", "low", "high", "n_sinks")
LEGEND_AT = 1.1
"""Height of the legend of a single life: above the words at the creation layer."""
LIFE = {"mass": ("attention", "linear"), "norm_ratio": ("norm ÷ median", "log")}
"""Measures of a single life: title and scale."""


def attention_around_life(
    trace: pd.DataFrame | Results, sinks: pd.DataFrame | Results
) -> pd.DataFrame:
    """Attention that secondary sinks draw before, during and after their life, as a table.

    `value` is the mass in the block that reads the state, in multiples of the expected one (the
    even share, or the median of the neighbours if that is more): median over sinks, with the 10th
    and the 90th percentile as `low` and `high`. `x` is the layer relative to the creation layer
    (`panel` l_start) or to the last layer as a sink (`panel` l_end, without sinks whose end is
    unknown). If a sink draws as much at x = -1 as at x = 0, or after its end as before, its
    attention does not depend on what the criterion calls a sink.
    """
    trace, sinks = as_frame(trace), as_frame(sinks)
    found = sinks.loc[
        sinks["kind"] == "secondary", ["text_id", "pos", "l_start", "l_end", "censored"]
    ]
    states = trace.merge(found, on=["text_id", "pos"]).sort_values(["text_id", "pos", "layer"])
    expected = np.maximum(states["mass"] - states["mass_excess"], states["mass_local"])
    ratio: pd.Series[float] = states["mass"] / expected
    states["ratio"] = ratio.groupby([states["text_id"], states["pos"]]).shift(-1)
    ended = ~states["censored"].isin(["right", "both", "unknown"])
    parts = [_quantiles(states if event == "l_start" else states[ended], event) for event in EVENTS]
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def life_lines(table: pd.DataFrame) -> go.Figure:
    """The table of `attention_around_life` as two panels of lines."""
    panels = {
        event: (f"{TITLE}<br>{words}", "log")
        for event, words in EVENTS.items()
        if (table["panel"] == event).any()
    }
    return interval_lines(table, panels, "layer relative to creation or end", height=180)


def life_of_sink(
    trace: pd.DataFrame | Results, sinks: pd.DataFrame | Results, text_id: str, pos: int
) -> pd.DataFrame:
    """Attention and norm by layer of the sink at `pos`, and of the primary of its text.

    `panel` is mass (attention drawn in the block that reads the state at layer `x`) or norm_ratio,
    `group` the kind of the sink.
    """
    trace, sinks = as_frame(trace), as_frame(sinks)
    own = sinks[
        (sinks["text_id"] == text_id) & ((sinks["pos"] == pos) | (sinks["kind"] == "primary"))
    ]
    kinds = dict(zip(own["pos"], own["kind"], strict=True))
    states = trace[(trace["text_id"] == text_id) & trace["pos"].isin(list(kinds))]
    states = states.sort_values(["pos", "layer"])
    states = states.assign(x=states["layer"], group=states["pos"].map(kinds))
    states["mass"] = states.groupby("pos")["mass"].shift(-1)
    parts = [states.assign(panel=name, value=states[name]) for name in LIFE]
    table = pd.concat(parts, ignore_index=True).dropna(subset="value")
    return table.assign(low=math.nan, high=math.nan)[["token", *COLUMNS[:-1]]]


def life_of_sink_lines(table: pd.DataFrame, l_start: int, words: str) -> go.Figure:
    """The table of `life_of_sink` as two panels, small enough for half a page.

    A dotted line with `words` above it marks the creation layer `l_start`.
    """
    figure = interval_lines(table, LIFE, "layer", height=105)
    late = 2 * l_start > table["x"].max()
    figure.add_vline(x=l_start, line={"dash": "dot", "width": 1.5, "color": KINDS["secondary"]})
    figure.add_annotation(
        text=plain_label(words),
        showarrow=False,
        **{"x": l_start, "xanchor": "right" if late else "left"},
        **{"yref": "paper", "y": 1, "yanchor": "bottom"},
    )
    above(figure, LEGEND_AT, x=1, xanchor="right")
    figure.update_layout(height=figure.layout.height + 20, margin_t=48, margin_b=40)
    return figure.update_yaxes(tickformat=".0%", row=1, col=1)


def _quantiles(states: pd.DataFrame, event: str) -> pd.DataFrame:
    away = states["layer"] - states[event]
    near = states.assign(x=away)[(away.abs() <= REACH) & states["ratio"].notna()]
    grouped = near.groupby("x")["ratio"]
    rows = percentiles(grouped).set_axis(["low", "value", "high"], axis=1)
    return rows.assign(n_sinks=grouped.size(), panel=event, group="secondary").reset_index()
