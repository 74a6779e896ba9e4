"""Frozen results that other rooms exchange.

Layers are 0-based and "at layer l" means `resid_post` of block l, the state that block l wrote.
The attention of block l + 1 is the first to read it, so the mass that a sink draws at layer l
is `mass[l + 1]`. Tensors are on the CPU in float32; missing is NaN.
"""

from secondary_sinks.types.circuits import SinkCircuit
from secondary_sinks.types.controls import Control, match_controls
from secondary_sinks.types.edit_kinds import EDIT_KINDS, EditKind, Given
from secondary_sinks.types.edit_sites import SITES, Site
from secondary_sinks.types.edits import Cell, Edit, as_cell, as_cells, dump_cells, load_cells
from secondary_sinks.types.effects import (
    SHARE_UNIT,
    Effect,
    Effects,
    LayerEffect,
    Verdict,
    mass_lost,
)
from secondary_sinks.types.formation import Formation, FormationEvent, MlpAnatomy, MlpStage
from secondary_sinks.types.levels import FREQUENT, Level, LevelCell, Levels
from secondary_sinks.types.lists import join_words, refuse_twice, split_words
from secondary_sinks.types.metric_sweep import MetricSweep
from secondary_sinks.types.rules import Rule
from secondary_sinks.types.sinks import (
    LASTING,
    Sink,
    SinkTable,
    censoring,
    format_layers,
    parse_layers,
)
from secondary_sinks.types.thresholds import Thresholds
from secondary_sinks.types.trace import LAYER_POS, Trace, as_traces, read_by_next
from secondary_sinks.types.weakening import (
    Weakening,
    WeakeningChange,
    WeakeningContrast,
    WeakeningPoint,
)

__all__ = [
    "EDIT_KINDS",
    "FREQUENT",
    "LASTING",
    "LAYER_POS",
    "SHARE_UNIT",
    "SITES",
    "Cell",
    "Control",
    "Edit",
    "EditKind",
    "Effect",
    "Effects",
    "Formation",
    "FormationEvent",
    "Given",
    "LayerEffect",
    "Level",
    "LevelCell",
    "Levels",
    "MetricSweep",
    "MlpAnatomy",
    "MlpStage",
    "Rule",
    "Sink",
    "SinkCircuit",
    "SinkTable",
    "Site",
    "Thresholds",
    "Trace",
    "Verdict",
    "Weakening",
    "WeakeningChange",
    "WeakeningContrast",
    "WeakeningPoint",
    "as_cell",
    "as_cells",
    "as_traces",
    "censoring",
    "dump_cells",
    "format_layers",
    "join_words",
    "load_cells",
    "mass_lost",
    "match_controls",
    "parse_layers",
    "read_by_next",
    "refuse_twice",
    "split_words",
]
