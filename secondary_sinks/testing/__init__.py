"""Models whose sinks are known because they were planted: ground truth for your own tests.

from secondary_sinks.testing import Plant, plant

planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
trace = observe(planted.model, planted.tokens)
"""

from secondary_sinks.models.planted import Plant, PlantedModel, plant, sink_direction

__all__ = ["Plant", "PlantedModel", "plant", "sink_direction"]
