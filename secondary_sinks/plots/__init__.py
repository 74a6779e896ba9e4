"""Tidy frame -> plotly `Figure`. Nothing here shows, saves or measures."""

from secondary_sinks.plots.ablation import ablation_heatmap
from secondary_sinks.plots.bars import layer_effect_bars
from secondary_sinks.plots.levels import level_heatmap
from secondary_sinks.plots.profiles import layer_profiles

__all__ = ["ablation_heatmap", "layer_effect_bars", "layer_profiles", "level_heatmap"]
