"""Measures by layer, for sinks and ordinary tokens."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from secondary_sinks.display import Results, as_frame
from secondary_sinks.plots.labels import token_label
from secondary_sinks.plots.theme import (
    KINDS,
    NAMES,
    above,
    band,
    finish,
    layer_axis,
    percentiles,
    rgba,
)

PANELS = {
    "norm_ratio": ("norm ÷<br>text median", "log"),
    "alignment_centred": ("centred cosine<br>with primary", "linear"),
    "mass": ("attention mass<br>in block", "log"),
}
"""By measure: title and scale."""
FEW = 30
"""Up to this number, sinks of a kind are drawn one by one; more are drawn as a band."""


def layer_profiles(
    trace: pd.DataFrame | Results,
    sinks: pd.DataFrame | Results,
    panels: Mapping[str, tuple[str, str]] = PANELS,
) -> go.Figure:
    """Panels over layers: by default norm ratio (log), centred alignment, attention mass (log).

    `panels` maps columns of the trace to the title and scale (linear or log) of their panel. Each
    kind of token has a median line. Ordinary tokens, and kinds with many sinks, have a 10-90 % band
    around it; few sinks are drawn as thin lines. All texts are pooled. Mass at layer l is that in
    block l, which reads the state of block l - 1.
    """
    trace, sinks = as_frame(trace), as_frame(sinks)
    figure = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.045)
    grouped = _with_group(trace, sinks)
    for group in [kind for kind in reversed(KINDS) if (grouped["group"] == kind).any()]:
        cells = grouped[grouped["group"] == group]
        for row, name in enumerate(panels, start=1):
            lines = _lines(cells, group, name, legend=row == 1)
            figure.add_traces(lines, rows=row, cols=1)
    for row, (title, scale) in enumerate(panels.values(), start=1):
        ticks = {"dtick": 1, "tickformat": "~g"} if scale == "log" else {}
        figure.update_yaxes(title_text=title, type=scale, **ticks, row=row, col=1)
    figure.update_xaxes(layer_axis(int(trace["layer"].max()) + 1))
    figure.update_xaxes(title_text="layer", row=len(panels), col=1)
    return finish(above(figure, 1.01, traceorder="reversed"), height=80 + 140 * len(panels))


def profile_table(trace: pd.DataFrame | Results, sinks: pd.DataFrame | Results) -> pd.DataFrame:
    """The data of `layer_profiles`: percentiles by kind of token, measure and layer."""
    grouped = _with_group(as_frame(trace), as_frame(sinks))
    tokens = grouped.drop_duplicates(["text_id", "pos"])["group"].value_counts()
    parts = [
        percentiles(grouped.groupby(["group", "layer"])[name])
        .set_axis(["p10", "median", "p90"], axis=1)
        .reset_index()
        .assign(measure=name)
        for name in PANELS
    ]
    table = pd.concat(parts, ignore_index=True)
    table["n_tokens"] = table["group"].map(tokens)
    return table[["group", "measure", "layer", "p10", "median", "p90", "n_tokens"]]


def _with_group(trace: pd.DataFrame, sinks: pd.DataFrame) -> pd.DataFrame:
    """The trace with a column `group`: the kind of sink, or ordinary."""
    if sinks.empty:
        return trace.assign(group="ordinary")
    kinds = sinks[["text_id", "pos", "kind"]].rename(columns={"kind": "group"})
    merged = trace.merge(kinds, on=["text_id", "pos"], how="left")
    return merged.assign(group=merged["group"].fillna("ordinary"))


def _lines(cells: pd.DataFrame, group: str, name: str, legend: bool) -> list[go.Scatter]:
    """Band or thin lines, then the median on top."""
    table = percentiles(cells.groupby("layer")[name])
    n_tokens = len(cells[["text_id", "pos"]].drop_duplicates())
    median = _median(table, group, n_tokens, legend)
    if n_tokens == 1:
        return [median]
    if group != "ordinary" and n_tokens <= FEW:
        return [_each(cells, group, name), median]
    x, fill = table.index.to_numpy(), rgba(KINDS[group], 0.22)
    return [*band(x, table[0.1], table[0.9], fill, group), median]


def _median(table: pd.DataFrame, group: str, n_tokens: int, legend: bool) -> go.Scatter:
    label = NAMES.get(group, group)
    return go.Scatter(
        x=table.index.to_numpy(),
        y=table[0.5].to_numpy(),
        customdata=table[[0.1, 0.9]].to_numpy(),
        mode="lines",
        line={"color": KINDS[group], "width": 1.5 if group == "ordinary" else 2.5},
        name=f"{label} ({n_tokens:,})",
        legendgroup=group,
        showlegend=legend,
        hovertemplate=f"layer %{{x}}<br>{label}: median %{{y:.3g}}<br>"
        "10-90 %: %{customdata[0]:.3g} to %{customdata[1]:.3g}<extra></extra>",
    )


def _each(cells: pd.DataFrame, group: str, name: str) -> go.Scatter:
    """One thin line per sink, as one trace with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    labels: list[str] = []
    for (text_id, pos), sink in cells.groupby(["text_id", "pos"]):
        label = f"{token_label(sink['token'].iloc[0])} at {pos} in {token_label(str(text_id))}"
        x += [*sink["layer"].tolist(), None]
        y += [*sink[name].tolist(), None]
        labels += [label] * (len(sink) + 1)
    return go.Scatter(
        x=x,
        y=y,
        customdata=labels,
        mode="lines",
        line={"color": rgba(KINDS[group], 0.35), "width": 1},
        legendgroup=group,
        showlegend=False,
        hovertemplate="%{customdata}<br>layer %{x}: %{y:.3g}<extra></extra>",
    )
