"""The circuit of a sink: what triggers it, what writes it, who reads it, what it is for.

Each part takes (model, traces, sinks) and gives a `Part`: edges, one per sink and cause or effect,
and verdicts over texts.
"""

from secondary_sinks.circuit.cuts import Cut, CutLosses, run_cuts
from secondary_sinks.circuit.edges import Edge, Part, by_level, edges_frame
from secondary_sinks.circuit.eviction import eviction, eviction_cost
from secondary_sinks.circuit.function import function, function_cost
from secondary_sinks.circuit.readers import reader_cost, reader_heads

__all__ = [
    "Cut",
    "CutLosses",
    "Edge",
    "Part",
    "by_level",
    "edges_frame",
    "eviction",
    "eviction_cost",
    "function",
    "function_cost",
    "reader_cost",
    "reader_heads",
    "run_cuts",
]
