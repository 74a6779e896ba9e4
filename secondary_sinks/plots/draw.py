"""`draw`: a figure by the name of its plot."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from secondary_sinks.plots.dots import interval_dots
from secondary_sinks.plots.lines import interval_lines
from secondary_sinks.plots.patches import patch_heatmap, patch_table


def draw(plot: str, frame: pd.DataFrame, **options: Any) -> tuple[go.Figure, pd.DataFrame]:
    """A figure and the table that it shows.

    `plot` is lines, dots or patches; `options` are further arguments of `interval_lines` or
    `interval_dots`, or `sinks`, `patch` and `n_layers` of a map of patches (`patch_table`).
    """
    return PLOTS[plot](frame, **options)


def _lines(frame: pd.DataFrame, **options: Any) -> tuple[go.Figure, pd.DataFrame]:
    return interval_lines(frame, **options), frame


def _dots(frame: pd.DataFrame, **options: Any) -> tuple[go.Figure, pd.DataFrame]:
    return interval_dots(frame, **options), frame


def _patches(
    frame: pd.DataFrame, *, sinks: pd.DataFrame, patch: str, n_layers: int
) -> tuple[go.Figure, pd.DataFrame]:
    table = patch_table(frame, sinks, patch)
    return go.Figure() if table.empty else patch_heatmap(table, patch, n_layers), table


PLOTS = {"lines": _lines, "dots": _dots, "patches": _patches}
