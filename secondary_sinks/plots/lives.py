"""Attention that sinks draw before their creation and after their end."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.display import Results, as_frame
from secondary_sinks.plots.lines import interval_lines

REACH = 8
"""Layers before and after that are shown."""
EVENTS = {"l_start": "relative to creation", "l_end": "relative to the last layer as a sink"}
TITLE = "attention ÷ expected"
COLUMNS = ("panel", "group", "x", "value", "low", "high", "n_sinks")


def attention_around_life(
    trace: pd.DataFrame | Results, sinks: pd.DataFrame | Results
) -> pd.DataFrame:
    """Attention that secondary sinks draw, by layer from their creation and from their end.

    In multiples of what a key at that place is expected to draw (the even share, or the median of
    its neighbours if that is more), in the block that reads the state: medians over sinks, with
    the 10th and the 90th percentile. `panel` is l_start (x = 0: the creation layer) or l_end (x =
    0: the last layer as a sink; sinks whose end is hidden are not in it). A sink that draws as
    much at x = -1 as at x = 0, or after its end as before, owes that attention to nothing that the
    criterion calls a sink.
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
    return interval_lines(table, panels, "layer relative to creation or end", height=230)


def _quantiles(states: pd.DataFrame, event: str) -> pd.DataFrame:
    away = states["layer"] - states[event]
    near = states.assign(x=away)[(away.abs() <= REACH) & states["ratio"].notna()]
    grouped = near.groupby("x")["ratio"]
    rows = grouped.quantile(np.array([0.1, 0.5, 0.9])).unstack()
    rows = rows.reindex(columns=[0.1, 0.5, 0.9]).set_axis(["low", "value", "high"], axis=1)
    return rows.assign(n_sinks=grouped.size(), panel=event, group="secondary").reset_index()
