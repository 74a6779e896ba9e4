"""Attribution: which components of a model write a sink, and which remove it."""

from secondary_sinks.attribution.anatomy import mlp_anatomy
from secondary_sinks.attribution.formation import formation

__all__ = ["formation", "mlp_anatomy"]
