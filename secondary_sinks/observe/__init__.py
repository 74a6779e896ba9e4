"""Hooked model + tokens -> `Trace`, in one streaming pass that reduces inside the hooks."""

from secondary_sinks.observe.stream import observe
from secondary_sinks.observe.walk import LayerView, walk

__all__ = ["LayerView", "observe", "walk"]
