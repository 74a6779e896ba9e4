"""The figures of the page, with what each says."""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup

from secondary_sinks.errors import SinkError
from secondary_sinks.plots import ablation_heatmap, layer_effect_bars, layer_profiles
from secondary_sinks.report.embed import json_of
from secondary_sinks.report.tested import EDITS
from secondary_sinks.types import LayerEffect


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A figure, its caption, and its place on the page."""

    name: str
    caption: str
    height: int
    data: Markup


def profiles(trace: pd.DataFrame, sinks: pd.DataFrame) -> Panel:
    """Norm, alignment and mass by layer."""
    caption = (
        "Residual norm, centred alignment with the primary, and attention mass by layer, over all "
        "texts. Lines are medians; bands run from the 10th to the 90th percentile; thin lines are "
        "single sinks. A state at layer l is read by block l + 1, so mass follows one layer later."
    )
    return _panel("profiles", layer_profiles(trace, sinks), caption)


def ablations(effects: pd.DataFrame, record: dict[str, Any]) -> list[Panel]:
    """Bars by layer, then maps of sinks and controls; only those that have something to show."""
    edit = EDITS.get(record["edit"], record["edit"])
    panels = [_bars(edit, record), *(_map(effects, role) for role in _MAPS)]
    return [panel for panel in panels if panel is not None]


_MAPS = {
    "sink": "Each row is a sink, strongest first; each column is the layer whose MLP was edited at "
    "that sink alone. Colour is the share of the sink's attention mass that is lost, clipped to "
    "±100%.",
    "control": "The same edit at the sinks' controls, in the same order of sinks. Colour is lost "
    "mass in units of the matched sink's clean mass, so that a colour stands for the same "
    "amount of attention at a sink and at its control.",
}


def _map(effects: pd.DataFrame, role: str) -> Panel | None:
    try:
        figure = ablation_heatmap(effects, role)
    except SinkError:  # nothing to draw
        return None
    return _panel(f"{role}s", figure, _MAPS[role])


def _bars(edit: str, record: dict[str, Any]) -> Panel | None:
    recorded = [LayerEffect(**row) for row in record["layer_effects"]]
    rows = [row for row in recorded if not math.isnan(row.lost)]
    if not rows:
        return None
    caption = (
        f"Share of their attention mass that secondary sinks lose, less the share that their "
        f"controls lose, when the output of one layer's MLP is {edit} at the token alone. "
        f"{rows[0].n_sinks} sinks with controls in {rows[0].n_texts} texts. "
    )
    if math.isnan(rows[0].low):
        caption += "One text gives no interval. "
    else:
        caption += "Whiskers: jackknife over texts, at 95% for all layers together. "
    caption += "Above the dotted line a layer takes more than half."
    return _panel("bars", layer_effect_bars(rows), caption)


def _panel(name: str, figure: go.Figure, caption: str) -> Panel:
    return Panel(name=name, caption=caption, height=int(figure.layout.height), data=json_of(figure))
