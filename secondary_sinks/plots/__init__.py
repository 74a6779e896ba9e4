"""Tidy data frame -> plotly `Figure`. Nothing here shows, saves or measures."""

from secondary_sinks.plots.ablation import ablation_heatmap
from secondary_sinks.plots.bars import count_bars, layer_effect_bars
from secondary_sinks.plots.circuit import circuit_graph
from secondary_sinks.plots.dots import interval_dots
from secondary_sinks.plots.draw import draw
from secondary_sinks.plots.labels import message_figure
from secondary_sinks.plots.levels import level_heatmap, level_heatmaps
from secondary_sinks.plots.lines import Look, interval_lines
from secondary_sinks.plots.lives import (
    attention_around_life,
    life_lines,
    life_of_sink,
    life_of_sink_lines,
)
from secondary_sinks.plots.patches import patch_heatmap, patch_table
from secondary_sinks.plots.plot import plot
from secondary_sinks.plots.profiles import layer_profiles, profile_table
from secondary_sinks.plots.scatter import scatter_panels
from secondary_sinks.plots.verdicts import verdict_dots, verdict_table

__all__ = [
    "Look",
    "ablation_heatmap",
    "attention_around_life",
    "circuit_graph",
    "count_bars",
    "draw",
    "interval_dots",
    "interval_lines",
    "layer_effect_bars",
    "layer_profiles",
    "level_heatmap",
    "level_heatmaps",
    "life_lines",
    "life_of_sink",
    "life_of_sink_lines",
    "message_figure",
    "patch_heatmap",
    "patch_table",
    "plot",
    "profile_table",
    "scatter_panels",
    "verdict_dots",
    "verdict_table",
]
