"""The frozen results that walk between rooms.

Layers are 0-based and "at layer l" means `resid_post` of block l, the state that block l wrote.
That state is first read by the attention of block l + 1: the mass that a sink draws at layer l
is therefore `mass[l + 1]`. Tensors are on the CPU in float32; missing is NaN.
"""

from secondary_sinks.types.edits import Cell, Edit, as_cell, dump_cells, load_cells
from secondary_sinks.types.effects import Effect, Effects, LayerEffect, Verdict
from secondary_sinks.types.formation import Formation, FormationEvent, MlpAnatomy, MlpStage
from secondary_sinks.types.levels import Level, LevelCell, Levels
from secondary_sinks.types.sinks import (
    LASTING,
    Sink,
    SinkTable,
    censoring,
    format_layers,
    parse_layers,
)
from secondary_sinks.types.thresholds import Thresholds
from secondary_sinks.types.trace import LAYER_POS, Trace, read_by_next
from secondary_sinks.types.weakening import (
    Weakening,
    WeakeningChange,
    WeakeningContrast,
    WeakeningPoint,
)

__all__ = [
    "LASTING",
    "LAYER_POS",
    "Cell",
    "Edit",
    "Effect",
    "Effects",
    "Formation",
    "FormationEvent",
    "LayerEffect",
    "Level",
    "LevelCell",
    "Levels",
    "MlpAnatomy",
    "MlpStage",
    "Sink",
    "SinkTable",
    "Thresholds",
    "Trace",
    "Verdict",
    "Weakening",
    "WeakeningChange",
    "WeakeningContrast",
    "WeakeningPoint",
    "as_cell",
    "censoring",
    "dump_cells",
    "format_layers",
    "load_cells",
    "parse_layers",
    "read_by_next",
]
