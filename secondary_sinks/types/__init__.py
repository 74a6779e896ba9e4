"""The frozen results that walk between rooms.

Layers are 0-based and "at layer l" means `resid_post` of block l, the state that block l wrote.
That state is first read by the attention of block l + 1: the mass that a sink draws at layer l
is therefore `mass[l + 1]`. Tensors are on the CPU in float32; missing is NaN.
"""

from secondary_sinks.types.effects import Edit, Effect, Effects, LayerEffect, Verdict
from secondary_sinks.types.formation import Formation, FormationEvent, MlpAnatomy, MlpStage
from secondary_sinks.types.sinks import Sink, SinkTable, format_layers
from secondary_sinks.types.thresholds import Thresholds
from secondary_sinks.types.trace import LAYER_POS, Trace, read_by_next

__all__ = [
    "LAYER_POS",
    "Edit",
    "Effect",
    "Effects",
    "Formation",
    "FormationEvent",
    "LayerEffect",
    "MlpAnatomy",
    "MlpStage",
    "Sink",
    "SinkTable",
    "Thresholds",
    "Trace",
    "Verdict",
    "format_layers",
    "read_by_next",
]
