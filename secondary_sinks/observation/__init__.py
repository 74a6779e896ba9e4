"""Hooked model + tokens -> `Trace`, in one streaming pass that reduces inside the hooks.

Or the cache of a plain run -> the same `Trace`.
"""

from secondary_sinks.observation.activations import activations
from secondary_sinks.observation.cached_pass import CachedPass
from secondary_sinks.observation.caches import trace_from_cache
from secondary_sinks.observation.layers import LayerView, iter_layers
from secondary_sinks.observation.observe import observe
from secondary_sinks.observation.record import LayerRecord

__all__ = [
    "CachedPass",
    "LayerRecord",
    "LayerView",
    "activations",
    "iter_layers",
    "observe",
    "trace_from_cache",
]
