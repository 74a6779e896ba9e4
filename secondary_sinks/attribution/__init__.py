"""Hooked model + `Trace` + sinks -> which parts of the model write a sink, and which end it."""

from secondary_sinks.attribution.anatomy import GATED_STAGES, PLAIN_STAGES, mlp_anatomy
from secondary_sinks.attribution.formation import formation

__all__ = [
    "GATED_STAGES",
    "PLAIN_STAGES",
    "formation",
    "mlp_anatomy",
]
