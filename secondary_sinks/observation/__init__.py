"""Measure a text: hooked model and tokens -> `Trace`, in one streaming pass.

Attention patterns are reduced inside the hooks. `trace_from_cache` makes the same `Trace` from the
cache of an ordinary run.
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
