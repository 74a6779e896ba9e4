"""Name, folder or file -> a hooked model, proven equal to its original.

The only room that imports transformer_lens.
"""

from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.models.identity import architecture, class_name, weight_hash
from secondary_sinks.models.load import load_model

__all__ = ["HookedModel", "architecture", "class_name", "load_model", "weight_hash"]
