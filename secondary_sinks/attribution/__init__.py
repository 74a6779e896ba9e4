"""Attribution: which components of a model write a sink, and which remove it."""

from secondary_sinks.attribution.anatomy import GATED_STAGES, PLAIN_STAGES, mlp_anatomy
from secondary_sinks.attribution.formation import formation

__all__ = [
    "GATED_STAGES",
    "PLAIN_STAGES",
    "formation",
    "mlp_anatomy",
]
