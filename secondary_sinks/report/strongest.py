"""The strongest secondary sink of a run: its text, its life by layer, and its writer."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from secondary_sinks.plots import life_of_sink, life_of_sink_lines
from secondary_sinks.report.figures import Panel, panel
from secondary_sinks.report.strips import Strip, excerpt, in_layers
from secondary_sinks.report.words import format_number, percent, quoted
from secondary_sinks.types.lists import join_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Strongest:
    """One sink, for the head of the page."""

    panel: Panel
    strip: Strip


def strongest(
    trace: pd.DataFrame, sinks: pd.DataFrame, roles: pd.DataFrame | None
) -> Strongest | None:
    """The secondary sink that draws most attention at its peak; None without a secondary sink.

    Copies of a sink of an earlier text are left out: no MLP was ablated at them.
    """
    own = sinks[(sinks["kind"] == "secondary") & (sinks["copy_of"] == "")]
    secondary = own.sort_values("mass_max", ascending=False)
    if secondary.empty:
        return None
    sink = secondary.iloc[0]
    text_id, pos = str(sink["text_id"]), int(sink["pos"])
    table, writers = life_of_sink(trace, sinks, text_id, pos), _writers(roles, text_id, pos)
    words = f"created at layer {sink['l_start']}" + (f" by {writers}" if writers else "")
    figure = life_of_sink_lines(table, int(sink["l_start"]), words)
    caption = f"{_about(sink)} of text {quoted(text_id)}: {_numbers(sink)}."
    primary = sinks[(sinks["text_id"] == text_id) & (sinks["kind"] == "primary")]
    if len(primary):
        caption += f" The primary, {_about(primary.iloc[0])}: {_numbers(primary.iloc[0])}."
    caption += " Attention at layer l is that in block l + 1."
    if roles is not None:
        caption += f" Writer: {writers or 'none found'}."
    title = "Life of the strongest distinct secondary sink"
    return Strongest(
        panel=panel("life", title, figure, table, caption),
        strip=excerpt(trace, sinks, text_id, pos),
    )


def _writers(roles: pd.DataFrame | None, text_id: str, pos: int) -> str:
    """The MLPs that write this sink, in words; empty if none is known."""
    if roles is None:
        return ""
    own = roles[(roles["text_id"] == text_id) & (roles["pos"] == pos)]
    layers = own.loc[own["role"] == "writer", "layer"].tolist()
    return f"MLP{'s' * (len(layers) > 1)} {join_words([*map(str, layers)])}" if layers else ""


def _about(sink: "pd.Series[Any]") -> str:
    return f"{quoted(str(sink['token']))} at position {sink['pos']}"


def _numbers(sink: "pd.Series[Any]") -> str:
    return (
        f"{in_layers(str(sink['segments']))}, up to {percent(sink['mass_max'])} of the attention "
        f"and {format_number(sink['norm_ratio_max'])} times the median norm"
    )
