"""Small models with known sinks, as ground truth for tests.

    from secondary_sinks.testing import Plant, plant

    planted = plant([Plant(pos=0, forming=(1,), strength=400.0), Plant(pos=20, forming=(3,))])
    trace = observe(planted.model, planted.tokens)
    planted.expected_sinks()  # what detect(trace) must find, and which components write it

`secondary_sinks.testing.families` makes tiny models with random weights of every supported
architecture, for tests of your own measures and edits.
"""

from secondary_sinks.testing.plant_spec import ExpectedSink, Plant, Writer
from secondary_sinks.testing.planted import PlantedModel, plant

__all__ = ["ExpectedSink", "Plant", "PlantedModel", "Writer", "plant"]
