"""Models whose sinks are known because they were planted: ground truth for your own tests.

from secondary_sinks.testing import Plant, plant

planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
trace = observe(planted.model, planted.tokens)
planted.expected_sinks()  # what detect(trace) must find, and who writes it
"""

from secondary_sinks.testing.plant_spec import ExpectedSink, Plant, Writer
from secondary_sinks.testing.planted import PlantedModel, plant

__all__ = ["ExpectedSink", "Plant", "PlantedModel", "Writer", "plant"]
