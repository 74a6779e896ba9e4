"""Hooked model + tokens -> `Trace`, in one streaming pass that reduces inside the hooks.

Or the cache of a plain run -> the same `Trace`.
"""

from secondary_sinks.observation.activations import activations
from secondary_sinks.observation.caches import from_cache
from secondary_sinks.observation.kept import KeptPass
from secondary_sinks.observation.record import LayerRecord
from secondary_sinks.observation.stream import observe
from secondary_sinks.observation.walk import LayerView, walk

__all__ = ["KeptPass", "LayerRecord", "LayerView", "activations", "from_cache", "observe", "walk"]
