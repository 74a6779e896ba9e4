"""Hooked model + `Trace` + sinks -> which parts of the model write a sink, and which end it."""

from secondary_sinks.attribution.anatomy import mlp_anatomy
from secondary_sinks.attribution.formation import formation

__all__ = ["formation", "mlp_anatomy"]
