"""Hooked model + tokens -> `Trace`, in one streaming pass that reduces inside the hooks."""

from secondary_sinks.observation.stream import observe
from secondary_sinks.observation.walk import LayerView, walk

__all__ = ["LayerView", "observe", "walk"]
