"""The circuit of a sink: what triggers it, what writes it, who reads it, what it is for.

Each part is a question of the table: its answer has one row per edge (`Edge`) in `cells`, their
means by level (`by_level`) in `effects`, and verdicts over texts.
"""

from secondary_sinks.questions.circuit.circuit import (
    CIRCUIT,
    WITH_EDGES,
    Circuit,
    circuit,
    circuits_of_levels,
    join_edges,
)
from secondary_sinks.questions.circuit.cuts import Cut, CutLosses, run_cuts
from secondary_sinks.questions.circuit.edges import Edge, by_level, edges_frame
from secondary_sinks.questions.circuit.eviction import EVICTION, eviction
from secondary_sinks.questions.circuit.function import FUNCTION, function
from secondary_sinks.questions.circuit.readers import READER_HEADS, reader_heads
from secondary_sinks.questions.circuit.trigger import TRIGGER, trigger
from secondary_sinks.questions.circuit.writer import WRITER, writer

__all__ = [
    "CIRCUIT",
    "EVICTION",
    "FUNCTION",
    "READER_HEADS",
    "TRIGGER",
    "WITH_EDGES",
    "WRITER",
    "Circuit",
    "Cut",
    "CutLosses",
    "Edge",
    "by_level",
    "circuit",
    "circuits_of_levels",
    "edges_frame",
    "eviction",
    "function",
    "join_edges",
    "reader_heads",
    "run_cuts",
    "trigger",
    "writer",
]
