"""Which classes of models the installed TransformerLens has."""

import pytest

from secondary_sinks.testing.conformance import model_classes

OLD = "HookedTransformer" in model_classes()
needs_old = pytest.mark.skipif(not OLD, reason="TransformerLens 4 has no HookedTransformer")
