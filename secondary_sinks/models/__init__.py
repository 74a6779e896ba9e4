"""Load models: a name, folder, file or object -> a hooked model, proven equal to its original."""

from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.models.identity import architecture, class_name, published_as, weight_hash
from secondary_sinks.models.load import load_model

__all__ = [
    "HookedModel",
    "architecture",
    "class_name",
    "load_model",
    "published_as",
    "weight_hash",
]
